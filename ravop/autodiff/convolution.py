"""Gradients of convolutions (N, C, spatial…), with strides, padding, dilations and groups."""

from __future__ import annotations

import math

import numpy as np

from ravop.autodiff.depthwise import depthwise_weight_gradient
from ravop.autodiff.rules import Grads, NodeView, permute, reduce_sum, reshape, rule
from ravop.autodiff.taps import joined, moved, padded
from ravop.autodiff.windows import Windows, windows_of
from ravop.graph.op import Op
from ravop.ops.catalogue import node


@rule("Conv")
def conv(n: NodeView, g: Op) -> Grads:
    x, weight = n.x, n.input(1)
    group = n.attribute("group", 1)
    windows = windows_of(n, weight.static_shape[2:], x.static_shape[2:], n.y.static_shape[2:])
    return [
        input_gradient(g, weight, windows, group) if n.wanted(0) else None,
        weight_gradient(x, g, windows, group) if n.wanted(1) else None,
        channel_sum(g) if n.wanted(2) else None,
    ]


@rule("ConvTranspose")
def conv_transpose(n: NodeView, g: Op) -> Grads:
    """A transposed convolution is the input gradient of one that goes from Y to X, so the roles are swapped."""
    x, weight = n.x, n.input(1)
    group = n.attribute("group", 1)
    windows = windows_of(n, weight.static_shape[2:], n.y.static_shape[2:], x.static_shape[2:])
    return [
        node("Conv", [g, weight], **_attributes(windows, group)) if n.wanted(0) else None,
        weight_gradient(g, x, windows, group) if n.wanted(1) else None,
        channel_sum(g) if n.wanted(2) else None,
    ]


def _attributes(windows: Windows, group: int) -> dict[str, object]:
    return {
        "kernel_shape": windows.kernel, "strides": windows.strides, "dilations": windows.dilations,
        "pads": windows.pads, "group": group,
    }  # fmt: skip


def channel_sum(g: Op) -> Op:
    """(N, C, …) summed over all axes but the channels': (C,)."""
    return reduce_sum(g, [0, *range(2, g.ndim)], keepdims=False)


def input_gradient(g: Op, weight: Op, windows: Windows, group: int) -> Op:
    """Each output's gradient spread over its window: a transposed convolution by the same weights.

    With stride 1 that is also a convolution by the turned weights, faster where the engine's scattering costs more than
    turning them: for kernels of one element, depthwise, and for images of few pixels.
    """
    depthwise = group == weight.static_shape[0] > 1
    pads = [
        d * (k - 1) - p
        for d, k, p in zip(windows.dilations * 2, windows.kernel * 2, windows.pads, strict=True)
    ]
    point, small = math.prod(windows.kernel) == 1, math.prod(windows.count) <= _FEW_PIXELS
    plain = (
        max(windows.strides) == 1
        and min(pads) >= 0
        and (group == 1 or (depthwise and weight.static_shape[1] == 1))
    )
    if plain and (point or depthwise or small):
        attributes = {**_attributes(windows, group), "pads": pads}
        return node("Conv", [g, _turned_weights(weight, group)], **attributes)
    return node("ConvTranspose", [g, weight], **_attributes(windows, group), output_padding=windows.leftover)


def _turned_weights(weight: Op, group: int) -> Op:
    """The kernels mirrored along all axes, and filters and channels exchanged (depthwise each has one)."""
    shape, taps = weight.static_shape, math.prod(weight.static_shape[2:])
    if taps > 1:  # as a product with a matrix, because copying single elements is what engines are slow at
        mirror = weight.graph.tensor(np.eye(taps, dtype=weight.dtype)[::-1], weight.dtype)
        weight = reshape(node("MatMul", [reshape(weight, (-1, taps)), mirror]), shape)
    return weight if group > 1 else permute(weight, [1, 0, *range(2, len(shape))])


_FEW_PIXELS = 16
"""Up to so many in an image, scattering what many channels give costs more than turning the weights."""


def weight_gradient(x: Op, g: Op, windows: Windows, group: int) -> Op:
    """For each tap of the kernel, the correlation of x, moved by that tap, with g.

    The ways to compute it differ by several times in speed, and the engine's own way for a plain convolution is not
    open to us. For images, x's moved copies are laid side by side and multiplied by g as matrices.
    """
    channels, filters = x.static_shape[1], g.static_shape[1]
    if group == channels == filters > 1:
        return depthwise_weight_gradient(x, g, windows)
    few = channels // group < _FEW_CHANNELS
    if group > 1 and few:
        return _by_convolution(x, g, windows, group)
    if group > 1:
        return _by_groups(x, g, windows, group)
    return (_by_planes if few or len(windows.kernel) == 1 else _by_rows)(x, g, windows)


