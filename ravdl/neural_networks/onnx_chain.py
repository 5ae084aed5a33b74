"""An ONNX file read as a row of nodes: constants folded, shapes known. Only for `load_onnx_model`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
from onnx import checker, defs, external_data_helper
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass, ShapeInferencePass

from ravop.engine import Session
from ravop.errors import ComputeError, InvalidModelError, UnsupportedOnnxError
from ravop.graph.serde import parse, to_bytes
from ravop.protocol.tensors import Array

_BATCH = 7
"""Stands in for the batch's size, so that shapes computed from it become known."""


@dataclass(frozen=True)
class Step:
    """A node of the row. Shapes are of one sample, without the batch axis."""

    node: ir.Node
    constants: dict[ir.Value, Array]
    data_position: int
    """Which input is the data that flows along the row."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Raises `UnsupportedOnnxError` where ONNX cannot infer it; so does `output_shape`."""
        return _sizes(self.node.inputs[self.data_position])

    @property
    def output_shape(self) -> tuple[int, ...]:
        return _sizes(self.node.outputs[0])

    @property
    def op_type(self) -> str:
        return self.node.op_type

    @property
    def name(self) -> str:
        return self.node.name or self.node.outputs[0].name or self.node.op_type

    def attribute(self, name: str, default: Any) -> Any:
        found = self.node.attributes.get(name)
        return default if found is None else found.value

    def optional(self, position: int) -> Array | None:
        """The constant input at this position; None where there is no input."""
        if position >= len(self.node.inputs) or self.node.inputs[position] is None:
            return None
        return self.constant(position, f"input {position}")

    def constant(self, position: int, what: str) -> Array:
        """Raises `UnsupportedOnnxError` where the input is missing or computed from data."""
        value = self.node.inputs[position] if position < len(self.node.inputs) else None
        if value is None or value not in self.constants:
            raise UnsupportedOnnxError(f"its {what} must be constant")
        return self.constants[value]


@dataclass(frozen=True)
class Chain:
    path: Path
    input_shape: tuple[int, ...]
    steps: tuple[Step, ...]


def read_chain(path: Path) -> Chain:
    """The nodes from the file's input to its output.

    Raises `InvalidModelError` for a file that is no ONNX model; `UnsupportedOnnxError` for branches, several inputs or
    outputs, unknown sizes and other dtypes than float32.
    """
    model = _read(path)
    graph = model.graph
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    if len(inputs) != 1 or len(graph.outputs) != 1:
        raise _unsupported(path, "one input and one output", f"{len(inputs)} and {len(graph.outputs)}")
    (source,), (target,) = inputs, graph.outputs
    input_shape = _sample_shape(path, source)
    source.shape = ir.Shape((_BATCH, *input_shape))
    target.shape = None
    for node in graph:
        for value in node.outputs:
            value.shape = None
    InlinePass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    ShapeInferencePass(data_prop=True)(model)
    constants = _fold(path, graph)
    return Chain(path, input_shape, tuple(_row(path, source, target, constants)))


def _read(path: Path) -> ir.Model:
    """The model with its weights, also those in files beside it; a file may come from anybody, so only beside it."""
    proto = parse(path.read_bytes())
    try:
        external_data_helper.load_external_data_for_model(proto, str(path.parent.resolve()))
    except (checker.ValidationError, OSError, ValueError) as error:
        raise _invalid(path, str(error).strip()) from error
    if not proto.ir_version:
        raise _invalid(path, "nothing of a model")
    newest = defs.onnx_opset_version()
    versions = [entry.version for entry in proto.opset_import if not entry.domain]
    if not versions or max(versions) > newest:
        raise _unsupported(path, f"a version of ONNX's operators up to {newest}", f"{versions}")
    return ir.from_proto(proto)


