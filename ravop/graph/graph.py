"""`Graph`: what a script defines. It traces ops into onnx-ir and keeps what ONNX does not say (see `manifest`)."""

from __future__ import annotations

import operator
import reprlib
import uuid
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

import onnx_ir as ir

from ravop.errors import ArgumentError, DuplicateNameError, GraphStateError, NoGraphError, ScopeError
from ravop.graph.infer import opset_for
from ravop.graph.manifest import MAX_NAME, MAX_NOTE, MAX_NOTES, Binding, Manifest, Persisted
from ravop.graph.op import Op
from ravop.graph.serde import PRODUCER, ir_version_for
from ravop.graph.source import describe, user_line
from ravop.graph.trace import GraphState, Tracer

APPROACHES = ("distributed", "federated")


class RunState(Protocol):
    """How a graph that was sent away reports back; given by the client."""

    def fetch(self, op: Op) -> Any: ...
    def status(self, op: Op) -> str: ...
    def wait(self, op: Op, timeout: float | None) -> None: ...


class Graph(Tracer):
    """A graph being defined; the newest one is the current graph, to which operators add.

    Args:
        name: any text, shown by the tools.
        algorithm: any text.
        approach: `"distributed"` or `"federated"`.
        rules: wishes to the planner, see `Manifest.rules`.
        seed: of all random ops; the same seed gives the same values everywhere.
    """

    def __init__(
        self,
        name: str = "graph",
        algorithm: str = "",
        approach: str = "distributed",
        rules: Mapping[str, float | int | str | bool] | None = None,
        seed: int = 0,
    ) -> None:
        if approach not in APPROACHES:
            raise _wrong("approach", " or ".join(APPROACHES), approach)
        for argument, text in (("name", name), ("algorithm", algorithm)):
            if not isinstance(text, str):
                raise _wrong(argument, "text", text)
        super().__init__(name)
        self.id = uuid.uuid4().hex[:16]
        self.algorithm = algorithm
        self.approach = approach
        self.rules = _rules(rules)
        self.seed = _seed(seed)
        self.functions: dict[ir.OperatorIdentifier, ir.Function] = {}
        self.traced: dict[Hashable, Any] = {}
        """Functions by signature; kept by `ravop.graph.control`."""
        self.draws = 0
        """Random ops and calls of functions with random ops so far, each with a number of its own."""
        self.persisted: dict[str, Persisted] = {}
        self.parameters: dict[str, Op] = {}
        """What can be trained of imported models, by name; see `ravop.import_onnx`."""
        self.metrics: dict[str, str] = {}
        self.notes: list[str] = []
        self._run_state: RunState | None = None
        set_current_graph(self)

    # ── what leaves the script ───────────────────────────────────────────────────────────────────────────────────────
    def persist(
        self, op: Op, name: str, axes: int = 0, first: tuple[int, ...] = (), inner: bool = False
    ) -> None:
        """See `Op.persist_op` and `Op.persist_each`, and `Persisted.inner`."""
        self._check_open()
        if op.graph is not self or op.scope is not self.main:
            raise ScopeError(
                "only ops of the main graph can be persisted",
                op=op.name,
                source=op.source,
                hint="return the value from the loop's body and persist what the loop returns",
            )
        if not isinstance(name, str) or len(name) > MAX_NAME:
            raise _wrong("name of a persisted op", f"text of up to {MAX_NAME} characters", name)
        if not name or name in self.persisted:
            raise DuplicateNameError(
                f"the name {name!r} cannot be used",
                expected="a name of its own for each persisted op",
                received=f"{name!r}, already in use" if name else "an empty name",
                source=describe(user_line()),
                hint="choose another name, or start a new graph with ravop.Graph(...)",
            )
        if axes > op.ndim or (first and len(first) != axes):
            raise ArgumentError(
                "the name does not fit the op",
                expected=f"one {{}} for each of up to {op.ndim} axes",
                received=name,
                source=describe(user_line()),
            )
        if op.value.is_graph_input() or op.value.is_initializer():
            (op,) = self.apply("Identity", [op])
        self.persisted[name] = Persisted(
            name=name, value=op.name, axes=axes, first=first or (0,) * axes, inner=inner
        )
        if not op.value.is_graph_output():
            self.main.ir.outputs.append(op.value)

    def report(self, label: str, op: Op) -> None:
        """Show the latest value of a persisted scalar, or series of scalars, as `label` in progress displays."""
        self.metrics[label] = op.name

    def note(self, text: str) -> None:
        """Show `text` with the plan, once. The first `MAX_NOTES` are kept, and `MAX_NOTE` characters of each."""
        if text not in self.notes and len(self.notes) < MAX_NOTES:
            self.notes.append(text if len(text) <= MAX_NOTE else text[: MAX_NOTE - 1] + "…")

    def model(self) -> ir.Model:
        """The graph as an ONNX model whose outputs are the persisted ops. Shares its nodes with this graph."""
        if not self.persisted:
            raise GraphStateError(
                "the graph persists nothing, so there is nothing to compute",
                expected="at least one op.persist_op(name=...)",
                received=f"{len(self._ops)} ops",
                hint="persist the ops whose values you want to fetch",
            )
        opset = opset_for({op.dtype for op in self._ops.values()})
        for scope in (self.main.ir, *(function.graph for function in self.functions.values())):
            scope.opset_imports[""] = opset
        return ir.Model(
            self.main.ir,
            ir_version=ir_version_for(opset),
            producer_name=PRODUCER,
            functions=tuple(self.functions.values()),
        )

    def manifest(self, bindings: Sequence[Binding]) -> Manifest:
        return Manifest(
            graph_id=self.id, name=self.name, algorithm=self.algorithm, approach=self.approach, rules=self.rules,
            bindings=tuple(bindings), persisted=tuple(self.persisted.values()), metrics=self.metrics,
            sources=tuple(describe(line) for line in self.lines), node_sources=self.node_lines,
            notes=tuple(self.notes),
        )  # fmt: skip

    # ── Raven's names ────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def ops(self) -> list[Op]:
        """All ops made so far."""
        return list(self._ops.values())

    def get_ops_by_name(self, op_name: str) -> list[Op]:
        """The ops made by the ONNX operator of this name, such as `MatMul`; or the one persisted under it."""
        if op_name in self.persisted:
            wanted = self.persisted[op_name].value
            return [op for op in self.ops if op.name == wanted]
        return [
            op
            for op in self.ops
            if (node := op.value.producer()) is not None and node.op_type.lower() == op_name.lower()
        ]

    def end(self) -> None:
        """Stop defining without activating: later operators need a new graph."""
        if current_graph_or_none() is self:
            set_current_graph(None)

    def run_state(self) -> RunState:
        """Raises `GraphStateError` before the graph was activated."""
        if self._run_state is None:
            raise GraphStateError(
                "nothing is computed yet", hint="call ravop.activate() and ravop.execute() first"
            )
        return self._run_state

    def attach(self, run_state: RunState) -> None:
        self._run_state = run_state


