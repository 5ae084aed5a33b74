"""The weight gradient of depthwise convolutions: each channel has a filter of its own.

There is no product of matrices in it: for each channel and tap of the kernel, the product of two images is summed. Every
way is a few passes over memory for each tap, and which is the fastest goes by how long the pieces are that lie together.
"""

from __future__ import annotations

import math

import numpy as np

from ravop.autodiff.rules import permute, reduce_sum, reshape
from ravop.autodiff.taps import copies, joined, moved, padded
from ravop.autodiff.windows import Windows
from ravop.graph.op import Op
from ravop.ops.catalogue import node
from ravop.protocol.tensors import Array

_MANY_CHANNELS = 64
"""From here on channels are long enough pieces to be moved for themselves; below, rows of large images are longer."""
_MANY_TAPS = 36
"""From here on products of rows, most of which are thrown away, take less than so many passes."""


def depthwise_weight_gradient(x: Op, g: Op, windows: Windows) -> Op:
    """From x (N, C, size…) and the gradient of y (N, C, count…): (C, 1, kernel…)."""
    if len(windows.kernel) == 2 and math.prod(windows.kernel) >= _MANY_TAPS:
        return _by_rows(x, g, windows)
    channels = x.static_shape[1]
    last = channels >= _MANY_CHANNELS or windows.count[-1] < _MANY_CHANNELS // 4 or max(windows.strides) > 1
    return (_channels_last if last else _channels_first)(x, g, windows)


def _channels_last(x: Op, g: Op, windows: Windows) -> Op:
    spatial = range(2, x.ndim)
    images = padded(permute(x, [0, *spatial, 1]), windows, 1)
    by_y = permute(g, [0, *spatial, 1])
    sums = [reduce_sum(copy * by_y, range(g.ndim - 1), keepdims=False) for copy in copies(images, 1, windows)]
    return _channels_by_taps(sums, windows)


def _channels_first(x: Op, g: Op, windows: Windows) -> Op:
    images = padded(x, windows, 2)
    axes = [0, *range(2, g.ndim)]
    return _channels_by_taps(
        [reduce_sum(copy * g, axes, keepdims=False) for copy in copies(images, 2, windows)], windows
    )


def _channels_by_taps(sums: list[Op], windows: Windows) -> Op:
    """A sum (C,) for each tap as (C, 1, kernel…)."""
    (channels,) = sums[0].static_shape
    table = reshape(joined(sums, 0), (len(sums), channels))
    return reshape(permute(table, [1, 0]), (channels, 1, *windows.kernel))


def _by_rows(x: Op, g: Op, windows: Windows) -> Op:
    """For each column of the kernel and channel, every row of x times every row of g, summed over the batch: one product
    of matrices. Then those pairs of rows that meet in a window are added, by another one."""
    (batch, channels), (height, width) = x.static_shape[:2], windows.count
    rows = permute(padded(x, windows, 2), [1, 2, 0, 3])
    by_y = reshape(permute(g, [1, 0, 3, 2]), (channels, batch * width, height))
    tall = rows.static_shape[1]
    pairs = [
        node("MatMul", [reshape(moved(rows, 3, tap, windows, 1), (channels, tall, batch * width)), by_y])
        for tap in range(windows.kernel[1])
    ]
    table = reshape(joined(pairs, 1), (channels * windows.kernel[1], tall * height))
    met = node("MatMul", [table, x.graph.tensor(_meetings(windows, tall).astype(x.dtype), x.dtype)])
    by_column = reshape(met, (channels, 1, windows.kernel[1], windows.kernel[0]))
    return permute(by_column, [0, 1, 3, 2])


def _meetings(windows: Windows, tall: int) -> Array:
    """(rows of the padded x · rows of y, rows of the kernel): 1 where the tap of the window meets the row."""
    stride, dilation = windows.strides[0], windows.dilations[0]
    starts = np.arange(windows.count[0])[:, None] * stride + np.arange(windows.kernel[0]) * dilation
    found = np.arange(tall)[:, None, None] == starts
    return np.asarray(found.reshape(tall * windows.count[0], windows.kernel[0]))
