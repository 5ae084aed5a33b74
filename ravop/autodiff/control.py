"""Gradients of loops and branches.

A loop is differentiated by a loop that runs backwards: the forward loop stacks the carries it had, and each step of the
reverse loop computes its forward step again from the carry (nothing else is kept) and sweeps through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ravop.autodiff.functions import swept, vjp
from ravop.autodiff.replay import Replay
from ravop.autodiff.rules import Grads, NodeView, permute, rule, zeros
from ravop.graph.control import indices, scan
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
    carries = len(body.inputs) - n.attribute("num_scan_inputs")
    inputs = _given(n.inputs[: len(body.inputs)])
    walks, y_walks = (
        _walks(n, "scan_input", len(body.inputs) - carries),
        _walks(n, "scan_output", len(n.outputs) - carries),
    )
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
    by_ys = [None if g is None else walk.back(g) for g, walk in zip(grads[carries:], y_walks, strict=False)]
    start = ([_or_zeros(grads[i], n.outputs[i]) for i in moving], [zeros(op) for op in outer])
    series = (
        [turned(op) for op in before],
        [walk.back(op) for op, walk in zip(xs, walks, strict=True)],
        by_ys,
    )
    (by_carry, by_outer), by_xs = scan(step, start, series)
    results = dict(zip(moving, by_carry, strict=True))
    wanted_walks = [walk for walk, want in zip(walks, x_wants, strict=True) if want]
    placed = iter([*(walk.unrolled(g) for g, walk in zip(by_xs, wanted_walks, strict=True)), *by_outer])
    return [
        results.get(i) if i < carries else next(placed) if want else None for i, want in enumerate(n.wants)
    ]


@dataclass(frozen=True)
class _Walk:
    """How a Scan goes along one of its inputs or outputs: which axis, and whether from its end."""

    axis: int
    backwards: bool

    def back(self, op: Op) -> Op:
        """`op` with what the last step met first, along the first axis."""
        rest = [axis for axis in range(op.ndim) if axis != self.axis]
        op = permute(op, [self.axis, *rest])
        return op if self.backwards else turned(op)

    def unrolled(self, op: Op) -> Op:
        """`back` undone."""
        op = op if self.backwards else turned(op)
        rest = iter(range(1, op.ndim))
        return permute(op, [0 if axis == self.axis else next(rest) for axis in range(op.ndim)])


def _walks(n: NodeView, what: str, count: int) -> list[_Walk]:
    """Of a Scan's sequences: those in, or those out. Negative axes are counted from the end of the whole sequence."""
    axes, directions = (n.attribute(f"{what}_{name}", ()) or (0,) * count for name in ("axes", "directions"))
    ops = n.outputs if what == "scan_output" else n.inputs[: len(n.node.attributes["body"].as_graph().inputs)]
    ranks = [0 if op is None else op.ndim for op in ops[len(ops) - count :]]
    return [
        _Walk(axis % max(rank, 1), bool(direction))
        for axis, direction, rank in zip(axes, directions, ranks, strict=False)
    ]


@rule("Loop")
def counted(n: NodeView, *grads: Op | None) -> Grads:
    """Of a loop whose number of iterations is known: it is written as a Scan, which is differentiated.

    Where a condition ends it, nobody knows how much there is to keep on the way back, so it is refused.
    """
    graph = n.y.graph
    body = n.node.attributes["body"].as_graph()
    length = _iterations(n, body)
    initial = _given(n.inputs[2 : len(body.inputs)])
    true = graph.constant(np.array(True))

    def step(carry: list[Op], i: Op) -> tuple[list[Op], list[Op]]:
        replay = Replay(graph, dict(zip(body.inputs, [i, true, *carry], strict=True)))
        outputs = replay.run(body, body.outputs[1:], body.initializers.values())
        return outputs[: len(initial)], outputs[len(initial) :]

    last, series = scan(step, initial, indices(graph, length))
    return swept([*last, *series], grads, n.inputs, n.wants)


_MOST = 2**31
"""Trip counts from here on mean that there is no limit."""
_BOUNDED = "use scan or fori_loop, or while_loop with max_iterations and differentiable=True"


def _iterations(n: NodeView, body: ir.Graph) -> int:
    given, start = n.optional(0), n.optional(1)
    if given is None or given.constant is None or int(given.constant.item()) >= _MOST:
        raise n.error("its number of iterations must be a constant", _BOUNDED)
    value: ir.Value | None = body.outputs[0]
    while value is not None and (made := value.producer()) is not None and made.op_type == "Identity":
        value = made.inputs[0]
    always = value is body.inputs[1] or _is_true(value)
    if not always or (start is not None and not _is_true(start.value)):
        raise n.error("a condition decides when it ends, so its number of iterations is not known", _BOUNDED)
    if (count := int(given.constant.item())) < 1:
        raise n.error("it has no iterations")
    return count


def _is_true(value: ir.Value | None) -> bool:
    """Whether a condition is a constant that says yes."""
    if value is None:
        return False
    made = value.producer()
    if made is not None and made.op_type == "Constant":
        return bool(made.attributes["value"].as_tensor().numpy())
    return value.const_value is not None and bool(value.const_value.numpy())


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
        length = n.input(carries).shape[_walks(n, "scan_input", n.attribute("num_scan_inputs"))[0].axis]
        ops = [graph.op_of(value) for value in body.inputs[:carries]]
        with graph.reopen(ops[0].scope if ops else graph.scope):
            copies = [graph.apply("Identity", [op])[0] for op in ops]
        body.outputs.extend(op.value for op in copies)
        graph.add_outputs(n.node, [(op.dtype, (length, *op.shape)) for op in ops], n.y.scope)
        for name in ("scan_output_axes", "scan_output_directions"):
            if n.attribute(name):
                n.node.attributes[name] = ir.AttrInt64s(name, [*n.attribute(name), *(0 for _ in ops)])
    return [graph.op_of(value) for value in n.node.outputs[n.node.meta[_STACKED] :][:carries]]
