"""Gradients of operators that pick or place elements by index."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ravop.autodiff.rules import Grads, NodeView, expand, number, permute, reshape, rule, zeros
from ravop.autodiff.shape import pad
from ravop.graph.dtypes import INT
from ravop.graph.op import Op
from ravop.ops.catalogue import cast, integers, node


@rule("Gather")
def gather(n: NodeView, g: Op) -> Grads:
    """Added up where they came from. One element at a known place needs no scatter: it is padded with zeros."""
    x, indices, axis = n.x, n.input(1), n.axis(0)
    shape = x.static_shape
    place = indices.constant
    if place is not None and place.size == 1:
        before, after = [0] * x.ndim, [0] * x.ndim
        before[axis] = int(place.item()) % shape[axis]
        after[axis] = shape[axis] - before[axis] - 1
        return [pad(reshape(g, (*shape[:axis], 1, *shape[axis + 1 :])), before, after)]
    picked = indices.ndim
    front = permute(g, [*range(axis, axis + picked), *range(axis), *range(axis + picked, g.ndim)])
    target = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    positions = cast(reshape(indices, (*indices.shape, 1)), INT)
    summed = node("ScatterND", [expand(number(g, 0), target), positions, front], reduction="add")
    return [permute(summed, [*range(1, axis + 1), 0, *range(axis + 1, x.ndim)])]


@rule("GatherElements")
def gather_elements(n: NodeView, g: Op) -> Grads:
    return [node("ScatterElements", [zeros(n.x), n.input(1), g], axis=n.axis(0), reduction="add")]


@rule("GatherND")
def gather_nd(n: NodeView, g: Op) -> Grads:
    indices = _with_batch(cast(n.input(1), INT), n.attribute("batch_dims", 0))
    return [node("ScatterND", [zeros(n.x), indices, g], reduction="add")]


def _with_batch(indices: Op, batch_dims: int) -> Op:
    """`indices` with the numbers of the batch before them, so that they count from the first axis."""
    if not batch_dims:
        return indices
    shape = indices.static_shape
    grid = np.moveaxis(np.indices(shape[:batch_dims]), 0, -1)
    ones = [1] * (len(shape) - 1 - batch_dims)
    grid = np.broadcast_to(grid.reshape(*shape[:batch_dims], *ones, batch_dims), (*shape[:-1], batch_dims))
    return node("Concat", [indices.graph.tensor(grid), indices], axis=-1)


@rule("ScatterElements")
def scatter_elements(n: NodeView, g: Op) -> Grads:
    axis, indices = n.axis(0), n.input(1)

    def picked(op: Op) -> Op:
        return node("GatherElements", [op, indices], axis=axis)

    def placed(op: Op, updates: Op, reduction: str) -> Op:
        return node("ScatterElements", [op, indices, updates], axis=axis, reduction=reduction)

    return _scattered(n, g, picked, placed)


@rule("ScatterND")
def scatter_nd(n: NodeView, g: Op) -> Grads:
    indices = n.input(1)

    def picked(op: Op) -> Op:
        return node("GatherND", [op, indices])

    def placed(op: Op, updates: Op, reduction: str) -> Op:
        return node("ScatterND", [op, indices, updates], reduction=reduction)

    return _scattered(n, g, picked, placed)


def _scattered(n: NodeView, g: Op, picked: Callable[[Op], Op], placed: Callable[[Op, Op, str], Op]) -> Grads:
    """Of the data and of the updates, by what is done with what meets in one place.

    `picked` gathers where the updates went; `placed` scatters with a reduction.
    """
    x, updates = n.x, n.input(2)
    match n.attribute("reduction", "none"):
        case "none":
            by_x = placed(g, zeros(updates), "none") if n.wanted(0) else None
            return [by_x, None, picked(g) if n.wanted(2) else None]
        case "add":
            return [g, None, picked(g) if n.wanted(2) else None]
        case "mul":
            return _factors(n, g, picked, placed)
    # To what was chosen, shared evenly where several are equal.
    is_x = cast(node("Equal", [x, n.y]), g.dtype)
    is_update = cast(node("Equal", [updates, picked(n.y)]), g.dtype)
    share = g / placed(is_x, is_update, "add")
    return [share * is_x, None, picked(share) * is_update]


def _factors(n: NodeView, g: Op, picked: Callable[[Op], Op], placed: Callable[[Op, Op, str], Op]) -> Grads:
    """The product of the other factors; right where some are zero too."""
    zero_x, full_x = _without_zeros(n.x)
    zero_update, full_update = _without_zeros(n.input(2))
    product = placed(full_x, full_update, "mul")
    count = placed(zero_x, zero_update, "add")
    return [
        g * _where_equal(count, zero_x, product / full_x),
        None,
        picked(g) * _where_equal(picked(count), zero_update, picked(product) / full_update),
    ]


def _without_zeros(op: Op) -> tuple[Op, Op]:
    """(1 where the op is 0 and else 0, the op with 1 for 0)."""
    zero = node("Equal", [op, number(op, 0)])
    return cast(zero, op.dtype), node("Where", [zero, number(op, 1), op])


def _where_equal(a: Op, b: Op, then: Op) -> Op:
    return node("Where", [node("Equal", [a, b]), then, number(then, 0)])


@rule("Compress")
def compress(n: NodeView, g: Op) -> Grads:
    """Back to the places that were kept; without an axis, of all elements in a row."""
    axis = n.attribute("axis")
    if axis is None:
        flat = expand(number(g, 0), (math.prod(n.x.static_shape),))
        return [reshape(_kept_back(n, flat, g), n.x.static_shape)]
    axis %= n.x.ndim
    order = [axis, *(i for i in range(n.x.ndim) if i != axis)]
    placed = _kept_back(n, permute(zeros(n.x), order), permute(g, order))
    return [permute(placed, [order.index(i) for i in range(n.x.ndim)])]


def _kept_back(n: NodeView, zero: Op, g: Op) -> Op:
    """`g` put along the first axis of `zero`, where the condition was true."""
    ends = [g.graph.constant(np.array(value)) for value in (0, zero.static_shape[0], 1)]
    places = node("Compress", [node("Range", ends), n.input(1)], axis=0)
    return node("ScatterND", [zero, node("Unsqueeze", [places, integers(g, [1])]), g])


@rule("OneHot")
def one_hot(n: NodeView, g: Op) -> Grads:
    """Of the two values: the sums over where each of them went."""
    ends = g.graph.constant(np.array([0, 1], dtype=g.dtype))
    hot = node("OneHot", [n.x, n.input(1), ends], axis=n.attribute("axis", -1))
    parts = [node("ReduceSum", [g * mask], keepdims=0).reshape((1,)) for mask in (1 - hot, hot)]
    return [None, None, node("Concat", parts, axis=0)]
