"""Gradients of loops and branches.

A loop is differentiated by a loop that runs backwards: the forward loop stacks the carries it had, and each step of the
reverse loop computes its forward step again from the carry (nothing else is kept) and sweeps through it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ravop.autodiff.functions import swept, vjp
from ravop.autodiff.replay import Replay
from ravop.autodiff.rules import Grads, NodeView, rule, zeros
from ravop.graph.control import scan
from ravop.graph.dtypes import is_float
from ravop.graph.graph import Graph
from ravop.graph.op import Op
from ravop.ops.catalogue import integers, node

_TO_THE_BEGINNING = np.iinfo(np.int64).min


@rule("If")
def branch(n: NodeView, *grads: Op | None) -> Grads:
    """A branch of gradients for each branch; what a branch does not read gets zeros from it."""
    graph = n.y.graph
    wanted = [position for position, want in enumerate(n.wants) if want]
    made: dict[str, ir.Graph] = {}
    for name in ("then_branch", "else_branch"):
        body = n.node.attributes[name].as_graph()
        with graph.body(name) as scope:
            outputs = Replay(graph, {}).run(body, body.outputs, body.initializers.values())
            found = swept(outputs, grads, list(n.inputs), n.wants)
            for position in wanted:
                (out,) = graph.apply("Identity", [_or_zeros(found[position], n.input(position))])
                scope.ir.outputs.append(out.value)
        made[name] = scope.ir
    types = [(op.dtype, op.shape) for op in (n.input(position) for position in wanted)]
    results = iter(graph.apply("If", [n.x], made, outputs=types))
    return [next(results) if want else None for want in n.wants]


@rule("Scan")
def loop(n: NodeView, *grads: Op | None) -> Grads:
    graph = n.y.graph
    body = n.node.attributes["body"].as_graph()
    _check_plain(n)
    carries = len(body.inputs) - n.attribute("num_scan_inputs")
    inputs = _given(n.inputs[: len(body.inputs)])
    xs, captured = inputs[carries:], list(n.inputs[len(body.inputs) :])
    moving = [i for i in range(carries) if is_float(inputs[i].dtype)]
    x_wants = n.wants[carries : len(body.inputs)]
    outer = [
        op for op, want in zip(captured, n.wants[len(body.inputs) :], strict=True) if want and op is not None
    ]

    def step(
        carry: tuple[list[Op], list[Op]], x: tuple[list[Op], list[Op], list[Op | None]]
    ) -> tuple[object, object]:
        by_carry, by_outer = carry
        then_carries, then_xs, by_ys = x
        replay = Replay(graph, dict(zip(body.inputs, [*then_carries, *then_xs], strict=True)))
        outputs = replay.run(body, body.outputs[: len(grads)], body.initializers.values())
        seeds: list[Op | None] = [None] * carries
        for i, seed in zip(moving, by_carry, strict=True):
            seeds[i] = seed
        wrt = [*(then_carries[i] for i in moving), *_chosen(then_xs, x_wants), *outer]
        found = iter(vjp(outputs, [*seeds, *by_ys], wrt))
        new_carry = [_or_zeros(next(found), then_carries[i]) for i in moving]
        new_ys = [_or_zeros(next(found), op) for op in _chosen(then_xs, x_wants)]
        new_outer = [old if (more := next(found)) is None else old + more for old in by_outer]
        return (new_carry, new_outer), new_ys

    before = _stacked_carries(n, carries)
    by_ys = [None if g is None else turned(g) for g in grads[carries:]]
    start = ([_or_zeros(grads[i], n.outputs[i]) for i in moving], [zeros(op) for op in outer])
    series = ([turned(op) for op in before], [turned(op) for op in xs], by_ys)
    (by_carry, by_outer), by_xs = scan(step, start, series)
    results = dict(zip(moving, by_carry, strict=True))
    placed = iter([*(turned(g) for g in by_xs), *by_outer])
    return [
        results.get(i) if i < carries else next(placed) if want else None for i, want in enumerate(n.wants)
    ]


def _check_plain(n: NodeView) -> None:
    for name in ("scan_input_directions", "scan_output_directions", "scan_input_axes", "scan_output_axes"):
        if any(n.attribute(name, ())):
            raise n.error(f"{name} is not supported")


def _or_zeros(gradient: Op | None, like: Op) -> Op:
    return zeros(like) if gradient is None else gradient


def _given(ops: Sequence[Op | None]) -> list[Op]:
    return [op for op in ops if op is not None]


def _chosen(ops: Sequence[Op], wants: Sequence[bool]) -> list[Op]:
    return [op for op, want in zip(ops, wants, strict=True) if want]


def turned(op: Op) -> Op:
    """`op` with its first axis reversed."""
    return node("Slice", [op, *(integers(op, [v]) for v in (-1, _TO_THE_BEGINNING, 0, -1))])


_STACKED = "ravop.stacked_carries"
"""Key in a Scan node's `meta`: how many outputs it had before its stacked carries were added."""


def _stacked_carries(n: NodeView, carries: int) -> list[Op]:
    """For each carry, its values at the beginning of every step; the forward loop is made to give them, once."""
    graph: Graph = n.y.graph
    if _STACKED not in n.node.meta:
        n.node.meta[_STACKED] = len(n.node.outputs)
        body = n.node.attributes["body"].as_graph()
        length = n.input(carries).shape[0]
        ops = [graph.op_of(value) for value in body.inputs[:carries]]
        with graph.reopen(ops[0].scope if ops else graph.scope):
            copies = [graph.apply("Identity", [op])[0] for op in ops]
        body.outputs.extend(op.value for op in copies)
        graph.add_outputs(n.node, [(op.dtype, (length, *op.shape)) for op in ops], n.y.scope)
    return [graph.op_of(value) for value in n.node.outputs[n.node.meta[_STACKED] :][:carries]]
