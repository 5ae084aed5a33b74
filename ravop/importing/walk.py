"""`Walk`: writes the nodes of a model into the current scope of a graph, one after another.

A node goes through the handlers of its operator (`values.HANDLERS`: older and newer versions, control flow, sequences,
randomness), which give its outputs or change it. What is left is one node of `OPSET`: computed at once where all its
inputs are known and small, else made by `Graph.apply`. Operators that `OPSET` lacks are written out as ONNX defines them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto

from ravop.errors import DTypeError, InvalidModelError, RavenError, UnsupportedOnnxError
from ravop.graph.bodies import function_body, has_body
from ravop.graph.choices import wrong_attribute
from ravop.graph.dtypes import FLOAT, is_float, to_ir
from ravop.graph.graph import Graph
from ravop.graph.infer import OPSET, infer
from ravop.graph.limits import Limits
from ravop.graph.op import Op
from ravop.graph.ranks import SHAPE_OPERAND
from ravop.importing.calls import MAX_LEVELS
from ravop.importing.fold import STATIC, Known, evaluate, small
from ravop.importing.types import at_node, at_opset, check_declared, label_of, merged, type_of, types_in
from ravop.importing.values import (
    HANDLERS,
    STANDARD,
    Frame,
    Node,
    Value,
    array_of,
    attributes_of,
    declared_type,
    dtype_of,
    tensor,
)
from ravop.protocol.tensors import INLINE_LIMIT, Array

FunctionId = tuple[str, str, str]
_LIMITS = Limits()
_MALFORMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What Python, NumPy and ONNX raise for a node that is not made as its operator asks."""


