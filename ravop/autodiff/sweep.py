"""The reverse sweep: gradients of some ops with respect to others, rule by rule, from the outputs back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import overload

import numpy as np
import onnx_ir as ir

from ravop.autodiff.joining import summed
from ravop.autodiff.replay import captures
from ravop.autodiff.rules import CONSTANT, RULES, NodeView
from ravop.errors import GradientError, RavenError
from ravop.graph.dtypes import is_float
from ravop.graph.graph import Graph
from ravop.graph.op import STOP_GRADIENT, Op

INLINED = "ravop.local"
"""The rule of calls of model-local functions is kept under their domain."""

BODY = "ravop.body"
"""The rule of operators without one of their own is kept under this name."""


@overload
def grad(loss: Op, wrt: Op) -> Op: ...
@overload
def grad(loss: Op, wrt: Sequence[Op]) -> list[Op]: ...
def grad(loss: Op, wrt: Op | Sequence[Op]) -> Op | list[Op]:
    """The gradient of `loss` with respect to one op, or to each of several: same shapes and dtypes as they.

    `loss` is a float scalar (one element). The gradients are ops of the current scope, and can be differentiated again.
    Raises `GradientError` where `loss` is no float scalar, where it does not depend on an op of `wrt` in a differentiable way,
    and where an operator on the way has no rule; it names the operator and the line that made it.

    Example:
        >>> R.grad(R.sum((x := R.t([1.0, 2.0])) ** 3), x)
        [3.0, 12.0]
    """
    targets = [wrt] if isinstance(wrt, Op) or not isinstance(wrt, Iterable) else list(wrt)
    for op in (loss, *targets):
        if not isinstance(op, Op):
            raise GradientError("only ops have gradients", expected="ops", received=repr(op))
    _check_loss(loss)
    found = sweep({loss: _ones(loss)}, targets)
    for target, gradient in zip(targets, found, strict=True):
        if gradient is None:
            raise _unreached(loss, target)
    gradients = [gradient for gradient in found if gradient is not None]
    return gradients[0] if isinstance(wrt, Op) else gradients


def _unreached(loss: Op, target: Op) -> GradientError:
    """Why no gradient of `loss` reaches `target`."""
    if not is_float(target.dtype):
        return GradientError(
            f"an op of {target.dtype} has no gradient",
            expected="a float op",
            received=repr(target),
            op=target.name,
            source=target.source,
            hint="make it a float with .astype('float32') first, and use that in the loss",
        )
    message, hint = "the loss does not depend on this op in a differentiable way", ""
    blocking = _first_blocking(loss.value, target.value)
    if blocking is None:
        message, hint = "the loss does not depend on this op", "use it in what the loss is made from"
    else:
        made = loss.graph.op_of(blocking.outputs[0])
        message = f"{message}: {blocking.op_type} {_why_blocked(blocking)}"
        hint = f"what blocks is {blocking.name}, made at {made.source}"
    return GradientError(
        message,
        expected="a float op that the loss was made from",
        received=repr(target),
        op=target.name,
        source=target.source,
        hint=hint,
    )


def _why_blocked(node: ir.Node) -> str:
    if STOP_GRADIENT in node.metadata_props:
        return "was told to stop gradients"
    if any(map(_is_float, node.outputs)):
        return "does not change with small changes of its inputs"
    return "gives no floats"


def _first_blocking(loss: ir.Value, target: ir.Value) -> ir.Node | None:
    """The first node on a way from `target` to `loss` that passes no gradient on; None where there is no way."""
    onward = {target}
    for node in _ancestors(loss):
        reads = (*(value for value in node.inputs if value is not None), *captures(node))
        if onward.isdisjoint(reads):
            continue
        if _is_constant(node) or not any(map(_is_float, node.outputs)):
            return node
        onward.update(node.outputs)
    return None


def _ancestors(value: ir.Value) -> list[ir.Node]:
    """The nodes that `value` was made by, producers before consumers."""
    done: set[ir.Node] = set()
    order: list[ir.Node] = []
    stack = [(value.producer(), False)]
    while stack:
        node, visited = stack.pop()
        if node is None or (node in done and not visited):
            continue
        if visited:
            order.append(node)
            continue
        done.add(node)
        stack.append((node, True))
        stack.extend((v.producer(), False) for v in (*node.inputs, *captures(node)) if v is not None)
    return order


def _check_loss(loss: Op) -> None:
    if not is_float(loss.dtype) or any(dim != 1 for dim in loss.shape):
        raise GradientError(
            "the loss must be a float scalar",
            expected="a float op of shape []",
            received=repr(loss),
            op=loss.name,
            source=loss.source,
            hint="reduce it first, such as with .mean()",
        )


def _ones(op: Op) -> Op:
    return op.graph.constant(np.ones(op.static_shape, dtype=op.dtype))


def sweep(seeds: Mapping[Op, Op], wrt: Sequence[Op], leaves: bool = False) -> list[Op | None]:
    """Vector-Jacobian products: for each op of `wrt` the sum over `seeds` of seed · d output / d op, None where no path leads.

    `seeds` maps outputs to their gradients. With `leaves`, the ops of `wrt` count as independent variables even where one
    was made from another, so nothing behind them is looked at.
    """
    graph = next(iter(seeds)).graph
    stop = {op.value for op in wrt} if leaves else set()
    order = _active_nodes([op.value for op in seeds], {op.value for op in wrt}, stop)
    active = {op.value for op in wrt} | {value for node in order for value in node.outputs}
    pending: dict[ir.Value, list[Op]] = {}
    for op, seed in seeds.items():
        pending.setdefault(op.value, []).append(seed)
    for node in reversed(order):
        if any(value in pending for value in node.outputs):
            for value, gradient in _apply_rule(graph, node, pending, active):
                pending.setdefault(value, []).append(gradient)
    return [summed(pending[op.value]) if op.value in pending else None for op in wrt]


def _active_nodes(outputs: Iterable[ir.Value], wrt: set[ir.Value], stop: set[ir.Value]) -> list[ir.Node]:
    """The nodes on a path of floats from `wrt` to `outputs`, producers before consumers."""
    depends: dict[ir.Value, bool] = {}
    order: list[ir.Node] = []
    stack = [(value, False) for value in outputs]
    while stack:
        value, visited = stack.pop()
        node = value.producer()
        if value in depends:
            continue
        if node is None or value in stop:
            depends[value] = value in wrt
            continue
        sources = _sources(node)
        if not visited:
            stack.append((value, True))
            stack.extend((source, False) for source in sources if source not in depends)
            continue
        reached = not _is_constant(node) and any(depends.get(source, False) for source in sources)
        if reached:
            order.append(node)
        for output in node.outputs:
            if output not in stop:
                depends[output] = output in wrt or (reached and _is_float(output))
    return order


def _sources(node: ir.Node) -> list[ir.Value]:
    """What a node reads that may pass a gradient on, captures of its bodies included."""
    given = [value for value in node.inputs if value is not None]
    return [value for value in (*given, *captures(node)) if _is_float(value)]


def _is_constant(node: ir.Node) -> bool:
    return (node.domain == "" and node.op_type in CONSTANT) or STOP_GRADIENT in node.metadata_props


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def _apply_rule(
    graph: Graph, node: ir.Node, pending: dict[ir.Value, list[Op]], active: set[ir.Value]
) -> list[tuple[ir.Value, Op]]:
    """(input, gradient) for each active input, of the node's rule; the gradients of its outputs are settled."""
    sources = [*node.inputs, *captures(node)]
    view = NodeView(
        node,
        tuple(None if value is None else graph.op_of(value) for value in sources),
        tuple(graph.op_of(value) for value in node.outputs),
        tuple(value is not None and value in active and _is_float(value) for value in sources),
    )
    function = RULES.get(INLINED if node.domain == INLINED else node.op_type, RULES[BODY])
    # Settled: nothing is added to an output's gradient any more, and the sum is made once.
    for value in node.outputs:
        if len(pending.get(value, ())) > 1:
            pending[value] = [summed(pending[value])]
    gradients = [pending[value][0] if value in pending else None for value in node.outputs]
    layer, _, _ = (node.name or "").removeprefix(graph.prefix).rpartition("/")
    try:
        with graph.label(f"{layer}/grad" if layer else "grad"):
            found = function(view, *gradients)
    except RavenError as error:
        raise _located(error, view) from error
    return [
        (value, gradient)
        for value, gradient, wanted in zip(sources, found, view.wants, strict=False)
        if value is not None and gradient is not None and wanted
    ]


def _located(error: RavenError, view: NodeView) -> RavenError:
    return error if isinstance(error, GradientError) else view.error(error.problem.message)
