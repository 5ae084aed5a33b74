"""Gradients of convolutions (N, C, spatial…), with strides, padding, dilations and groups."""

from __future__ import annotations

import math

from ravop.autodiff.rules import Grads, NodeView, permute, reduce_sum, reshape, rule
from ravop.autodiff.shape import pad
from ravop.autodiff.windows import Windows, windows_of
from ravop.graph.op import Op
from ravop.ops.catalogue import integers, node


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
    """Each output's gradient spread over its window: a transposed convolution by the same weights."""
    return node("ConvTranspose", [g, weight], **_attributes(windows, group), output_padding=windows.leftover)


def weight_gradient(x: Op, g: Op, windows: Windows, group: int) -> Op:
    """For each tap of the kernel, the correlation of x, moved by that tap, with g.

    The ways to compute it differ by several times in speed, and the engine's own way for a plain convolution is not
    open to us. For images, x's moved copies are laid side by side and multiplied by g as matrices.
    """
    if group > 1 or len(windows.kernel) != 2:
        return _by_convolution(x, g, windows, group)
    return (_by_planes if x.static_shape[1] < _FEW_CHANNELS else _by_rows)(x, g, windows)


_FEW_CHANNELS = 8
"""Below this, pixels with their channels are too short to be moved one by one, and planes are faster."""


def _by_rows(x: Op, g: Op, windows: Windows) -> Op:
    """Channels last: moved copies for the taps of a row side by side, then one product for each row of taps."""
    filters = g.static_shape[1]
    pixels = pad(permute(x, [0, 2, 3, 1]), (0, *windows.before, 0), (0, *_after(windows), 0))
    wide = _concat([_moved(pixels, 2, tap, windows, 1) for tap in range(windows.kernel[1])], axis=3)
    by_filter = reshape(permute(g, [1, 0, 2, 3]), (filters, -1))
    products = [
        node("Gemm", [by_filter, reshape(_moved(wide, 1, tap, windows, 0), (-1, wide.static_shape[3]))])
        for tap in range(windows.kernel[0])
    ]
    return _taps_last(_concat(products, axis=1), windows)


def _by_planes(x: Op, g: Op, windows: Windows) -> Op:
    """Channels first: all moved copies side by side, a product for each image, and the sum of the products."""
    (batch, filters), pixels = g.static_shape[:2], math.prod(windows.count)
    padded = pad(x, (0, 0, *windows.before), (0, 0, *_after(windows)))
    wide = _concat([_moved(padded, 3, tap, windows, 1) for tap in range(windows.kernel[1])], axis=1)
    copies = _concat([_moved(wide, 2, tap, windows, 0) for tap in range(windows.kernel[0])], axis=1)
    columns = permute(reshape(copies, (batch, copies.static_shape[1], pixels)), [0, 2, 1])
    products = node("MatMul", [reshape(g, (batch, filters, pixels)), columns])
    return _taps_last(reduce_sum(products, [0], keepdims=False), windows)


def _moved(op: Op, axis: int, tap: int, windows: Windows, spatial: int) -> Op:
    """What the kernel's tap meets along a spatial axis, which is `axis` of the padded `op`."""
    start, stride = tap * windows.dilations[spatial], windows.strides[spatial]
    length = (windows.count[spatial] - 1) * stride + 1
    if (start, stride, length) == (0, 1, op.shape[axis]):
        return op
    return node("Slice", [op, *(integers(op, [v]) for v in (start, start + length, axis, stride))])


def _taps_last(op: Op, windows: Windows) -> Op:
    """(filters, taps and channels) as (filters, channels, taps…)."""
    return permute(reshape(op, (op.static_shape[0], *windows.kernel, -1)), [0, 3, 1, 2])


def _after(windows: Windows) -> list[int]:
    """The padding at the end, without what no window reaches."""
    return [after - leftover for after, leftover in zip(windows.after, windows.leftover, strict=True)]


def _concat(ops: list[Op], axis: int) -> Op:
    return ops[0] if len(ops) == 1 else node("Concat", ops, axis=axis)


def _by_convolution(x: Op, g: Op, windows: Windows, group: int) -> Op:
    """A convolution of x by g in which batch and channels change places, and strides and dilations too."""
    (batch, channels, *size), count = x.static_shape, g.static_shape[2:]
    split = reshape(x, (batch, group, channels // group, *size))
    swapped = permute(split, [2, 1, 0, *range(3, split.ndim)])
    images = pad(
        reshape(swapped, (channels // group, group * batch, *size)),
        (0, 0, *windows.before),
        (0, 0, *_after(windows)),
    )
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