class Walk:
    """One import into `graph`. `parameters` are the ops of the model's parameters with their names."""

    def __init__(
        self,
        graph: Graph,
        functions: Mapping[FunctionId, onnx.FunctionProto],
        parameters: Mapping[Op, str],
        training: bool | None,
        key: Callable[[str], Op] | None,
        sizes: Mapping[str, int],
        still: Collection[str] = (),
    ) -> None:
        self.graph = graph
        self.functions = functions
        self.parameters = parameters
        self.training = training
        self.key = key
        self.sizes = sizes
        self.still = still
        """Running statistics that do not move: where they are used, inference is computed."""
        self.moved: dict[str, Op] = {}
        """New running statistics, by the names of the old ones."""
        self.known = Known(graph, parameters)
        self._large: dict[int, tuple[Array, Op]] = {}
        self._names: dict[str, int] = {}
        self._nodes = 0
        self._levels = 0

    # ── walking ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def run(self, nodes: Iterable[NodeProto], frame: Frame) -> None:
        """Import `nodes`, which are in order, into the current scope; their outputs join `frame`."""
        self._levels += 1
        if self._levels > MAX_LEVELS:
            raise InvalidModelError("functions or loops are nested too deeply, or functions call themselves",
                                    expected=f"at most {MAX_LEVELS} levels")  # fmt: skip
        for proto in nodes:
            self._nodes += 1
            if self._nodes > _LIMITS.nodes:
                raise InvalidModelError("the model has too many nodes", expected=f"at most {_LIMITS.nodes:,}, those of functions "
                                        "counted at every call")  # fmt: skip
            try:
                self._import(proto, frame)
            except RavenError as error:
                raise at_node(error, proto) from error
            except _MALFORMED as error:
                raise at_node(_refused(error), proto) from error
        self._levels -= 1

    def body(self, graph: onnx.GraphProto, frame: Frame, values: dict[str, Value]) -> list[Value]:
        """Import a body (of a branch, a loop) into the current scope, with `values` as its inputs. → its outputs."""
        inner = Frame(values, frame.opset, frame, frame.attributes, types_in(graph), frame.local)
        for initializer in graph.initializer:
            if not frame.has(initializer.name):  # it may be a parameter of the model
                inner.values.setdefault(initializer.name, array_of(initializer))
        self.run(graph.node, inner)
        return [inner.get(output.name) for output in graph.output]

    def _import(self, proto: NodeProto, frame: Frame) -> None:
        function = self.functions.get((proto.domain, proto.op_type, proto.overload))
        inputs = [frame.get(name) for name in proto.input]
        attributes = attributes_of(proto.attribute, frame.attributes)
        outputs = list(proto.output)
        while outputs and not outputs[-1]:
            outputs.pop()
        declared = [declared_type(frame.declared.get(name), self.sizes) if name else None for name in outputs]
        node = Node(
            proto.op_type, proto.name, frame.opset, inputs, attributes, outputs, tuple(declared), frame
        )
        label = label_of(proto.name)
        with self.graph.label(label) if label else nullcontext():
            made = self._call(function, node) if function is not None else self.made(node)
        for name, value, told in zip(outputs, made, declared, strict=False):
            if name:
                frame.values[name] = value
                check_declared(name, value, told)

    def _call(self, function: onnx.FunctionProto, node: Node) -> list[Value]:
        """What a call of a function of the model gives: its nodes, written out here."""
        defaults = attributes_of(function.attribute_proto, {})
        inside = self.function(function, node.inputs, defaults | node.attributes)
        return inside

    def function(
        self, function: onnx.FunctionProto, inputs: Sequence[Value], attributes: Mapping[str, Any]
    ) -> list[Value]:
        """Import the body of a function. → its outputs, None for those that nothing makes."""
        values = dict(zip(function.input, [*inputs, *[None] * len(function.input)], strict=False))
        types = {info.name: info.type for info in function.value_info}
        local = {entry.domain: entry.version for entry in function.opset_import}
        opset = next((local[name] for name in STANDARD if name in local), OPSET)
        inner = Frame(values, opset, None, attributes, types, local)
        self.run(function.node, inner)
        return [inner.values.get(name) for name in function.output]

    # ── making nodes ─────────────────────────────────────────────────────────────────────────────────────────────────
    def made(self, node: Node) -> Sequence[Value]:
        """The outputs of a node of the standard domain, of any version."""
        wrong = wrong_attribute(node.op_type, node.attributes, node.version) if node.attributes else None
        if wrong is not None:
            raise InvalidModelError(wrong.message, expected=wrong.expected, received=wrong.received,
                                    hint="export the model again")  # fmt: skip
        for entry in HANDLERS.get(node.op_type, ()):
            if entry.first <= node.version <= entry.last:
                found = entry.handler(self, node)
                if found is not None:
                    return found
        return self.emit(node)

    def emit(self, node: Node) -> Sequence[Value]:
        """The outputs of a node as it is, at `OPSET`."""
        attributes, fits = at_opset(node)
        if not fits:
            return self._written_out(node)
        inputs = self._with_known(node)
        place = SHAPE_OPERAND.get(node.op_type, len(inputs))
        if place < len(inputs) and not isinstance(inputs[place], np.ndarray):
            self.integers(inputs[place], f"what {node.op_type} takes as a shape")
        types = [
            type_of(value, floats=position in STATIC.get(node.op_type, ()))
            for position, value in enumerate(inputs)
        ]
        declared = node.declared or (None,) * len(node.outputs)
        try:
            found = infer(node.op_type, types, attributes, declared)
        except DTypeError:
            if node.version <= OPSET:
                raise
            return self._written_out(node) if has_body(node.op_type, node.version) else self._in_float32(node)
        if all(value is None or isinstance(value, np.ndarray) for value in inputs):
            shapes = [type.shape for type in (*types, *found) if type is not None]
            arrays = evaluate(node.op_type, inputs, attributes, len(found)) if small(shapes) else None  # type: ignore[arg-type]
            if arrays is not None:
                return [
                    array.astype(type.dtype, copy=False) for array, type in zip(arrays, found, strict=True)
                ]
        types_out = [merged(type, told) for type, told in zip(found, declared, strict=True)]
        ops = [None if value is None else self.op(value) for value in inputs]
        return self.graph.apply(
            node.op_type, ops, attributes, outputs=[(t.dtype, t.shape) for t in types_out]
        )

    def node(self, op_type: str, *inputs: Value, outputs: int = 1, **attributes: Any) -> Any:
        """The output of a new node of `OPSET`, or a list of them where there are several."""
        names = [str(number) for number in range(outputs)]
        made = self.emit(Node(op_type, "", OPSET, list(inputs), attributes, names))
        return made[0] if outputs == 1 else list(made)

    def op(self, value: Value) -> Op:
        """`value`, a tensor, as an op of the graph; a large array as an input bound to it, once."""
        value = tensor(value)
        if isinstance(value, Op):
            return value
        if value.nbytes <= INLINE_LIMIT:
            return self.graph.tensor(value, value.dtype)
        if id(value) not in self._large:
            self._large[id(value)] = value, self.graph.tensor(value, value.dtype)
        return self._large[id(value)][1]

    def as_ops(self, value: Value) -> Any:
        """`value` with every tensor in it as an op."""
        if isinstance(value, list):
            return [self.as_ops(one) for one in value]
        return None if value is None else self.op(value)

    def unique(self, name: str) -> str:
        """`name`, with a number where the import had it already: a node in a function that is called again."""
        self._names[name] = self._names.get(name, 0) + 1
        return name if self._names[name] == 1 else f"{name}_{self._names[name]}"

    def static(self, value: Value) -> Array | None:
        """The array that `value` is known to be, else None."""
        return (
            self.known.value(value)
            if isinstance(value, Op)
            else value
            if isinstance(value, np.ndarray)
            else None
        )

    def integers(self, value: Value, what: str) -> list[int]:
        """The numbers in `value`, which must be known. Raises `UnsupportedOnnxError`."""
        array = self.static(value)
        if array is None:
            raise UnsupportedOnnxError(
                f"{what} must be known when the model is imported", expected="a constant", received=repr(value),
                hint="give it as an array, or export the model with it fixed",
            )  # fmt: skip
        return [int(number) for number in np.ravel(array)]

    def _with_known(self, node: Node) -> list[Value]:
        """The inputs, those that decide shapes as arrays where they are known."""
        inputs = list(node.inputs)
        for position in STATIC.get(node.op_type, ()):
            if position < len(inputs) and isinstance(inputs[position], Op):
                found = self.static(inputs[position])
                inputs[position] = inputs[position] if found is None else found
        while inputs and inputs[-1] is None:
            inputs.pop()
        return inputs

    def _written_out(self, node: Node) -> list[Value]:
        """The outputs of an operator that `OPSET` lacks, or has in another form: ONNX's own definition of it."""
        types = [None if value is None else type_of(value, floats=False) for value in node.inputs]
        asked = [bool(name) for name in node.outputs]
        body = function_body(node.op_type, types, node.attributes, node.version, asked)
        if body is None:
            raise UnsupportedOnnxError(
                f"{node.op_type} cannot be imported", expected=f"an operator of opset {OPSET}, or one defined by others",
                received=f"{node.op_type} of opset {node.version} with {sorted(node.attributes)}",
            )  # fmt: skip
        return self.function(body, node.inputs, {})

    def _in_float32(self, node: Node) -> list[Value]:
        """The outputs of an operator that takes other floats in its own version than at `OPSET`."""
        floats = [
            dtype_of(v)
            for v in node.inputs
            if v is not None and is_float(dtype_of(v)) and dtype_of(v) != FLOAT
        ]
        if not floats:
            known = [None if v is None else type_of(v, floats=False) for v in node.inputs]
            infer(node.op_type, known, node.attributes)  # raises what is wrong
            return []
        inputs = [
            self.node("Cast", v, to=int(to_ir(FLOAT))) if v is not None and is_float(dtype_of(v)) else v
            for v in node.inputs
        ]
        wide = Node(node.op_type, node.name, OPSET, inputs, at_opset(node)[0], node.outputs)
        to = int(to_ir(floats[0]))
        return [self.node("Cast", v, to=to) if dtype_of(v) == FLOAT else v for v in self.emit(wide)]


def _refused(error: Exception) -> InvalidModelError:
    return InvalidModelError(
        "the node is not made as its operator asks",
        expected="inputs, attributes and bodies of the kinds and numbers that ONNX says",
        received=f"{type(error).__name__}: {error}",
        hint="export the model again; check it with onnx.checker",
    )
