"""Gradients of `Pad` in every mode: the elements that were put around go back to where they were taken from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ravop.autodiff.rules import Grads, NodeView, expand, number, permute, reduce_sum, rule, total
from ravop.autodiff.shape import cut, pad
from ravop.graph.op import Op
from ravop.ops.catalogue import node


@rule("Pad")
def pad_rule(n: NodeView, g: Op) -> Grads:
    """A negative count takes elements away before the others are put around."""
    pads = n.known(1, "pads") or ()
    rank = n.x.ndim
    axes = [axis % rank for axis in n.known(3, "axes") or range(rank)]
    before, after = [0] * rank, [0] * rank
    for position, axis in enumerate(axes):
        before[axis], after[axis] = pads[position], pads[position + len(axes)]
    mode = n.attribute("mode", "constant")
    if mode == "constant":
        by_x = pad(g, [-count for count in before], [-count for count in after])
        if not n.wanted(2):
            return [by_x]
        return [by_x, None, node("ReduceSum", [g], keepdims=0) - node("ReduceSum", [by_x], keepdims=0)]
    for axis in range(rank):
        g = _folded(g, axis, max(before[axis], 0), max(after[axis], 0), mode)
    return [pad(g, [max(-count, 0) for count in before], [max(-count, 0) for count in after])]


def _folded(g: Op, axis: int, before: int, after: int, mode: str) -> Op:
    """`g` without its borders along an axis, each added to where its elements came from."""
    length = g.static_shape[axis] - before - after
    parts = [cut(g, axis, before, before + length)]
    if mode != "edge" and max(before, after) > length - (mode == "reflect"):
        return _scattered(g, axis, before, after, mode)
    if before:
        parts.append(_BORDERS[mode](cut(g, axis, 0, before), axis, length, True))
    if after:
        parts.append(
            _BORDERS[mode](cut(g, axis, before + length, before + length + after), axis, length, False)
        )
    return total(parts)


def _edge(border: Op, axis: int, length: int, front: bool) -> Op:
    return _placed(reduce_sum(border, [axis], keepdims=True), axis, 0 if front else length - 1, length)


def _reflected(border: Op, axis: int, length: int, front: bool) -> Op:
    count = border.static_shape[axis]
    turned = cut(border, axis, -1, np.iinfo(np.int64).min, -1)
    return _placed(turned, axis, 1 if front else length - 1 - count, length)


def _wrapped(border: Op, axis: int, length: int, front: bool) -> Op:
    return _placed(border, axis, length - border.static_shape[axis] if front else 0, length)


_BORDERS: dict[str, Callable[[Op, int, int, bool], Op]] = {
    "edge": _edge,
    "reflect": _reflected,
    "wrap": _wrapped,
}


def _placed(piece: Op, axis: int, start: int, length: int) -> Op:
    before, after = [0] * piece.ndim, [0] * piece.ndim
    before[axis], after[axis] = start, length - start - piece.static_shape[axis]
    return pad(piece, before, after)


def _scattered(g: Op, axis: int, before: int, after: int, mode: str) -> Op:
    """For borders that are longer than the axis, which go around it more than once."""
    length = g.static_shape[axis] - before - after
    places = np.arange(-before, length + after)
    if mode == "reflect":
        period = max(2 * length - 2, 1)
        places = np.abs((places + length - 1) % period - (length - 1)) if length > 1 else places * 0
    else:
        places = places % length
    order = [axis, *(i for i in range(g.ndim) if i != axis)]
    front = permute(g, order)
    shape = (length, *front.static_shape[1:])
    zero = expand(number(g, 0), shape)
    summed = node("ScatterND", [zero, g.graph.tensor(places.reshape(-1, 1)), front], reduction="add")
    return permute(summed, [order.index(i) for i in range(g.ndim)])
