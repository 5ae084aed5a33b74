"""Gradients of operators that pick or place elements by index."""

from __future__ import annotations

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
    if n.attribute("batch_dims", 0):
        raise n.error("batch_dims is not supported")
    return [node("ScatterND", [zeros(n.x), n.input(1), g], reduction="add")]


@rule("ScatterElements")
def scatter_elements(n: NodeView, g: Op) -> Grads:
    axis, indices = n.axis(0), n.input(1)
    by_updates = node("GatherElements", [g, indices], axis=axis) if n.wanted(2) else None
    if _adds(n):
        return [g, None, by_updates]
    return [
        node("ScatterElements", [g, indices, zeros(n.input(2))], axis=axis) if n.wanted(0) else None,
        None,
        by_updates,
    ]


@rule("ScatterND")
def scatter_nd(n: NodeView, g: Op) -> Grads:
    indices = n.input(1)
    by_updates = node("GatherND", [g, indices]) if n.wanted(2) else None
    if _adds(n):
        return [g, None, by_updates]
    return [node("ScatterND", [g, indices, zeros(n.input(2))]) if n.wanted(0) else None, None, by_updates]


def _adds(n: NodeView) -> bool:
    reduction = n.attribute("reduction", "none")
    if reduction not in ("none", "add"):
        raise n.error(f"reduction {reduction!r} is not supported")
    return bool(reduction == "add")


@rule("Compress")
def compress(n: NodeView, g: Op) -> Grads:
    axis = n.attribute("axis")
    if axis is None:
        raise n.error("without an axis it is not supported")
    kept = node("Compress", [node("Range", [integers(g, [v]).reshape(()) for v in (0, n.x.static_shape[axis], 1)]),
                             n.input(1)], axis=0)  # fmt: skip
    order = [axis, *(i for i in range(n.x.ndim) if i != axis)]
    moved = permute(zeros(n.x), order)
    placed = node("ScatterND", [moved, node("Unsqueeze", [kept, integers(g, [1])]), permute(g, order)])
    return [permute(placed, [order.index(i) for i in range(n.x.ndim)])]