_FEW_CHANNELS = 8
"""Below this, pixels with their channels are too short to be moved one by one, and planes are faster."""


def _by_rows(x: Op, g: Op, windows: Windows) -> Op:
    """Channels last: moved copies for the taps of a row side by side, then one product for each row of taps."""
    filters = g.static_shape[1]
    pixels = permute(x, [0, *range(2, x.ndim), 1])
    by_filter = reshape(permute(g, [1, 0, *range(2, g.ndim)]), (filters, -1))
    rows = [reshape(row, (-1, row.static_shape[-1])) for row in _rows_of_taps(pixels, 1, windows)]
    products = joined([node("Gemm", [by_filter, row]) for row in rows], axis=1)
    return _taps_last(reshape(products, (1, *products.static_shape)), windows)


def _by_groups(x: Op, g: Op, windows: Windows, group: int) -> Op:
    """As by rows, with a product for each image and group of channels, and the sum over the images."""
    (batch, channels, *size), filters = x.static_shape, g.static_shape[1]
    split = reshape(x, (batch, group, channels // group, *size))
    pixels = permute(split, [0, 1, *range(3, split.ndim), 2])
    by_filter = reshape(g, (batch, group, filters // group, math.prod(windows.count)))
    rows = [
        reshape(row, (batch, group, -1, row.static_shape[-1])) for row in _rows_of_taps(pixels, 2, windows)
    ]
    products = joined([node("MatMul", [by_filter, row]) for row in rows], axis=3)
    return _taps_last(reduce_sum(products, [0], keepdims=False), windows)


def _rows_of_taps(pixels: Op, first: int, windows: Windows) -> list[Op]:
    """For each row of the kernel, what its taps meet, side by side along the last axis; `first` is the first spatial axis."""
    rank = len(windows.kernel)
    pixels = padded(pixels, windows, first)
    last = first + rank - 1
    taps = [moved(pixels, last, tap, windows, rank - 1) for tap in range(windows.kernel[-1])]
    rows = [joined(taps, axis=last + 1)]
    for spatial in range(rank - 1):
        height = windows.kernel[spatial]
        rows = [moved(row, first + spatial, tap, windows, spatial) for row in rows for tap in range(height)]
    return rows


def _by_planes(x: Op, g: Op, windows: Windows) -> Op:
    """Channels first: all moved copies side by side, a product for each image, and the sum of the products."""
    (batch, filters), pixels = g.static_shape[:2], math.prod(windows.count)
    wide = padded(x, windows, 2)
    for spatial in reversed(range(len(windows.kernel))):
        taps = range(windows.kernel[spatial])
        wide = joined([moved(wide, 2 + spatial, tap, windows, spatial) for tap in taps], axis=1)
    columns = permute(reshape(wide, (batch, wide.static_shape[1], pixels)), [0, 2, 1])
    products = node("MatMul", [reshape(g, (batch, filters, pixels)), columns])
    return _taps_last(reduce_sum(products, [0], keepdims=True), windows)


def _taps_last(op: Op, windows: Windows) -> Op:
    """(group, filters of the group, taps and channels) as (filters, channels of the group, taps…)."""
    group, filters, _ = op.static_shape
    split = reshape(op, (group * filters, *windows.kernel, -1))
    return permute(split, [0, split.ndim - 1, *range(1, split.ndim - 1)])


def _by_convolution(x: Op, g: Op, windows: Windows, group: int) -> Op:
    """A convolution of x by g in which batch and channels change places, and strides and dilations too."""
    (batch, channels, *size), count = x.static_shape, g.static_shape[2:]
    split = reshape(x, (batch, group, channels // group, *size))
    swapped = permute(split, [2, 1, 0, *range(3, split.ndim)])
    images = padded(reshape(swapped, (channels // group, group * batch, *size)), windows, 2)
    kernel = permute(g, [1, 0, *range(2, g.ndim)])
    found = node(
        "Conv",
        [images, kernel],
        kernel_shape=count,
        strides=windows.dilations,
        dilations=windows.strides,
        group=group,
    )
    return permute(found, [1, 0, *range(2, found.ndim)])
