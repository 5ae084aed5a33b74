"""Branches and loops. What is known at import is walked: the taken branch, and loops that carry sequences, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ravop.errors import InvalidModelError, UnsupportedOnnxError
from ravop.graph import tree
from ravop.graph.control import close, indices
from ravop.graph.dtypes import BOOL, INT, DType
from ravop.graph.infer import Dim, Shape
from ravop.graph.op import Op
from ravop.graph.scope import Scope
from ravop.importing.values import Node, Value, handles, shape_of
from ravop.protocol.tensors import Array

if TYPE_CHECKING:
    from ravop.importing.walk import Walk

_UNROLLED = 1000
"""Iterations of a loop that are written out."""
MAX_PARTS = 10_000
"""Elements of a sequence, or samples of a batch, that are worked on one by one."""
_RELAXED = 8
"""Times that a loop's body is traced until the shapes that it carries are known."""


# ── branches ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@handles("If")
def branch(walk: Walk, node: Node) -> Sequence[Value]:
    bodies = [node.attributes["then_branch"], node.attributes["else_branch"]]
    known = walk.static(node.input(0))
    if known is not None:
        return walk.body(bodies[0 if _flag(known, "the condition of an If") else 1], node.frame, {})
    scopes: list[Scope] = []
    results: list[list[Value]] = []
    for name, body in zip(("then", "else"), bodies, strict=True):
        with walk.graph.body(name) as scope:
            results.append([walk.as_ops(value) for value in walk.body(body, node.frame, {})])
            close(walk.graph, scope, tree.leaves(results[-1]))
        scopes.append(scope)
    if tree.form(results[0]) != tree.form(results[1]):
        raise UnsupportedOnnxError(
            "the branches of an If give sequences or optionals of different forms", expected=tree.form(results[0]),
            received=tree.form(results[1]), hint="give the condition as an array, so that it is known at import",
        )  # fmt: skip
    types = [_either(*pair) for pair in zip(tree.leaves(results[0]), tree.leaves(results[1]), strict=True)]
    made = walk.graph.apply(
        "If",
        [walk.op(node.input(0))],
        {"then_branch": scopes[0].ir, "else_branch": scopes[1].ir},
        outputs=types,
    )
    return tree.rebuild(results[0], iter(made))  # type: ignore[no-any-return]


def _flag(array: Array, what: str) -> bool:
    return bool(_one(array, what, "b"))


def _one(array: Array, what: str, kinds: str = "iu") -> Any:
    """The only element of `array`. Raises `InvalidModelError`."""
    if array.size != 1 or array.dtype.kind not in kinds:
        raise InvalidModelError(f"{what} is of another form", expected="one truth value" if kinds == "b" else "one whole number",
                                received=f"{array.dtype}{list(array.shape)}")  # fmt: skip
    return array.ravel()[0]


def _either(first: Op, second: Op) -> tuple[DType, Shape]:
    if first.dtype != second.dtype or first.ndim != second.ndim:
        raise UnsupportedOnnxError(
            "the branches of an If give different dtypes or numbers of axes", expected=f"{first.dtype}{list(first.shape)}",
            received=f"{second.dtype}{list(second.shape)}", hint="give the condition as an array, so that it is known at import",
        )  # fmt: skip
    return first.dtype, _common(first.shape, second.shape)


def _common(first: Shape, second: Shape) -> Shape:
    """What both shapes say; unknown where they differ."""
    return tuple(one if one == other else None for one, other in zip(first, second, strict=True))


