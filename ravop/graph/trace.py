"""`Tracer`: makes the nodes, constants, inputs and scopes of a graph. `Graph` is built on it, and nothing else."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike

from ravop.errors import GraphStateError, RavenError, ScopeError
from ravop.graph.dtypes import DType, as_array
from ravop.graph.infer import Shape, TensorType, constant_type, infer
from ravop.graph.op import Op, Operand
from ravop.graph.scope import Scope
from ravop.graph.serde import ir_attributes, ir_shape, ir_type
from ravop.graph.source import Line, describe, user_line
from ravop.protocol.tensors import INLINE_LIMIT, Array

if TYPE_CHECKING:
    from ravop.graph.graph import Graph


class GraphState(enum.Enum):
    DEFINING = "defining"
    ACTIVE = "active"
    EXECUTING = "executing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Tracer:
    """What has been traced so far: the main scope, the values bound to inputs, the ops, and the lines that made them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = GraphState.DEFINING
        self.main = Scope("main", None)
        self.scope = self.main
        """The scope that ops are added to."""
        self.inputs: dict[str, Array] = {}
        self.lines: dict[Line, int] = {}
        self.node_lines: dict[str, int] = {}
        self._ops: dict[ir.Value, Op] = {}
        self._labels: list[str] = []
        self._label_prefix = ""
        self._counter = 0

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

    def add_outputs(
        self, node: ir.Node, outputs: Sequence[tuple[DType, Shape]], scope: Scope
    ) -> tuple[Op, ...]:
        """More outputs, of these types, of a node of `scope`, such as those that a gradient needs of a loop. → the new ones."""
        first = len(node.outputs)
        node.resize_outputs(first + len(outputs))
        types = [TensorType(dtype, shape) for dtype, shape in outputs]
        for value, type in zip(node.outputs[first:], types, strict=True):
            made = self._new_value(type)
            value.name, value.type, value.shape = made.name, made.type, made.shape
        return tuple(
            self._op(value, type, user_line(), scope)
            for value, type in zip(node.outputs[first:], types, strict=True)
        )

    def constant(self, array: Array) -> Op:
        """A constant of the current scope, made once per value. Up to `INLINE_LIMIT` bytes."""
        key = (array.dtype.num, array.shape, array.tobytes())
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
            op.value.const_value = ir.Tensor(array, name=op.value.name)
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

    @property
    def prefix(self) -> str:
        """What the names of nodes made now begin with."""
        return self._label_prefix

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _new_value(self, type: TensorType) -> ir.Value:
        self._counter += 1
        return ir.Value(name=f"v{self._counter}", type=ir_type(type.dtype), shape=ir_shape(type.shape))

    def _op(self, value: ir.Value, type: TensorType, line: Line, scope: Scope | None = None) -> Op:
        op = self._ops[value] = Op(value, cast("Graph", self), scope or self.scope, type, line)
        return op

    def _fresh(self, kind: str) -> str:
        self._counter += 1
        return f"{self._label_prefix}{kind}_{self._counter}"

    def _check_open(self) -> None:
        if self.state is not GraphState.DEFINING:
            raise GraphStateError(
                "the graph is activated: no more ops can be added",
                expected="a graph being defined",
                received=f"graph {self.name!r}, {self.state.value}",
                source=describe(user_line()),
                hint="start a new one with ravop.Graph(...)",
            )

    def _usable(self, op: Op) -> Op:
        """`op`, or inside a function the argument that an outer op comes in as. Raises `ScopeError`."""
        if op.scope is self.scope and op.graph is self:
            return op
        if op.graph is not self:
            raise ScopeError(
                "an op of another graph cannot be used here",
                expected=f"an op of graph {self.name!r}",
                received=f"an op of graph {op.graph.name!r}, made at {op.source}",
                hint="fetch its value and use that as a constant",
            )
        if not op.scope.encloses(self.scope):
            raise ScopeError(
                "an op from inside a loop's body or function was used outside of it",
                received=f"{op.name}, made at {op.source}",
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
            p.message,
            expected=p.expected,
            received=p.received,
            hint=p.hint,
            op=f"{self._label_prefix}{op_type}",
            source=describe(line),
        )
