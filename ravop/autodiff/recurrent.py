"""Gradients of LSTM, GRU and RNN nodes: back-propagation through time (Werbos 1990).

The forward node stays as it is, one fused kernel. Backwards, its own output tells the hidden state before every step, so
the gates of all steps are computed again by two matrix products; a loop in reverse carries the gradient of the hidden
state through the recurrent weights, and what is left, the gradients of inputs and weights, are products over all steps.
The cells are in `cells`; here is what they share: directions, layouts, initial states.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ravop.autodiff.cells import GRU, LSTM, RNN, Cell, Steps
from ravop.autodiff.control import turned
from ravop.autodiff.rules import Grads, NodeView, number, permute, reshape, rule, total
from ravop.autodiff.rules import expand as expanded
from ravop.graph.op import Op
from ravop.ops.catalogue import integers, node

_DIRECTIONS: Mapping[str, tuple[bool, ...]] = {
    "forward": (False,),
    "reverse": (True,),
    "bidirectional": (False, True),
}
"""For each direction in the weights, whether it goes from the end."""

X, W, R, B, LENGTHS, H0, C0, PEEPHOLES = range(8)


@rule("LSTM")
def lstm(n: NodeView, by_y: Op | None, by_h: Op | None = None, by_c: Op | None = None) -> Grads:
    return _recurrent(n, LSTM, by_y, by_h, by_c)


@rule("GRU")
def gru(n: NodeView, by_y: Op | None, by_h: Op | None = None) -> Grads:
    return _recurrent(n, GRU, by_y, by_h, None)


@rule("RNN")
def rnn(n: NodeView, by_y: Op | None, by_h: Op | None = None) -> Grads:
    return _recurrent(n, RNN, by_y, by_h, None)


def _recurrent(n: NodeView, kind: type[Cell], by_y: Op | None, by_h: Op | None, by_c: Op | None) -> Grads:
    _refuse(n, kind)
    batch_first = bool(n.attribute("layout", 0))
    x = permute(n.x, [1, 0, 2]) if batch_first else n.x
    found = [
        _direction(n, kind, x, position, backwards, batch_first, (by_y, by_h, by_c))
        for position, backwards in enumerate(_DIRECTIONS[n.attribute("direction", "forward")])
    ]
    results: list[Op | None] = [None] * len(n.inputs)
    if n.wanted(X):
        by_x = total([each[X] for each in found])
        results[X] = permute(by_x, [1, 0, 2]) if batch_first else by_x
    for place, axis in ((W, 0), (R, 0), (B, 0), (H0, int(batch_first)), (C0, int(batch_first))):
        if n.wanted(place):
            parts = [_with_axis(each[place], axis) for each in found]
            results[place] = parts[0] if len(parts) == 1 else node("Concat", parts, axis=axis)
    return results


def _refuse(n: NodeView, kind: type[Cell]) -> None:
    """What makes a cell another one than the gradient is written for."""
    directions = len(_DIRECTIONS[n.attribute("direction", "forward")])
    activations = tuple(str(name).capitalize() for name in n.attribute("activations", ()))
    if activations and any(
        activations[i : i + len(kind.activations[0])] not in kind.activations
        for i in range(0, len(activations), len(activations) // directions)
    ):
        raise n.error(f"activations {', '.join(activations)} are not supported")
    for name in ("clip", "input_forget"):
        if n.attribute(name, 0):
            raise n.error(f"{name} is not supported")
    if n.optional(PEEPHOLES) is not None:
        raise n.error("peepholes are not supported")
    lengths = n.optional(LENGTHS)
    steps = n.x.static_shape[int(bool(n.attribute("layout", 0)))]
    if lengths is not None and (lengths.constant is None or (lengths.constant != steps).any()):
        raise n.error("sequence_lens is not supported, unless it is a constant that says the whole length")


def _direction(
    n: NodeView, kind: type[Cell], x: Op, position: int, backwards: bool, batch_first: bool, by: tuple[Op | None, ...]
) -> dict[int, Op]:  # fmt: skip
    """The gradients of the inputs, by place, that come through one direction; those of the states without its axis."""
    time_order = [1, 2, 0, 3]  # (batch, time, directions, hidden) as (time, directions, batch, hidden)

    def series(op: Op | None) -> Op | None:
        if op is None:
            return None
        one = _picked(permute(op, time_order) if batch_first else op, 1, position)
        return turned(one) if backwards else one

    y = series(n.y)
    assert y is not None
    _, batch, hidden = y.static_shape
    nothing = expanded(number(y, 0), (batch, hidden))

    def state(op: Op | None) -> Op:
        return nothing if op is None else _picked(op, int(batch_first), position)

    bias = n.optional(B)
    steps = Steps(
        turned(x) if backwards else x, y, state(n.optional(H0)), state(n.optional(C0)),
        _picked(n.input(W), 0, position), _picked(n.input(R), 0, position),
        None if bias is None else _picked(bias, 0, position),
    )  # fmt: skip
    cell = kind(n, position, steps)
    back = cell.back(series(by[0]), state(by[1]), state(by[2]))
    found = {H0: back.by_h0}
    if n.wanted(X):
        by_x = _product(back.by_w, steps.w)
        found[X] = turned(by_x) if backwards else by_x
    if back.by_c0 is not None:
        found[C0] = back.by_c0
    if n.wanted(W):
        found[W] = _outer(back.by_w, steps.x)
    if n.wanted(R):
        found[R] = _joined([_outer(gates, operand) for gates, operand in back.by_r])
    if n.wanted(B):
        sums = [_summed(back.by_w), *(_summed(gates) for gates, _ in back.by_r)]
        if len(sums) == 2 and back.by_r[0][0] is back.by_w:
            sums[1] = sums[0]
        found[B] = _joined(sums)
    return found


def _picked(op: Op, axis: int, position: int) -> Op:
    """One element along an axis, without the axis."""
    shape = op.static_shape
    rest = (*shape[:axis], *shape[axis + 1 :])
    if shape[axis] == 1:
        return reshape(op, rest)
    numbers = (position, position + 1, axis)
    return reshape(node("Slice", [op, *(integers(op, [v]) for v in numbers)]), rest)


def _with_axis(op: Op, axis: int) -> Op:
    return reshape(op, (*op.static_shape[:axis], 1, *op.static_shape[axis:]))


def _rows(op: Op) -> Op:
    return reshape(op, (math.prod(op.static_shape[:-1]), op.static_shape[-1]))


def _product(gates: Op, weights: Op) -> Op:
    """(time, batch, gates) · (gates, in)."""
    return reshape(node("Gemm", [_rows(gates), weights]), (*gates.static_shape[:-1], weights.static_shape[1]))


def _outer(gates: Op, operand: Op) -> Op:
    """Summed over time and batch: (gates, in)."""
    return node("Gemm", [_rows(gates), _rows(operand)], transA=1)


def _summed(gates: Op) -> Op:
    return node("ReduceSum", [gates, integers(gates, [0, 1])], keepdims=0)


def _joined(ops: Sequence[Op]) -> Op:
    return ops[0] if len(ops) == 1 else node("Concat", list(ops), axis=0)
