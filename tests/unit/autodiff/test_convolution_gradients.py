"""Convolutions and transposed convolutions in one, two and three dimensions against PyTorch, over drawn geometries."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ravop.autodiff import grad
from ravop.ops.catalogue import node

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def padded(x, before, after):
    """`x` with its spatial axes padded, as PyTorch's `F.pad` wants them: the last axis first."""
    return F.pad(x, [n for pair in zip(before[::-1], after[::-1], strict=True) for n in pair])


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_conv_with_padding_of_its_own_at_each_side(check_torch, data):
    draw = lambda *options: data.draw(st.sampled_from(options))  # noqa: E731
    rank, group = draw(1, 2, 2, 3), draw(1, 2, 3)
    channels, filters = group * draw(1, 2), group * draw(1, 2)
    kernel, strides, dilations = (tuple(draw(1, 2, 3) for _ in range(rank)) for _ in range(3))
    before, after = (tuple(draw(0, 1, 2) for _ in range(rank)) for _ in range(2))
    size = tuple(draw(7, 8) for _ in range(rank))
    check_torch(
        lambda x, w: node("Conv", [x, w], strides=strides, dilations=dilations, pads=before + after, group=group),
        lambda x, w: CONV[rank](padded(x, before, after), w, None, strides, 0, dilations, group),
        values(2, channels, *size), values(filters, channels // group, *kernel, seed=1), rtol=1e-3, atol=1e-4,
    )  # fmt: skip


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_transposed_conv(check_torch, data):
    draw = lambda *options: data.draw(st.sampled_from(options))  # noqa: E731
    rank, group = draw(1, 2, 2, 3), draw(1, 2)
    kernel, strides, dilations = (tuple(draw(1, 2, 3) for _ in range(rank)) for _ in range(3))
    pads = tuple(draw(*range(min(2, (k - 1) * d + 1))) for k, d in zip(kernel, dilations, strict=True))
    extra = tuple(draw(*range(s)) for s in strides)

    def ours(x, w):
        return node(
            "ConvTranspose", [x, w], strides=strides, dilations=dilations, pads=pads * 2, output_padding=extra, group=group
        )  # fmt: skip

    check_torch(
        ours, lambda x, w: TRANSPOSED[rank](x, w, None, strides, pads, extra, group, dilations),
        values(2, 2 * group, *(4,) * rank), values(2 * group, 2, *kernel, seed=1), rtol=1e-3, atol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "cut"),
    [({"output_shape": [9, 8]}, ((0, 0), (0, 1))), ({"auto_pad": "SAME_UPPER"}, ((0, 1), (0, 1))),
     ({"auto_pad": "SAME_LOWER"}, ((1, 0), (1, 0))), ({"auto_pad": "VALID"}, ((0, 0), (0, 0)))],
    ids=str,
)  # fmt: skip
def test_transposed_conv_whose_output_is_told(check_torch, attributes, cut):
    """PyTorch's whole result, with as much cut off at each side as ONNX pads."""
    if "output_shape" in attributes:
        cut = ((0, 0), (1, 0))

    def theirs(x, w):
        whole = F.conv_transpose2d(x, w, stride=2)
        (top, bottom), (left, right) = cut
        return whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]

    check_torch(
        lambda x, w: node("ConvTranspose", [x, w], strides=[2, 2], **attributes), theirs, values(2, 3, 4, 4),
        values(3, 2, 3, 3, seed=1),
    )  # fmt: skip


@pytest.mark.parametrize("group", [1, 4])
def test_second_derivatives_against_pytorch(check_torch, group):
    weights = values(4, 4 // group, 3, 3, seed=1)

    def ours(x, w):
        y = node("Conv", [x, w], strides=[2, 2], pads=[1] * 4, group=group)
        by_x, by_w = grad((y * y).sum(), [x, w])
        return (by_x * by_x).sum() + (by_w * by_w).sum()

    def theirs(x, w):
        y = F.conv2d(x, w, stride=2, padding=1, groups=group)
        by_x, by_w = torch.autograd.grad((y * y).sum(), [x, w], create_graph=True)
        return (by_x * by_x).sum() + (by_w * by_w).sum()

    check_torch(ours, theirs, values(2, 4, 5, 5) * 0.3, weights * 0.3, rtol=1e-3, atol=1e-3)
