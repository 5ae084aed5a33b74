"""Gradients of reductions, cumulative sums, softmax and top-k."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ravop.autodiff.rules import Grads, NodeView, expand, number, permute, reduce_sum, reshape, rule, zeros
from ravop.autodiff.shape import cut
from ravop.graph.op import Op
from ravop.ops.catalogue import cast, integers, node

_BEGINNING = np.iinfo(np.int64).min
"""Where a slice that runs backwards ends, to take the first element too."""


def _kept(n: NodeView, op: Op) -> Op:
    """`op`, of the shape of the node's output, with the reduced axes as ones."""
    shape = n.x.static_shape
    axes = n.axes()
    return reshape(op, tuple(1 if axis in axes else dim for axis, dim in enumerate(shape)))


def _count(n: NodeView) -> int:
    return math.prod(n.x.static_shape[axis] for axis in n.axes())


@rule("ReduceSum")
def reduce_sum_rule(n: NodeView, g: Op) -> Grads:
    if None in n.x.shape and g.ndim == 0:  # of a selection, whose size only the run can tell
        return [node("Expand", [g, node("Shape", [n.x])])]
    return [expand(_kept(n, g), n.x.static_shape)]


@rule("ReduceMean")
def reduce_mean(n: NodeView, g: Op) -> Grads:
    return [expand(_kept(n, g * (1 / max(_count(n), 1))), n.x.static_shape)]


@rule("ReduceMax", "ReduceMin")
def reduce_extremum(n: NodeView, g: Op) -> Grads:
    """To the elements that were chosen, shared evenly where several are equal, as PyTorch's `amax` has it."""
    chosen = cast(node("Equal", [n.x, _kept(n, n.y)]), g.dtype)
    return [chosen * (_kept(n, g) / reduce_sum(chosen, n.axes(), keepdims=True))]


@rule("ReduceProd")
def reduce_prod(n: NodeView, g: Op) -> Grads:
    """The product of the others; right where elements are zero too, and for gradients of gradients."""
    axes = n.axes()
    return [_kept(n, g) * _others(n.x, axes) if axes else g]


def _others(x: Op, axes: Sequence[int]) -> Op:
    """For each element the product of all others along `axes`: up a tree of products of halves, and down again."""
    order = [*(axis for axis in range(x.ndim) if axis not in axes), *axes]
    moved = permute(x, order)
    count = math.prod(x.static_shape[axis] for axis in axes)
    rows = math.prod(x.static_shape) // max(count, 1)
    width = 1 << max(count - 1, 0).bit_length()
    level = reshape(moved, (rows, count))
    if width > count:
        level = node("Pad", [level, integers(x, [0, 0, 0, width - count]), number(x, 1)])
    halves = []
    while width > 1:
        width //= 2
        halves.append(reshape(level, (rows, 2, width)))
        level = reshape(cut(halves[-1], 1, 0, 1) * cut(halves[-1], 1, 1, 2), (rows, width))
    outer = expand(number(x, 1), (rows, 1))
    for pair in reversed(halves):
        width = pair.static_shape[2]
        outer = reshape(
            reshape(outer, (rows, 1, width)) * cut(pair, 1, -1, _BEGINNING, -1), (rows, 2 * width)
        )
    others = reshape(cut(outer, 1, 0, count), moved.static_shape)
    return permute(others, [order.index(axis) for axis in range(x.ndim)])


@rule("ReduceL1")
def reduce_l1(n: NodeView, g: Op) -> Grads:
    return [_kept(n, g) * node("Sign", [n.x])]


@rule("ReduceL2")
def reduce_l2(n: NodeView, g: Op) -> Grads:
    """x / |x|; 0 where the norm is 0."""
    norm = _kept(n, n.y)
    safe = node("Where", [node("Equal", [norm, number(norm, 0)]), number(norm, 1), norm])
    return [n.x * (_kept(n, g) / safe)]


@rule("ReduceSumSquare")
def reduce_sum_square(n: NodeView, g: Op) -> Grads:
    return [n.x * (_kept(n, g) * 2)]


@rule("ReduceLogSum")
def reduce_log_sum(n: NodeView, g: Op) -> Grads:
    return [expand(_kept(n, g / node("Exp", [n.y])), n.x.static_shape)]


@rule("ReduceLogSumExp")
def reduce_log_sum_exp(n: NodeView, g: Op) -> Grads:
    return [_kept(n, g) * node("Exp", [n.x - _kept(n, n.y)])]


@rule("CumSum")
def cumsum(n: NodeView, g: Op) -> Grads:
    turned = 0 if n.attribute("reverse", 0) else 1
    return [node("CumSum", [g, n.input(1)], exclusive=n.attribute("exclusive", 0), reverse=turned)]


@rule("Softmax")
def softmax(n: NodeView, g: Op) -> Grads:
    gy = g * n.y
    return [gy - n.y * reduce_sum(gy, [n.axis(-1)], keepdims=True)]


@rule("LogSoftmax")
def log_softmax(n: NodeView, g: Op) -> Grads:
    return [g - node("Exp", [n.y]) * reduce_sum(g, [n.axis(-1)], keepdims=True)]


@rule("TopK")
def top_k(n: NodeView, g: Op, _: Op | None) -> Grads:
    return [node("ScatterElements", [zeros(n.x), n.outputs[1], g], axis=n.axis(-1))]
