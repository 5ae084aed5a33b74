"""Cases of layers that slide a window over series, images and volumes, pad, cut or enlarge them.

PyTorch has channels first also for series: `series` brings them there and back.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from layer_cases import Case, Torch, one

from ravdl.neural_networks.layers import (
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    Cropping1D,
    Cropping2D,
    Cropping3D,
    DepthwiseConv1D,
    DepthwiseConv2D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
    SeparableConv1D,
    SeparableConv2D,
    UpSampling1D,
    UpSampling2D,
    UpSampling3D,
    ZeroPadding1D,
    ZeroPadding2D,
    ZeroPadding3D,
)

CONV = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
CONV_TRANSPOSE = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}
MAX_POOL = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}
AVERAGE_POOL = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}


def series(twin: Torch) -> Torch:
    return lambda x, w, t: twin(x.transpose(1, 2), w, t).transpose(1, 2)


def convolved(pads: tuple[int, ...] = (0, 0), **kwargs: Any) -> Torch:
    """Pads are those of the last axis, before and after, then of the one before it, as PyTorch's."""
    return lambda x, w, t: CONV[x.ndim](F.pad(x, pads), w["W"], w.get("w0"), **kwargs)


def spread(cut: tuple[int, int] | None = None, **kwargs: Any) -> Torch:
    """With `cut`, (before, after) of all spatial axes taken away."""

    def twin(x: torch.Tensor, w: dict[str, torch.Tensor], t: bool) -> torch.Tensor:
        y = CONV_TRANSPOSE[x.ndim](x, w["W"], w.get("w0"), **kwargs)
        if cut is not None:
            y = y[(..., *[slice(cut[0], size - cut[1]) for size in y.shape[2:]])]
        return y

    return twin


def largest(pads: tuple[int, ...], size: Any, stride: Any) -> Torch:
    return lambda x, w, t: MAX_POOL[x.ndim](F.pad(x, pads, value=-math.inf), size, stride)


def averaged(size: Any, stride: Any, pads: tuple[int, ...] | None = None, **kwargs: Any) -> Torch:
    """With `pads`, the mean of what is not padding: a sum divided by how many elements there are."""

    def twin(x: torch.Tensor, w: dict[str, torch.Tensor], t: bool) -> torch.Tensor:
        pool = AVERAGE_POOL[x.ndim]
        if pads is None:
            return pool(x, size, stride, **kwargs)
        return pool(F.pad(x, pads), size, stride) / pool(F.pad(torch.ones_like(x), pads), size, stride)

    return twin


def separable(x: torch.Tensor, w: dict[str, torch.Tensor], t: bool) -> torch.Tensor:
    middle = F.conv2d(x, w["depthwise_W"], padding=1, groups=x.shape[1])
    return F.relu(F.conv2d(middle, w["pointwise_W"], w["w0"]))


IMAGE, VOLUME = (3, 6, 5), (2, 4, 3, 5)

