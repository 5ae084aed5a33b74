"""`Analysis`: what of an ONNX model is constant, how large its values are, and who uses them; read from a copy of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass
from onnx_ir.serde import SerdeError

from ravdl.neural_networks.layers.arguments import Shape
from ravop.engine import Session
from ravop.errors import ComputeError, InvalidModelError, RavenError, UnsupportedOnnxError
from ravop.graph import Graph
from ravop.graph.dtypes import to_ir
from ravop.graph.graph import current_graph_or_none, set_current_graph
from ravop.graph.serde import to_bytes
from ravop.importing import OnnxModel, read_model
from ravop.importing.fold import UNBOUNDED
from ravop.protocol.tensors import Array

_BATCH = 7
"""Stands in for the batch's size, so that shapes computed from it become known."""


class Parameter(NamedTuple):
    """The initializer that a constant is, or is the transpose of."""

    name: str
    transposed: bool


class Analysis:
    """Of a sound model, and what was read of it. `shapes`: of one sample of each input, by name."""

    def __init__(self, proto: onnx.ModelProto, read: OnnxModel, shapes: Mapping[str, Shape]) -> None:
        self.names = {name for node in proto.graph.node for name in node.output}
        """Of the values that the model itself has; in the copy functions are written out."""
        try:
            model = ir.from_proto(proto)
        except SerdeError as error:
            raise InvalidModelError(
                "this model is malformed", expected="a sound ONNX model", received=str(error)
            ) from error
        if model.functions and read.size <= _MAX_INLINED:
            InlinePass()(model)
            read = read_model(ir.to_proto(model))
        self.graph = graph = model.graph
        graph.sort()
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        self.sound = _tell_types(graph, read, shapes)
        """Whether the types of all values are known, so that layers can be found."""
        self.outputs = tuple(graph.outputs)
        self.opset = int(graph.opset_imports.get("", 1))
        self._places = {node: place for place, node in enumerate(graph)}
        self._values: dict[ir.Value, Array | None] = {}
        self._left = _MAX_COMPUTED

    @cached_property
    def _constant(self) -> set[ir.Value]:
        """Every value that depends on initializers alone."""
        found = {value for value in self.graph.initializers.values() if value.const_value is not None}
        for node in self.graph:
            if node.inputs and all(value is None or value in found for value in node.inputs):
                found.update(node.outputs)
        return found

    def is_constant(self, value: ir.Value | None) -> bool:
        return value is None or value in self._constant

    def constant(self, value: ir.Value) -> Array | None:
        """Its array; None where the value is not constant, or cannot be computed."""
        if value not in self._constant:
            return None
        needed, todo = {value}, [value]
        while todo:
            maker = todo.pop().producer()
            new = [v for v in (maker.inputs if maker else ()) if v is not None and v not in needed]
            needed.update(new)
            todo += new
        for each in needed:
            if each.producer() is None and each.const_value is not None and each not in self._values:
                self._values[each] = each.const_value.numpy()
        makers = {maker for each in needed if (maker := each.producer()) is not None}
        for node in sorted(makers, key=self._places.__getitem__):
            if any(output in needed and output not in self._values for output in node.outputs):
                elements = _elements(node)
                found = (
                    dict.fromkeys(node.outputs)
                    if elements is None or elements > self._left
                    else _evaluated(node, self._values)
                )
                self._left -= sum(array.size for array in found.values() if array is not None)
                self._values |= found
        return self._values.get(value)

    def parameter(self, value: ir.Value) -> Parameter | None:
        """Where a constant comes from, if from an initializer that nothing else uses."""
        transposed = False
        while len(value.uses()) == 1 and not value.is_graph_output():
            node = value.producer()
            if node is None:
                return Parameter(value.name, transposed) if value.name and value in self._constant else None
            if node.op_type == "Transpose" and len(node.inputs) == 1 and _swaps(node):
                transposed = not transposed
            elif node.op_type != "Identity":
                return None
            before = node.inputs[0]
            assert before is not None
            value = before
        return None


def _swaps(node: ir.Node) -> bool:
    perm = node.attributes.get("perm")
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return (tuple(perm.as_ints()) == (1, 0)) if perm is not None else shape is not None and len(shape) == 2


_MAX_COMPUTED = 2**26
"""Elements of all constants that are computed from others here."""
_MAX_INLINED = 20_000
"""Nodes of a model whose functions are looked into for layers."""