def _wrong(argument: str, expected: str, received: object) -> ArgumentError:
    return ArgumentError(
        f"this {argument} cannot be used",
        expected=expected,
        received=reprlib.repr(received),
        source=describe(user_line()),
    )


def _seed(seed: int) -> int:
    try:
        return operator.index(seed)
    except TypeError:
        raise _wrong("seed", "a whole number", seed) from None


def _rules(rules: Mapping[str, float | int | str | bool] | None) -> dict[str, float | int | str | bool]:
    found = dict(rules or {})
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, float | int | str):
            raise _wrong("rule", "text as its name, a number or text as its value", {key: value})
    return found


_current: Graph | None = None


def set_current_graph(graph: Graph | None) -> None:
    global _current
    _current = graph


def current_graph_or_none() -> Graph | None:
    return _current


def current_graph() -> Graph:
    """The graph being defined. Raises `NoGraphError` when there is none."""
    if _current is None:
        raise NoGraphError(
            "there is no graph: nothing is being defined",
            source=describe(user_line()),
            hint="create one first: ravop.Graph(name=..., algorithm=..., approach='distributed')",
        )
    return _current


def graph_of(*operands: object) -> Graph:
    """The graph that an operator on these operands belongs to: that of the first op among them, else the current one.

    Raises `NoGraphError` when there is neither an op nor a graph being defined.
    """
    for operand in operands:
        if isinstance(operand, Op):
            return operand.graph
    return current_graph()


__all__ = [
    "APPROACHES",
    "Graph",
    "GraphState",
    "RunState",
    "current_graph",
    "current_graph_or_none",
    "graph_of",
    "set_current_graph",
]