CASES: dict[str, Case] = {
    "conv same": one(lambda: Conv2D(4, (3, 3)), IMAGE, (4, 6, 5), convolved(padding="same")),
    "conv same, even filter": one(lambda: Conv2D(4, (2, 4)), IMAGE, (4, 6, 5), convolved((1, 2, 0, 1))),
    "conv same, stride 2": one(
        lambda: Conv2D(4, 3, stride=2), IMAGE, (4, 3, 3), convolved((1, 1, 0, 1), stride=2)
    ),
    "conv same, dilated": one(
        lambda: Conv2D(4, 3, dilation=(2, 1), activation="relu"), IMAGE, (4, 6, 5),
        lambda x, w, t: F.relu(F.conv2d(x, w["W"], w["w0"], padding=(2, 1), dilation=(2, 1))),
    ),
    "conv valid": one(lambda: Conv2D(4, (2, 3), padding="valid"), IMAGE, (4, 5, 3), convolved()),
    "conv int padding, strides": one(
        lambda: Conv2D(4, 3, padding=1, stride=(1, 2)), IMAGE, (4, 6, 3), convolved(padding=1, stride=(1, 2))
    ),
    "conv sides": one(
        lambda: Conv2D(2, 3, padding=((0, 1), (2, 0)), use_bias=False), IMAGE, (2, 5, 5), convolved((2, 0, 0, 1))
    ),
    "conv groups": one(lambda: Conv2D(4, 3, padding=1, groups=2), (6, 4, 4), (4, 4, 4), convolved(padding=1, groups=2)),
    "conv 1d": one(lambda: Conv1D(4, 3), (7, 3), (7, 4), series(convolved(padding="same"))),
    "conv 1d causal": one(
        lambda: Conv1D(4, 3, padding="causal", dilation=2), (7, 3), (7, 4), series(convolved((4, 0), dilation=2))
    ),
    "conv 1d sides": one(
        lambda: Conv1D(4, 2, padding=(2, 1), stride=2), (7, 3), (5, 4), series(convolved((2, 1), stride=2))
    ),
    "conv 3d": one(lambda: Conv3D(3, 3, stride=(1, 1, 2)), VOLUME, (3, 4, 3, 3), convolved(padding=1, stride=(1, 1, 2))),
    "depthwise": one(lambda: DepthwiseConv2D(3), IMAGE, IMAGE, convolved(padding=1, groups=3)),
    "depthwise, multiplied": one(
        lambda: DepthwiseConv2D((3, 2), "valid", 2, depth_multiplier=2), IMAGE, (6, 2, 2), convolved(stride=2, groups=3)
    ),
    "depthwise 1d": one(
        lambda: DepthwiseConv1D(3, padding="causal"), (7, 3), (7, 3), series(convolved((2, 0), groups=3))
    ),
    "separable 1d": one(
        lambda: SeparableConv1D(4, 3, use_bias=False), (7, 3), (7, 4),
        series(lambda x, w, t: F.conv1d(F.conv1d(x, w["depthwise_W"], padding=1, groups=3), w["pointwise_W"])),
    ),
    "upsampling 3d": one(
        lambda: UpSampling3D((1, 2, 3)), VOLUME, (2, 4, 6, 15), lambda x, w, t: F.interpolate(x, scale_factor=(1, 2, 3))
    ),
    "separable": one(lambda: SeparableConv2D(4, 3, depth_multiplier=2, activation="relu"), IMAGE, (4, 6, 5), separable),
    "transposed same": one(
        lambda: Conv2DTranspose(4, 3, stride=2), IMAGE, (4, 12, 10), spread((0, 1), stride=2)
    ),
    "transposed same, stride beyond the filter": one(
        lambda: Conv2DTranspose(4, 2, stride=3), IMAGE, (4, 18, 15), spread(stride=3, output_padding=1)
    ),
    "transposed valid": one(
        lambda: Conv2DTranspose(4, (3, 2), "valid", dilation=2), IMAGE, (4, 10, 7), spread(dilation=2)
    ),
    "transposed with padding and groups": one(
        lambda: Conv2DTranspose(4, 3, 1, 2, groups=2, output_padding=1, use_bias=False), (6, 3, 4), (4, 6, 8),
        spread(stride=2, padding=1, output_padding=1, groups=2),
    ),
    "transposed 1d": one(
        lambda: Conv1DTranspose(4, 4, stride=2), (5, 3), (10, 4), series(spread(stride=2, padding=1))
    ),
    "transposed 3d": one(
        lambda: Conv3DTranspose(3, 2, stride=2), VOLUME, (3, 8, 6, 10), spread(stride=2)
    ),
    "max pool default": one(MaxPooling2D, (3, 4, 5), (3, 4, 5), largest((0, 1, 0, 1), 2, 1)),
    "max pool valid": one(lambda: MaxPooling2D(2, 2, "valid"), (3, 5, 4), (3, 2, 2), largest((0, 0), 2, 2)),
    "max pool same, stride 2": one(
        lambda: MaxPooling2D((3, 2), 2), (3, 5, 5), (3, 3, 3), largest((0, 1, 1, 1), (3, 2), 2)
    ),
    "max pool int padding": one(lambda: MaxPooling2D(3, 2, 1), (3, 5, 6), (3, 3, 3), largest((1, 1, 1, 1), 3, 2)),
    "max pool 1d": one(lambda: MaxPooling1D(2, None), (7, 3), (4, 3), series(largest((0, 1), 2, 2))),
    "max pool 3d": one(lambda: MaxPooling3D(2, None, "valid"), VOLUME, (2, 2, 1, 2), largest((0, 0), 2, 2)),
    "average pool": one(AveragePooling2D, IMAGE, IMAGE, averaged(2, 1, (0, 1, 0, 1))),
    "average pool, padding counted": one(
        lambda: AveragePooling2D(3, 2, 1, True), IMAGE, (3, 3, 3), averaged(3, 2, padding=1)
    ),
    "average pool 1d": one(lambda: AveragePooling1D(2, None, "valid"), (7, 3), (3, 3), series(averaged(2, 2))),
    "average pool 3d": one(lambda: AveragePooling3D(2, 1, "valid"), VOLUME, (2, 3, 2, 4), averaged(2, 1)),
    "global average 1d": one(GlobalAveragePooling1D, (7, 3), (3,), lambda x, w, t: x.mean(1)),
    "global average 2d": one(GlobalAveragePooling2D, IMAGE, (3,), lambda x, w, t: x.mean((2, 3))),
    "global average 3d": one(
        lambda: GlobalAveragePooling3D(True), VOLUME, (2, 1, 1, 1), lambda x, w, t: x.mean((2, 3, 4), keepdim=True)
    ),
    "global max 1d": one(lambda: GlobalMaxPooling1D(True), (7, 3), (1, 3), lambda x, w, t: x.amax(1, keepdim=True)),
    "global max 2d": one(GlobalMaxPooling2D, IMAGE, (3,), lambda x, w, t: x.amax((2, 3))),
    "global max 3d": one(GlobalMaxPooling3D, VOLUME, (2,), lambda x, w, t: x.amax((2, 3, 4))),
    "padding 1d": one(lambda: ZeroPadding1D((1, 2)), (5, 3), (8, 3), lambda x, w, t: F.pad(x, (0, 0, 1, 2))),
    "padding 2d": one(lambda: ZeroPadding2D((1, 2)), IMAGE, (3, 8, 9), lambda x, w, t: F.pad(x, (2, 2, 1, 1))),
    "padding 3d": one(ZeroPadding3D, VOLUME, (2, 6, 5, 7), lambda x, w, t: F.pad(x, (1,) * 6)),
    "cropping 1d": one(lambda: Cropping1D((1, 0)), (5, 3), (4, 3), lambda x, w, t: x[:, 1:]),
    "cropping 2d": one(
        lambda: Cropping2D(((1, 2), (0, 1))), IMAGE, (3, 3, 4), lambda x, w, t: x[:, :, 1:-2, :-1]
    ),
    "cropping 3d": one(Cropping3D, (2, 4, 3, 5), (2, 2, 1, 3), lambda x, w, t: x[:, :, 1:-1, 1:-1, 1:-1]),
    "upsampling 1d": one(lambda: UpSampling1D(3), (4, 2), (12, 2), lambda x, w, t: x.repeat_interleave(3, 1)),
    "upsampling 2d": one(
        lambda: UpSampling2D((2, 3)), IMAGE, (3, 12, 15), lambda x, w, t: F.interpolate(x, scale_factor=(2, 3))
    ),
    "upsampling bilinear": one(
        lambda: UpSampling2D(2, "bilinear"), IMAGE, (3, 12, 10),
        lambda x, w, t: F.interpolate(x, scale_factor=2, mode="bilinear"),
    ),
}  # fmt: skip