def _elements(node: ir.Node) -> int | None:
    """Of all its outputs; None where it is not known."""
    dims = [tuple(output.shape) if output.shape is not None else (None,) for output in node.outputs]
    if not all(isinstance(dim, int) for shape in dims for dim in shape):
        return None
    return sum(math.prod(int(dim) for dim in shape if isinstance(dim, int)) for shape in dims)


def _tell_types(graph: ir.Graph, read: OnnxModel, shapes: Mapping[str, Shape]) -> bool:
    """Give the values their types, from an import of the model for a batch. → whether the model can be imported so.

    The import bounds what it computes; ONNX's own inference of the whole model does not.
    """
    batches = {value.name: value.shape[0] for value in graph.inputs if value.shape}
    given = {name: batch if isinstance(batch, int) else _BATCH for name, batch in batches.items()}
    outer = current_graph_or_none()
    try:
        scratch = Graph(name="types")
        xs = [scratch.placeholder(p.dtype, (given.get(p.name, _BATCH), *shapes[p.name])) for p in read.inputs]
        parameters = {name: scratch.placeholder(a.dtype, a.shape) for name, a in read.parameters.items()}
        types = read.types(xs, parameters)
    except RavenError:
        return False  # the layer made of the whole model tells what is wrong
    finally:
        set_current_graph(outer)
    values = [*graph.inputs, *(output for node in graph for output in node.outputs)]
    for value in values:
        if value.name in types:
            dtype, shape = types[value.name]
            value.dtype, value.shape = ir.DataType(int(to_ir(dtype))), ir.Shape(shape)
    return True


def _evaluated(node: ir.Node, known: Mapping[ir.Value, Array | None]) -> dict[ir.Value, Array | None]:
    given = {value: known.get(value) for value in node.inputs if value is not None}
    names = {value: f"i{number}" for number, value in enumerate(given)}
    arrays = {value: array for value, array in given.items() if array is not None}
    if len(arrays) < len(given) or node.op_type in UNBOUNDED:
        return dict.fromkeys(node.outputs)
    inputs = {
        value: ir.val(names[value], ir.DataType.from_numpy(array.dtype), array.shape)
        for value, array in arrays.items()
    }
    copy = ir.node(
        node.op_type, [None if value is None else inputs[value] for value in node.inputs], dict(node.attributes),
        domain=node.domain, num_outputs=len(node.outputs),
    )  # fmt: skip
    for number, value in enumerate(copy.outputs):
        value.name = f"o{number}"
    opsets = node.graph.opset_imports if node.graph else {}
    graph = ir.Graph(list(inputs.values()), copy.outputs, nodes=[copy], opset_imports=opsets)
    try:
        found = Session(to_bytes(ir.Model(graph, ir_version=10)), engine="reference").run(
            {names[value]: array for value, array in arrays.items()}
        )
    except ComputeError:
        return dict.fromkeys(node.outputs)
    return {value: found[f"o{number}"] for number, value in enumerate(node.outputs)}


@dataclass(frozen=True)
class Step:
    """A node with one input that is data. Shapes are of one sample, without the batch axis."""

    node: ir.Node
    model: Analysis
    data_position: int
    """Which input is the data."""

    @property
    def data(self) -> ir.Value:
        value = self.node.inputs[self.data_position]
        assert value is not None
        return value

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Raises `UnsupportedOnnxError` where ONNX cannot infer it; so does `output_shape`."""
        return _sizes(self.data)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return _sizes(self.node.outputs[0])

    @property
    def op_type(self) -> str:
        return self.node.op_type

    def attribute(self, name: str, default: Any) -> Any:
        found = self.node.attributes.get(name)
        return default if found is None else found.value

    def has(self, position: int) -> bool:
        """Whether there is an input at this position."""
        return position < len(self.node.inputs) and self.node.inputs[position] is not None

    def constant(self, position: int) -> Array:
        """Raises `UnsupportedOnnxError` where the input is missing or computed from data."""
        value = self.node.inputs[position] if self.has(position) else None
        array = None if value is None else self.model.constant(value)
        if array is None:
            raise UnsupportedOnnxError(f"its input {position} must be constant")
        return array

    def parameter(self, position: int) -> Parameter | None:
        """Where the constant at this position comes from, see `Analysis.parameter`."""
        value = self.node.inputs[position]
        return None if value is None else self.model.parameter(value)


def _sizes(value: ir.Value | None) -> tuple[int, ...]:
    dims = tuple(() if value is None or value.shape is None else value.shape)
    if not dims or not all(isinstance(dim, int) for dim in dims):
        raise UnsupportedOnnxError("the sizes of its data are not known")
    return tuple(int(dim) for dim in dims[1:])  # type: ignore[arg-type]