# ── Loop ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@handles("Loop")
def loop(walk: Walk, node: Node) -> Sequence[Value]:
    carries = node.inputs[2:]
    if any(value is None or isinstance(value, list) for value in carries):
        return _unrolled(walk, node)
    ops = [walk.op(value) for value in carries]
    shapes = [op.shape for op in ops]
    if len(node.attributes["body"].input) != len(ops) + 2 or len(node.attributes["body"].output) <= len(ops):
        raise InvalidModelError("a loop and its body carry different values", expected=f"{len(ops)} carried values",
                                received=f"a body that takes {len(node.attributes['body'].input)} and gives "
                                f"{len(node.attributes['body'].output)}")  # fmt: skip
    for _ in range(_RELAXED):
        scope, again, results = _loop_body(
            walk, node, [(op.dtype, s) for op, s in zip(ops, shapes, strict=True)]
        )
        outs, scans = results[: len(ops)], results[len(ops) :]
        for op, out in zip(ops, outs, strict=True):
            if (out.dtype, out.ndim) != (op.dtype, op.ndim):
                raise UnsupportedOnnxError(
                    "a loop changes the dtype or the number of axes of what it carries", expected=f"{op.dtype}{list(op.shape)}",
                    received=f"{out.dtype}{list(out.shape)}", hint="export the model with the loop written out",
                )  # fmt: skip
        wider = [_common(shape, out.shape) for shape, out in zip(shapes, outs, strict=True)]
        if wider == shapes:
            break
        shapes = wider
    bound, start = walk.static(node.input(0)), walk.static(node.input(1))
    endless = again and (node.input(1) is None or (start is not None and bool(start)))
    count: Dim = None if bound is None else max(0, int(_one(bound, "the trip count of a loop")))
    count = count if endless else None
    types = [(op.dtype, shape) for op, shape in zip(outs, shapes, strict=True)]
    types += [(op.dtype, (count, *op.shape)) for op in scans]
    first = None if node.input(0) is None else walk.op(_scalar(walk, node.input(0)))
    second = None if node.input(1) is None else walk.op(_scalar(walk, node.input(1)))
    return walk.graph.apply("Loop", [first, second, *ops], {"body": scope.ir}, outputs=types)


def _scalar(walk: Walk, value: Value) -> Value:
    """Trip counts and conditions may come as vectors of one element."""
    return value if shape_of(value) == () else walk.node("Reshape", value, np.zeros(0, dtype=np.int64))


def _loop_body(walk: Walk, node: Node, types: Sequence[tuple[DType, Shape]]) -> tuple[Scope, bool, list[Op]]:
    """Trace the body for carries of these types. → its scope, whether it always goes on, what it gives after the condition."""
    body: onnx.GraphProto = node.attributes["body"]
    graph = walk.graph
    with graph.body("loop") as scope:
        counter, going = graph.placeholder(INT, ()), graph.placeholder(BOOL, ())
        scope.make_counter = lambda: counter
        inside = [graph.placeholder(*type) for type in types]
        names = [info.name for info in body.input]
        values: dict[str, Value] = dict(zip(names, [counter, going, *inside], strict=True))
        again, *results = walk.body(body, node.frame, values)
        known = walk.static(again)
        always = again is going or (known is not None and bool(np.ravel(known)[0]))
        ops = [walk.op(value) for value in results]
        close(graph, scope, [walk.op(again), *ops])
    return scope, always, ops


def _unrolled(walk: Walk, node: Node) -> list[Value]:
    """A loop that carries sequences or optionals, iteration by iteration: how often must be known."""
    body: onnx.GraphProto = node.attributes["body"]
    names = [info.name for info in body.input]
    bound, carries = walk.static(node.input(0)), list(node.inputs[2:])
    going = walk.static(node.input(1)) if node.input(1) is not None else np.array(True)
    scans: list[list[Value]] = [[] for _ in range(len(body.output) - 1 - len(carries))]
    if node.input(0) is not None and bound is None:
        raise _unknown_count("a trip count that is known at import")
    limit = _UNROLLED if bound is None else int(np.ravel(bound)[0])
    number = 0
    while number < limit:
        if going is None:
            raise _unknown_count("a condition that is known at import")
        if not bool(np.ravel(going)[0]):
            break
        values = dict(zip(names, [np.array(number), np.array(True), *carries], strict=True))
        again, *results = walk.body(body, node.frame, values)
        going, carries = walk.static(again), results[: len(carries)]
        for series, value in zip(scans, results[len(carries) :], strict=True):
            series.append(value)
        number += 1
        if number > _UNROLLED or (number == limit and bound is None):
            raise _unknown_count(f"at most {_UNROLLED} iterations")
    return [*carries, *(stacked(walk, series) for series in scans)]


def _unknown_count(expected: str) -> UnsupportedOnnxError:
    return UnsupportedOnnxError(
        "a loop carries a sequence or an optional, and how often it runs is not known", expected=expected,
        received="a value that is computed later", hint="give it as an array, or carry tensors of fixed shape",
    )  # fmt: skip


def stacked(walk: Walk, values: Sequence[Value], axis: int = 0) -> Value:
    """The tensors along a new axis."""
    if not values:
        raise UnsupportedOnnxError(
            "nothing is stacked: a loop or a sequence is empty", expected="at least one tensor"
        )
    made: Value = walk.node(
        "Concat", *(walk.node("Unsqueeze", v, np.array([axis])) for v in values), axis=axis
    )
    return made


