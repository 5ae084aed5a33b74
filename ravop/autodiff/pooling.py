"""Gradients of pooling (N, C, spatial…)."""

from __future__ import annotations

import functools
import math

import numpy as np

from ravop.autodiff.rules import Grads, NodeView, expand, number, reshape, rule
from ravop.autodiff.spreading import spread, touched
from ravop.autodiff.windows import Windows, windows_of
from ravop.graph.dtypes import FLOAT, INT
from ravop.graph.op import Op
from ravop.ops.catalogue import cast, integers, node
from ravop.protocol.tensors import Array


@rule("MaxPool")
def max_pool(n: NodeView, g: Op, _: Op | None = None) -> Grads:
    """To the first maximum of each window, as PyTorch has it."""
    windows = _windows(n)
    by_blocks = windows.tiling and len(windows.kernel) == 2 and g.dtype == FLOAT
    return [(_to_blocks if by_blocks else _to_indices)(n, g, windows)]


def _windows(n: NodeView) -> Windows:
    return windows_of(n, n.attribute("kernel_shape"), n.x.static_shape[2:], n.y.static_shape[2:])


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
    if n.attribute("storage_order", 0):  # it counts columns first
        attributes = {
            name: found.value for name, found in n.node.attributes.items() if name != "storage_order"
        }
        types = [(n.y.dtype, n.y.shape), (INT, n.y.shape)]
        return n.y.graph.apply("MaxPool", [n.x], attributes, outputs=types)[1]
    if len(n.outputs) > 1:
        return n.outputs[1]
    return n.y.graph.add_outputs(n.node, [(INT, n.y.shape)], n.y.scope)[0]


@rule("AveragePool")
def average_pool(n: NodeView, g: Op) -> Grads:
    """Each gradient, divided by how many elements its window counted, spread evenly over the window."""
    windows = _windows(n)
    counts = _counts(windows, bool(n.attribute("count_include_pad", 0)))
    if np.ptp(counts) == 0:
        return [spread(g * float(1 / counts.flat[0]), windows)]
    return [spread(g * (1 / counts).astype(g.dtype), windows)]


def _counts(windows: Windows, include_padding: bool) -> Array:
    """How many elements each window averages, of shape `windows.count`; what lies beyond the padding never counts."""
    along = [
        touched(windows, axis, *((windows.before[axis], windows.after[axis]) if include_padding else (0, 0))).sum(axis=1)
        for axis in range(len(windows.size))
    ]  # fmt: skip
    return np.asarray(functools.reduce(np.multiply.outer, along))


@rule("LpPool")
def lp_pool(n: NodeView, g: Op) -> Grads:
    """With y = (Σ |x|^p)^(1/p): dx = sign(x)·|x|^(p-1) · y^(1-p)·g, spread over the window; 0 where y is 0, as x is there."""
    p = int(n.attribute("p", 2))
    return [_powers(n.x, p) * spread(_share_of_norm(n.y, g, p), _windows(n))]


def _powers(x: Op, p: int) -> Op:
    """sign(x)·|x|^(p-1)."""
    if p == 2:
        return x
    sign = node("Sign", [x])
    return sign if p == 1 else sign * node("Pow", [node("Abs", [x]), number(x, p - 1)])


def _share_of_norm(norm: Op, g: Op, p: int) -> Op:
    """g·norm^(1-p), 0 where the norm is 0."""
    if p == 1:
        return g
    nothing = node("Equal", [norm, number(norm, 0)])
    safe = node("Where", [nothing, number(norm, 1), norm])
    return node(
        "Where", [nothing, number(g, 0), g / (safe if p == 2 else node("Pow", [safe, number(norm, p - 1)]))]
    )


@rule("MaxUnpool")
def max_unpool(n: NodeView, g: Op) -> Grads:
    """Each element's gradient is found where the element was put."""
    if n.optional(2) is not None:
        raise n.error("output_shape is not supported")
    place = reshape(n.input(1), (math.prod(n.x.static_shape),))
    flat = reshape(g, (math.prod(g.static_shape),))
    return [reshape(node("Gather", [flat, place]), n.x.static_shape)]


@rule("GlobalAveragePool")
def global_average_pool(n: NodeView, g: Op) -> Grads:
    return [expand(g * (1 / math.prod(n.x.static_shape[2:])), n.x.static_shape)]


@rule("GlobalMaxPool")
def global_max_pool(n: NodeView, g: Op) -> Grads:
    chosen = cast(node("Equal", [n.x, n.y]), g.dtype)
    axes = integers(g, range(2, g.ndim))
    return [chosen * (g / node("ReduceSum", [chosen, axes], keepdims=1))]


@rule("GlobalLpPool")
def global_lp_pool(n: NodeView, g: Op) -> Grads:
    """As `lp_pool`, with one window: NumPy's broadcasting spreads it."""
    p = int(n.attribute("p", 2))
    return [_powers(n.x, p) * _share_of_norm(n.y, g, p)]
