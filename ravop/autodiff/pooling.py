"""Gradients of pooling (N, C, spatial…)."""

from __future__ import annotations

import itertools
import math

import numpy as np

from ravop.autodiff.rules import Grads, NodeView, expand, number, reshape, rule
from ravop.autodiff.windows import Windows, windows_of
from ravop.graph.dtypes import FLOAT, INT
from ravop.graph.op import Op
from ravop.ops.catalogue import cast, integers, node


@rule("MaxPool")
def max_pool(n: NodeView, g: Op, _: Op | None = None) -> Grads:
    """To the first maximum of each window, as PyTorch has it."""
    if n.attribute("storage_order", 0):
        raise n.error("storage_order 1 is not supported")
    windows = windows_of(n, n.attribute("kernel_shape"), n.x.static_shape[2:], n.y.static_shape[2:])
    by_blocks = windows.tiling and len(windows.kernel) == 2 and g.dtype == FLOAT
    return [(_to_blocks if by_blocks else _to_indices)(n, g, windows)]


def _to_blocks(n: NodeView, g: Op, windows: Windows) -> Op:
    """For images in windows side by side, by comparing: no indices, which the engine finds many times slower than maxima.

    The elements equal to their maximum get a number, higher for earlier ones; the highest number of each window is the
    first maximum's.
    """
    x, (height, width) = n.x, windows.kernel
    early_high = np.arange(height * width, 0, -1, dtype=g.dtype).reshape(height, width)
    row_of_blocks = g.graph.constant(np.tile(early_high, (1, windows.count[1])))
    equal = cast(node("Equal", [x, _enlarged(n.y, windows)]), g.dtype)
    numbers = reshape(reshape(equal, (-1, height, x.shape[3])) * row_of_blocks, x.shape)
    highest = node("MaxPool", [numbers], kernel_shape=windows.kernel, strides=windows.strides)
    chosen = node("Equal", [numbers, _enlarged(highest, windows)])
    return _enlarged(g, windows) * cast(chosen, g.dtype)


def _enlarged(op: Op, windows: Windows) -> Op:
    """Each element repeated over its window."""
    scales = op.graph.constant(np.array([1, 1, *windows.kernel], dtype=FLOAT))
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    shape = (*op.static_shape[:2], *windows.size)
    return op.graph.apply("Resize", [op, None, scales], attributes, outputs=[(op.dtype, shape)])[0]


def _to_indices(n: NodeView, g: Op, windows: Windows) -> Op:
    """For any windows: the forward node is made to tell where the maxima were."""
    where = _indices(n)
    flat = reshape(where, (math.prod(where.static_shape),)), reshape(g, (math.prod(g.static_shape),))
    empty = expand(number(g, 0), (math.prod(n.x.static_shape),))
    reduction = "none" if windows.disjoint else "add"
    return reshape(node("ScatterElements", [empty, *flat], axis=0, reduction=reduction), n.x.shape)


def _indices(n: NodeView) -> Op:
    """The node's second output: the place of each maximum in the flattened input."""
    if len(n.outputs) > 1:
        return n.outputs[1]
    return n.y.graph.add_outputs(n.node, [(INT, n.y.shape)], n.y.scope)[0]


@rule("Resize")
def enlarge(n: NodeView, g: Op) -> Grads:
    """Of enlarging by whole factors, nearest neighbour: the sum over the copies."""
    factors = [y / x for x, y in zip(n.x.static_shape, n.y.static_shape, strict=True)]
    plain = (n.attribute("mode"), n.attribute("coordinate_transformation_mode"), n.attribute("nearest_mode"))
    if (
        plain != ("nearest", "asymmetric", "floor")
        or any(f != int(f) for f in factors)
        or factors[:2] != [1, 1]
    ):
        raise n.error("only nearest, asymmetric, floor, by whole factors is supported")
    kernel = [int(f) for f in factors[2:]]
    return [node("AveragePool", [g], kernel_shape=kernel, strides=kernel) * float(math.prod(kernel))]


@rule("AveragePool")
def average_pool(n: NodeView, g: Op) -> Grads:
    """Each gradient, divided by how many elements its window counted, spread evenly over the window."""
    x = n.x
    windows = windows_of(n, n.attribute("kernel_shape"), x.static_shape[2:], n.y.static_shape[2:])
    share = g * (1 / _counts(windows, bool(n.attribute("count_include_pad", 0)))).astype(g.dtype)
    planes = reshape(share, (math.prod(g.static_shape[:2]), 1, *windows.count))
    ones = expand(number(g, 1), (1, 1, *windows.kernel))
    # With ceil_mode the last window may reach over the padding: what falls there is cut off.
    over = tuple(max(-r, 0) for r in windows.leftover)
    spread = node(
        "ConvTranspose", [planes, ones], kernel_shape=windows.kernel, strides=windows.strides, dilations=windows.dilations,
        pads=windows.before + tuple(a + o for a, o in zip(windows.after, over, strict=True)),
        output_padding=tuple(max(r, 0) for r in windows.leftover),
    )  # fmt: skip
    return [reshape(spread, x.shape)]


def _counts(windows: Windows, include_padding: bool) -> np.ndarray:
    """How many elements each window averages, of shape `windows.count`."""
    along = []
    for i, size in enumerate(windows.size):
        low, high = (-windows.before[i], size + windows.after[i]) if include_padding else (0, size)
        starts = [c * windows.strides[i] - windows.before[i] for c in range(windows.count[i])]
        taps = [k * windows.dilations[i] for k in range(windows.kernel[i])]
        along.append([sum(low <= start + tap < high for tap in taps) for start in starts])
    return np.array([math.prod(counts) for counts in itertools.product(*along)], dtype=float).reshape(
        windows.count
    )


@rule("GlobalAveragePool")
def global_average_pool(n: NodeView, g: Op) -> Grads:
    return [expand(g * (1 / math.prod(n.x.static_shape[2:])), n.x.static_shape)]


@rule("GlobalMaxPool")
def global_max_pool(n: NodeView, g: Op) -> Grads:
    chosen = cast(node("Equal", [n.x, n.y]), g.dtype)
    axes = integers(g, range(2, g.ndim))
    return [chosen * (g / node("ReduceSum", [chosen, axes], keepdims=1))]