def _sample_shape(path: Path, source: ir.Value) -> tuple[int, ...]:
    if source.dtype is not ir.DataType.FLOAT:
        raise _unsupported(path, "float32 data", f"input {source.name!r} of {source.dtype}")
    dims = tuple(source.shape or ())
    sizes = tuple(dim for dim in dims[1:] if isinstance(dim, int))
    if len(dims) < 2 or len(sizes) != len(dims) - 1:
        raise _unsupported(
            path,
            "an input of shape (batch, …) whose other sizes are known",
            f"input {source.name!r} of {source.shape}",
        )
    return sizes


def _array(path: Path, tensor: ir.TensorProtocol) -> Array:
    try:
        return tensor.numpy()
    except ValueError as error:
        raise _invalid(path, f"the tensor {tensor.name!r} has other bytes than its shape asks for") from error


def _fold(path: Path, graph: ir.Graph) -> dict[ir.Value, Array]:
    """Every value that depends on constants alone."""
    constants = {
        value: _array(path, value.const_value)
        for value in graph.initializers.values()
        if value.const_value is not None
    }
    for node in graph:
        if node.inputs and all(value is None or value in constants for value in node.inputs):
            constants |= _evaluate(node, constants)
    return constants


def _evaluate(node: ir.Node, constants: dict[ir.Value, Array]) -> dict[ir.Value, Array]:
    given = {value: constants[value] for value in node.inputs if value is not None}
    names = {value: f"i{number}" for number, value in enumerate(given)}
    inputs = {
        value: ir.val(names[value], ir.DataType.from_numpy(array.dtype), array.shape)
        for value, array in given.items()
    }
    copy = ir.node(
        node.op_type, [None if value is None else inputs[value] for value in node.inputs], dict(node.attributes),
        domain=node.domain, num_outputs=len(node.outputs),
    )  # fmt: skip
    for number, value in enumerate(copy.outputs):
        value.name = f"o{number}"
    graph = ir.Graph(
        list(inputs.values()),
        copy.outputs,
        nodes=[copy],
        opset_imports=node.graph.opset_imports if node.graph else {},
    )
    try:
        found = Session(to_bytes(ir.Model(graph, ir_version=10)), engine="reference").run(
            {names[v]: a for v, a in given.items()}
        )
    except ComputeError:
        return {}
    return {value: found[f"o{number}"] for number, value in enumerate(node.outputs)}


def _row(path: Path, source: ir.Value, target: ir.Value, constants: dict[ir.Value, Array]) -> list[Step]:
    """Back from the output: each node's one data input leads to the node before it."""
    steps: list[Step] = []
    value = target
    while value is not source:
        node = value.producer()
        if node is None:
            raise _unsupported(path, "an output computed from the input", f"{value.name!r}")
        flowing = [i for i, given in enumerate(node.inputs) if given is not None and given not in constants]
        if node.op_type == "Reshape":
            flowing = flowing[:1]  # its second input may be computed from the batch's size
        if len(flowing) != 1 or value is not node.outputs[0]:
            raise _unsupported(path, "nodes in one row", f"{node.name} ({node.op_type}), where branches meet")
        before = node.inputs[flowing[0]]
        assert before is not None
        steps.append(Step(node, constants, flowing[0]))
        value = before
    return steps[::-1]


def _sizes(value: ir.Value | None) -> tuple[int, ...]:
    dims = tuple(() if value is None or value.shape is None else value.shape)
    if not dims or not all(isinstance(dim, int) for dim in dims):
        raise UnsupportedOnnxError("the sizes of its data are not known")
    return tuple(int(dim) for dim in dims[1:])  # type: ignore[arg-type]


def _invalid(path: Path, received: str) -> InvalidModelError:
    return InvalidModelError(
        f"{path.name} is no valid ONNX model",
        expected="an ONNX model, with its weights inside or in files beside it",
        received=received,
        hint="export it again; keep the files of its weights in its folder",
    )


def _unsupported(path: Path, expected: str, received: str) -> UnsupportedOnnxError:
    return UnsupportedOnnxError(
        f"{path.name} cannot be imported",
        expected=expected,
        received=received,
        hint="only models of one row of nodes, from one input to one output, can be imported",
    )