# ── Scan ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@handles("Scan", last=8)
def scan_of_batches(walk: Walk, node: Node) -> Sequence[Value]:
    """The first form of Scan goes over the samples of a batch one by one: each is a Scan of today."""
    lengths, *inputs = node.inputs
    size = shape_of(inputs[0])[0]
    if lengths is not None or not isinstance(size, int):
        raise UnsupportedOnnxError(
            "a Scan of opset 8 with sequence_lens, or a batch of unknown size",
            hint="export for opset 9 or later",
        )
    if size > MAX_PARTS:
        raise UnsupportedOnnxError("a Scan of opset 8 has too large a batch", expected=f"at most {MAX_PARTS:,} samples",
                                   received=size, hint="export for opset 9 or later")  # fmt: skip
    found = []
    for number in range(size):
        sample = [walk.node("Gather", value, np.array(number), axis=0) for value in inputs]
        attributes = dict(node.attributes)
        attributes["scan_input_directions"] = attributes.pop("directions", [])
        found.append(
            scan(walk, Node("Scan", node.name, 9, sample, attributes, node.outputs, frame=node.frame))
        )
    return [stacked(walk, values) for values in zip(*found, strict=True)]


@handles("Scan", first=9)
def scan(walk: Walk, node: Node) -> Sequence[Value]:
    """Axes and directions are arranged outside of the loop, so that the loop goes forward along first axes."""
    body: onnx.GraphProto = node.attributes["body"]
    graph, count = walk.graph, node.attributes["num_scan_inputs"]
    if not 1 <= count <= len(node.inputs) or len(node.inputs) != len(body.input):
        raise InvalidModelError("a Scan and its body take different inputs", expected=f"{len(body.input)} inputs",
                                received=f"{len(node.inputs)}, of which {count} are walked along")  # fmt: skip
    states = [walk.op(value) for value in node.inputs[:-count]]
    sliced = [
        walk.op(_arranged(walk, value, axis, direction))
        for value, axis, direction in zip(node.inputs[-count:], *_settings(node, "input", count), strict=True)
    ]
    length = sliced[0].shape[0]
    with graph.body("scan") as scope:
        scope.make_counter = lambda: graph.placeholder(INT, (), scope)
        inside = [graph.placeholder(op.dtype, op.shape) for op in states]
        inside += [graph.placeholder(op.dtype, op.shape[1:]) for op in sliced]
        values: dict[str, Value] = dict(zip([info.name for info in body.input], inside, strict=True))
        results = [walk.op(value) for value in walk.body(body, node.frame, values)]
        for before, after in zip(states, results, strict=False):
            if (before.dtype, before.shape) != (after.dtype, after.shape):
                raise InvalidModelError(
                    "a Scan changes what it carries", expected=f"{before.dtype}{list(before.shape)}",
                    received=f"{after.dtype}{list(after.shape)}",
                )  # fmt: skip
        close(graph, scope, results)
    inputs = [*states, *sliced]
    if scope.counted:
        if not isinstance(length, int):
            raise UnsupportedOnnxError("random numbers are drawn in a loop of unknown length")
        inputs.append(indices(graph, length))
    types = [(op.dtype, op.shape) for op in results[: len(states)]]
    types += [(op.dtype, (length, *op.shape)) for op in results[len(states) :]]
    made: list[Value] = list(
        graph.apply(
            "Scan", inputs, {"body": scope.ir, "num_scan_inputs": count + scope.counted}, outputs=types
        )
    )
    stacks = made[len(states) :]
    axes, directions = _settings(node, "output", len(stacks))
    made[len(states) :] = [
        _arranged(walk, value, axis, direction, back=True)
        for value, axis, direction in zip(stacks, axes, directions, strict=True)
    ]
    return made


def _settings(node: Node, side: str, count: int) -> tuple[list[int], list[int]]:
    axes = node.attributes.get(f"scan_{side}_axes") or [0] * count
    directions = node.attributes.get(f"scan_{side}_directions") or [0] * count
    return axes, directions


def _arranged(walk: Walk, value: Value, axis: int, direction: int, back: bool = False) -> Any:
    """`value` with `axis` as the first one, or with the first one back as `axis`; reversed along it for direction 1."""
    rank = len(shape_of(value))
    axis %= rank
    if direction:
        turned: list[Array] = [np.array([n]) for n in (-1, np.iinfo(np.int64).min, 0 if back else axis, -1)]
        value = walk.node("Slice", value, *turned)
    if not axis:
        return value
    others = [other for other in range(rank) if other != axis]
    order = [axis, *others]
    return walk.node("Transpose", value, perm=[order.index(n) for n in range(rank)] if back else order)
