"""Gradients of reductions, cumulative sums, softmax and top-k."""

from __future__ import annotations

import math

import numpy as np

from ravop.autodiff.rules import Grads, NodeView, expand, number, reduce_sum, reshape, rule, zeros
from ravop.graph.op import Op
from ravop.ops.catalogue import cast, integers, node


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
    """The product of the others; right where one element or more is zero too."""
    x, axes = n.x, n.axes()
    zero = node("Equal", [x, number(x, 0)])
    filled = node("Where", [zero, number(x, 1), x])
    zeros_there = reduce_sum(cast(zero, x.dtype), axes, keepdims=True)
    product = node("ReduceProd", [filled, integers(x, axes)], keepdims=1)
    others = node(
        "Where", [node("Equal", [zeros_there, cast(zero, x.dtype)]), product / filled, number(x, 0)]
    )
    return [_kept(n, g) * others]


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


@rule("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy_loss(n: NodeView, g: Op | None, by_logarithms: Op | None = None) -> Grads:
    """softmax - one-hot of the classes, times the weight of each sample."""
    x, classes = n.x, n.input(1)
    if g is None or by_logarithms is not None:
        raise n.error("its logarithms pass no gradient on")
    if n.optional(2) is not None or n.attribute("ignore_index") is not None:
        raise n.error("class weights and ignore_index are not supported")
    ends = x.graph.constant(np.array([0, 1], dtype=x.dtype))
    truth = node("OneHot", [classes, integers(x, [x.static_shape[1]]), ends], axis=1)
    error = node("Softmax", [x], axis=1) - truth
    match n.attribute("reduction", "mean"):
        case "none":
            return [error * reshape(g, (g.shape[0], 1, *g.shape[1:]))]
        case "mean":
            g = g * (1 / math.prod(classes.static_shape))
    return [error * g]
