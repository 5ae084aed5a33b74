"""`Graph`: what a script defines. It traces ops into onnx-ir and keeps what ONNX does not say (see `manifest`)."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike

from ravop.errors import (
    ArgumentError,
    DTypeError,
    DuplicateNameError,
    GraphStateError,
    NoGraphError,
    RavenError,
    ScopeError,
)
from ravop.graph.dtypes import DType, as_array, to_ir
from ravop.graph.infer import Shape, TensorType, constant_type, infer
from ravop.graph.manifest import Binding, Manifest, Persisted
from ravop.graph.op import Op, Operand
from ravop.graph.scope import Scope
from ravop.graph.serde import IR_VERSION, PRODUCER, ir_attributes, ir_shape
from ravop.graph.source import Line, describe, user_line
from ravop.protocol.tensors import INLINE_LIMIT, Array

APPROACHES = ("distributed", "federated")


class GraphState(enum.Enum):
    DEFINING = "defining"
    ACTIVE = "active"
    EXECUTING = "executing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunState(Protocol):
    """How a graph that was sent away reports back; given by the client."""

    def fetch(self, op: Op) -> Any: ...
    def status(self, op: Op) -> str: ...
    def wait(self, op: Op, timeout: float | None) -> None: ...


class Graph:
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
            raise ArgumentError("unknown approach", expected=" or ".join(APPROACHES), received=repr(approach))
        self.id = uuid.uuid4().hex[:16]
        self.name = name
        self.algorithm = algorithm
        self.approach = approach
        self.rules = dict(rules or {})
        self.seed = seed
        self.state = GraphState.DEFINING
        self.main = Scope("main", None)
        self.scope = self.main
        self.functions: dict[ir.OperatorIdentifier, ir.Function] = {}
        self.traced: dict[Hashable, Any] = {}
        """Functions by signature; kept by `ravop.graph.control`."""
        self.draws = 0
        """Random ops and calls of functions with random ops so far, each with a number of its own."""
        self.inputs: dict[str, Array] = {}
        self.persisted: dict[str, Persisted] = {}
        self.metrics: dict[str, str] = {}
        self.lines: dict[Line, int] = {}
        self.node_lines: dict[str, int] = {}
        self._ops: dict[ir.Value, Op] = {}
        self._labels: list[str] = []
        self._label_prefix = ""
        self._counter = 0
        self._run_state: RunState | None = None
        set_current_graph(self)

    # ── making ops ───────────────────────────────────────────────────────────────────────────────────────────────────
    def apply(
        self,
        op_type: str,
        inputs: Sequence[Op | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        outputs: Sequence[tuple[DType, Shape]] | None = None,
    ) -> tuple[Op, ...]:
        """Add one ONNX node to the current scope. → its outputs.

        The single door through which nodes are made. `attributes` are Python values, arrays or `ir.Graph`s. `outputs`
        gives the output types where ONNX cannot infer them (loops, functions).
        Raises `ShapeError`, `DTypeError`, `ScopeError`, `GraphStateError`, each with the user's line.
        """
        line = user_line()
        try:
            self._check_open()
            inputs = [None if op is None else self._usable(op) for op in inputs]
            if outputs is None:
                types = infer(op_type, [None if op is None else op.type for op in inputs], attributes or {})
            else:
                types = tuple([TensorType(dtype, shape) for dtype, shape in outputs])
        except RavenError as error:
            raise self._located(error, line, op_type) from None
        values = [self._new_value(type) for type in types]
        self._counter += 1
        name = f"{self._label_prefix}{op_type}_{self._counter}"
        node = ir.Node(
            domain,
            op_type,
            [None if op is None else op.value for op in inputs],
            ir_attributes(attributes) if attributes else (),
            outputs=values,
            name=name,
        )
        self.scope.ir.append(node)
        self.node_lines[name] = self.lines.setdefault(line, len(self.lines))
        return tuple([self._op(*pair, line) for pair in zip(values, types, strict=True)])

    def add_outputs(self, node: ir.Node, outputs: Sequence[tuple[DType, Shape]], scope: Scope) -> tuple[Op, ...]:
        """More outputs, of these types, of a node of `scope`, such as those that a gradient needs of a loop. → the new ones."""
        first = len(node.outputs)
        node.resize_outputs(first + len(outputs))
        types = [TensorType(dtype, shape) for dtype, shape in outputs]
        for value, type in zip(node.outputs[first:], types, strict=True):
            made = self._new_value(type)
            value.name, value.type, value.shape = made.name, made.type, made.shape
        return tuple(
            self._op(value, type, user_line(), scope) for value, type in zip(node.outputs[first:], types, strict=True)
        )

    def constant(self, array: Array) -> Op:
        """A constant of the current scope, made once per value. Up to `INLINE_LIMIT` bytes."""
        key = (array.dtype.char, array.shape, array.tobytes())
        found = self.scope.constants.get(key)
        if found is None:
            found = self.scope.constants[key] = self._new_constant(array)
        return found

    def integers(self, numbers: Iterable[int]) -> Op:
        """A constant vector of int64, made once per scope: the sizes, axes or indices that an operator takes."""
        key = tuple(numbers)
        found = self.scope.constants.get(key)
        if found is None:
            found = self.scope.constants[key] = self.constant(np.array(key, dtype=np.int64))
        return found

    def variable(self, value: Any, dtype: DTypeLike | None = None) -> Op:
        """`value` as an op of its own, such as a parameter that a gradient is taken of. See `ravop.t`."""
        array = self._array(value, dtype)
        return self._new_constant(array) if array.nbytes <= INLINE_LIMIT else self.input(array)

    def _new_constant(self, array: Array) -> Op:
        self._check_open()
        if self.scope.is_function:  # ONNX functions have no initializers
            (op,) = self.apply("Constant", [], {"value": array}, outputs=[(array.dtype, array.shape)])
            op.type = constant_type(array)
            return op
        type = constant_type(array)
        value = self._new_value(type)
        value.const_value = ir.Tensor(array, name=value.name)
        self.scope.ir.register_initializer(value)
        return self._op(value, type, user_line())

    def input(self, array: Array) -> Op:
        """A graph input bound to `array`: shipped once, as a blob, however often and deep it is used."""
        op = self.placeholder(array.dtype, array.shape, self.main)
        self.inputs[op.name] = array
        return op

    def placeholder(self, dtype: DType, shape: Shape, scope: Scope | None = None) -> Op:
        """A new input of `scope` (the current one), without a value: a loop's carry, a function's argument, a model's input."""
        self._check_open()
        scope = scope or self.scope
        type = TensorType(dtype, shape)
        value = self._new_value(type)
        scope.ir.inputs.append(value)
        return self._op(value, type, user_line(), scope)

    def tensor(self, value: Operand, dtype: DTypeLike | None = None) -> Op:
        """`value` as an op of this graph: itself, a constant, or a bound input when it is large. See `ravop.t`."""
        if isinstance(value, Op):
            return value
        array = self._array(value, dtype)
        return self.constant(array) if array.nbytes <= INLINE_LIMIT else self.input(array)

    def _array(self, value: Any, dtype: DTypeLike | None) -> Array:
        try:
            return as_array(value, dtype)
        except RavenError as error:
            raise self._located(error, user_line(), "t") from None

    def op_of(self, value: ir.Value) -> Op:
        """The op of an ONNX value of this graph."""
        return self._ops[value]

    # ── scopes and labels ────────────────────────────────────────────────────────────────────────────────────────────
    @contextmanager
    def body(self, name: str, is_function: bool = False) -> Iterator[Scope]:
        """Trace into a new scope inside the current one: the body of a loop, a branch or a function."""
        with self.reopen(Scope(self._fresh(name), self.scope, is_function)) as scope:
            yield scope

    @contextmanager
    def reopen(self, scope: Scope) -> Iterator[Scope]:
        """Trace into `scope`, also into a body that was left: differentiating a loop makes its body give more."""
        before, self.scope = self.scope, scope
        try:
            yield scope
        finally:
            self.scope = before

    @contextmanager
    def label(self, name: str) -> Iterator[None]:
        """Prefix the names of nodes made inside, such as with a layer's name, so that errors can tell the layer."""
        self._labels.append(name)
        self._label_prefix = "/".join(self._labels) + "/"
        try:
            yield
        finally:
            self._labels.pop()
            self._label_prefix = "/".join(self._labels) + "/" if self._labels else ""

    # ── what leaves the script ───────────────────────────────────────────────────────────────────────────────────────
    def persist(self, op: Op, name: str, axes: int = 0, first: tuple[int, ...] = ()) -> None:
        """See `Op.persist_op` and `Op.persist_each`."""
        self._check_open()
        if op.graph is not self or op.scope is not self.main:
            raise ScopeError(
                "only ops of the main graph can be persisted", op=op.name, source=op.source,
                hint="return the value from the loop's body and persist what the loop returns",
            )
        if not name or name in self.persisted:
            raise DuplicateNameError(
                f"the name {name!r} cannot be used", expected="a name of its own for each persisted op",
                received=f"{name!r}, already in use" if name else "an empty name", source=describe(user_line()),
            )
        if axes > op.ndim or (first and len(first) != axes):
            raise ArgumentError("the name does not fit the op", expected=f"one {{}} for each of up to {op.ndim} axes", received=name)
        if op.value.is_graph_input() or op.value.is_initializer():
            (op,) = self.apply("Identity", [op])
        self.persisted[name] = Persisted(name=name, value=op.name, axes=axes, first=first or (0,) * axes)
        if not op.value.is_graph_output():
            self.main.ir.outputs.append(op.value)

    def report(self, label: str, op: Op) -> None:
        """Show the latest value of a persisted scalar, or series of scalars, as `label` in progress displays."""
        self.metrics[label] = op.name

    def model(self) -> ir.Model:
        """The graph as an ONNX model whose outputs are the persisted ops. Shares its nodes with this graph."""
        if not self.persisted:
            raise GraphStateError(
                "the graph persists nothing, so there is nothing to compute", expected="at least one op.persist_op(name=...)",
                received=f"{len(self._ops)} ops", hint="persist the ops whose values you want to fetch",
            )
        return ir.Model(self.main.ir, ir_version=IR_VERSION, producer_name=PRODUCER, functions=tuple(self.functions.values()))

    def manifest(self, bindings: Sequence[Binding]) -> Manifest:
        return Manifest(
            graph_id=self.id, name=self.name, algorithm=self.algorithm, approach=self.approach, rules=self.rules,
            bindings=tuple(bindings), persisted=tuple(self.persisted.values()), metrics=self.metrics,
            sources=tuple(describe(line) for line in self.lines), node_sources=self.node_lines,
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
        return [op for op in self.ops if (node := op.value.producer()) is not None and node.op_type.lower() == op_name.lower()]

    def end(self) -> None:
        """Stop defining without activating: later operators need a new graph."""
        if current_graph_or_none() is self:
            set_current_graph(None)

    def run_state(self) -> RunState:
        """Raises `GraphStateError` before the graph was activated."""
        if self._run_state is None:
            raise GraphStateError("nothing is computed yet", hint="call ravop.activate() and ravop.execute() first")
        return self._run_state

    def attach(self, run_state: RunState) -> None:
        self._run_state = run_state

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _new_value(self, type: TensorType) -> ir.Value:
        self._counter += 1
        return ir.Value(name=f"v{self._counter}", type=ir.TensorType(to_ir(type.dtype)), shape=ir_shape(type.shape))

    def _op(self, value: ir.Value, type: TensorType, line: Line, scope: Scope | None = None) -> Op:
        op = self._ops[value] = Op(value, self, scope or self.scope, type, line)
        return op

    def _fresh(self, kind: str) -> str:
        self._counter += 1
        return f"{self._label_prefix}{kind}_{self._counter}"

    def _check_open(self) -> None:
        if self.state is not GraphState.DEFINING:
            raise GraphStateError(
                "the graph is activated: no more ops can be added", expected="a graph being defined",
                received=f"graph {self.name!r}, {self.state.value}", hint="start a new one with ravop.Graph(...)",
            )

    def _usable(self, op: Op) -> Op:
        """`op`, or inside a function the argument that an outer op comes in as. Raises `ScopeError`."""
        if op.scope is self.scope and op.graph is self:
            return op
        if op.graph is not self:
            raise ScopeError(
                "an op of another graph cannot be used here", expected=f"an op of graph {self.name!r}",
                received=f"an op of graph {op.graph.name!r}, made at {op.source}",
                hint="fetch its value and use that as a constant",
            )
        if not op.scope.encloses(self.scope):
            raise ScopeError(
                "an op from inside a loop's body or function was used outside of it", received=f"{op.name}, made at {op.source}",
                hint="return it from the body",
            )
        function = self.scope.function
        if function is None or function.encloses(op.scope):
            return op
        if op not in function.captured:
            function.captured[op] = self.placeholder(op.dtype, op.shape, function)
        return function.captured[op]

    def _located(self, error: RavenError, line: Line, op_type: str) -> RavenError:
        p = error.problem
        return type(error)(
            p.message, expected=p.expected, received=p.received, hint=p.hint, op=f"{self._label_prefix}{op_type}", source=describe(line)
        )


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
            "there is no graph to add this op to", source=describe(user_line()),
            hint="create one first: ravop.Graph(name=..., algorithm=..., approach='distributed')",
        )
    return _current


def graph_of(*operands: object) -> Graph:
    """The graph that an operator on these operands belongs to: that of the first op among them, else the current one.

    Raises `DTypeError` when there is neither an op nor a current graph to make a constant in.
    """
    for operand in operands:
        if isinstance(operand, Op):
            return operand.graph
    return current_graph()


__all__ = ["APPROACHES", "DTypeError", "Graph", "GraphState", "RunState", "current_graph", "graph_of", "set_current_graph"]
