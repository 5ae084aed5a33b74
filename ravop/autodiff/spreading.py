"""Sums over windows and their transpose, as products with matrices of zeros and ones, one for each spatial axis.

What pooling needs besides maxima. A window is a product of intervals, so an axis can be done at a time; matrices take any
stride, dilation, padding and windows that reach over the edge, and the engine is at its best with them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ravop.autodiff.rules import expand, number, reshape
from ravop.autodiff.windows import Windows
from ravop.graph.op import Op
from ravop.ops.catalogue import node
from ravop.protocol.tensors import INLINE_LIMIT, Array


def touched(windows: Windows, axis: int, low: int = 0, high: int = 0) -> Array:
    """(windows, elements) of a spatial axis: 1 where the window has the element. `low` and `high` elements of padding count."""
    starts = np.arange(windows.count[axis]) * windows.strides[axis] - windows.before[axis]
    places = starts[:, None] + np.arange(windows.kernel[axis]) * windows.dilations[axis]
    elements = np.arange(-low, windows.size[axis] + high)
    return np.asarray((places[:, :, None] == elements).sum(axis=1))


def spread(g: Op, windows: Windows) -> Op:
    """Each number of `g` (N, C, windows…) added to every element of its window: (N, C, size…)."""
    if all(
        c * s * g.dtype.itemsize <= INLINE_LIMIT for c, s in zip(windows.count, windows.size, strict=True)
    ):
        for axis in reversed(range(len(windows.kernel))):
            g = along(g, 2 + axis, touched(windows, axis))
        return g
    return _by_convolution(g, windows)


def along(g: Op, axis: int, by: Array) -> Op:
    """`g` times the transposed matrix `by` (length of the axis, another length), along one axis."""
    if axis == g.ndim - 1:
        return node("MatMul", [g, g.graph.tensor(by, g.dtype)])
    shape = g.static_shape
    before, after = shape[:axis], shape[axis + 1 :]
    turned = g.graph.tensor(np.ascontiguousarray(by.T), g.dtype)
    made = node("MatMul", [turned, reshape(g, (*before, shape[axis], math.prod(after)))])
    return reshape(made, (*before, by.shape[1], *after))


def _by_convolution(g: Op, windows: Windows) -> Op:
    """For axes so long that their matrices would not be small constants."""
    planes = reshape(g, (math.prod(g.static_shape[:2]), 1, *windows.count))
    ones = expand(number(g, 1), (1, 1, *windows.kernel))
    # With ceil_mode the last window may reach over the padding: what falls there is cut off.
    over = tuple(max(-r, 0) for r in windows.leftover)
    attributes: dict[str, Any] = {
        "kernel_shape": windows.kernel, "strides": windows.strides, "dilations": windows.dilations,
        "pads": windows.before + tuple(a + o for a, o in zip(windows.after, over, strict=True)),
        "output_padding": tuple(max(r, 0) for r in windows.leftover),
    }  # fmt: skip
    found = node("ConvTranspose", [planes, ones], **attributes)
    return reshape(found, (*g.static_shape[:2], *windows.size))


def band_sum(op: Op, before: int, after: int) -> Op:
    """For each channel of (N, C, …) the sum of those from `before` below it to `after` above it."""
    (batch, channels), shape = op.static_shape[:2], op.static_shape
    distance = np.arange(channels) - np.arange(channels)[:, None]
    near = op.graph.tensor(((-before <= distance) & (distance <= after)).astype(op.dtype), op.dtype)
    return reshape(node("MatMul", [near, reshape(op, (batch, channels, math.prod(shape[2:])))]), shape)
