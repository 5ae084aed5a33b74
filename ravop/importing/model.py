"""`OnnxModel`: what was read of a model, and how it is written into a graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx

from ravop.errors import InvalidModelError, UnsupportedOnnxError
from ravop.graph.dtypes import DType, from_elem_type
from ravop.graph.graph import graph_of
from ravop.graph.infer import Shape
from ravop.graph.op import Op
from ravop.importing import lowering as lowering
from ravop.importing.binding import bound_sizes
from ravop.importing.reading import Source, read
from ravop.importing.types import types_in
from ravop.importing.values import STANDARD, Frame, Value
from ravop.importing.vet import Contents, all_nodes, bodies
from ravop.importing.walk import Walk
from ravop.protocol.tensors import Array


class Port(NamedTuple):
    """An input or output of a model. Dimensions are numbers, names (equal names are equal sizes), or None where unknown."""

    name: str
    dtype: DType
    shape: Shape
    kind: str = "tensor"
    """`"tensor"`; `"sequence"` for a list of tensors of this type, `"optional"` for what may be None."""
    ranked: bool = True
    """Whether the model tells the number of axes; without, `shape` is empty."""


class Applied(NamedTuple):
    """What a model gave. `moved` are new running statistics, by the names of the parameters that were the old ones."""

    outputs: tuple[Op, ...]
    moved: dict[str, Op]


TRAINABLE = frozenset({"float16", "float32", "float64", "bfloat16"})
"""Dtypes of parameters; narrower floats are how quantised models store constants."""

CONSTANT_INPUTS: dict[str, tuple[int, ...]] = {
    "Clip": (1, 2), "CumSum": (1,), "DequantizeLinear": (1,), "Dropout": (1,), "OneHot": (2,), "Pad": (2,), "Pow": (1,),
    "QuantizeLinear": (1,), "Range": (0, 1, 2), "Resize": (1, 2), "Upsample": (1,),
}  # fmt: skip
"""Inputs that hold settings of an operator: an initializer that is used there alone is no parameter."""


class OnnxModel:
    """A model that was read and found sound; `apply` writes it into a graph, as often as one likes.

    `parameters` are its floating initializers by name in the file's order, those in bodies of loops and branches included.
    Scalars are left out, as are settings of operators: exporters keep numbers of the code (an epsilon, an exponent) that
    way. They are in `constants`, with the integers. `statistics` names the parameters that no gradient moves: the running
    means and variances of BatchNormalization. `operators` are the types of all nodes, those in bodies and functions included.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    parameters: dict[str, Array]
    constants: dict[str, Array]
    statistics: frozenset[str]
    operators: frozenset[str]
    size: int
    """How many nodes there are, those of functions counted at every call."""

    def __init__(self, contents: Contents) -> None:
        graph = contents.model.graph
        self.inputs = tuple(_port(info) for info in contents.inputs)
        self.outputs = tuple(_port(info) for info in graph.output)
        self._contents = contents
        self.size = contents.size
        initializers = dict(contents.initializers)
        for body in _bodies(graph.node):
            initializers |= {t.name: onnx.numpy_helper.to_array(t) for t in body.initializer}
        settings = _settings(graph.node)
        self.parameters = {
            name: array
            for name, array in initializers.items()
            if array.dtype.name in TRAINABLE and array.ndim and name not in settings
        }
        self.constants = {name: array for name, array in initializers.items() if name not in self.parameters}
        self.statistics = frozenset(_statistics(contents) & self.parameters.keys())
        nodes = [graph.node, *(function.node for function in contents.functions.values())]
        self.operators = frozenset(node.op_type for of_one in nodes for node in all_nodes(of_one))

    def apply(
        self,
        inputs: Sequence[Value],
        parameters: Mapping[str, Op] | None = None,
        *,
        training: bool | None = None,
        key: Callable[[str], Op] | None = None,
        still: Collection[str] = (),
    ) -> Applied:
        """Write the model's nodes into the current scope of the graph of its inputs.

        Args:
            inputs: ops in the order of `self.inputs`; lists of them for sequences, None for optionals without a value.
            parameters: what stands for parameters, or constants, of these names; the others keep the model's values.
            training: None as the file says; True: BatchNormalization uses the batch's statistics and moves its running
                ones (by the unbiased variance, as PyTorch does), Dropout draws; False: neither.
            key: gives the random key of a node by its name, see `ravop.random_key`; without it, of the graph's seed.
            still: running statistics that stay as they are, in training too: inference is computed by them.
        Raises:
            ArgumentError, DTypeError, ShapeError: inputs that do not fit, or whose sizes contradict each other.
            UnsupportedOnnxError, InvalidModelError: a node that cannot be imported with them, by name.
        """
        values, walk, _ = self._walked(inputs, parameters or {}, training, key, still)
        outputs = []
        for port, value in zip(self.outputs, values, strict=True):
            if value is None or isinstance(value, list):
                raise UnsupportedOnnxError(
                    f"the model's output {port.name!r} is a sequence or an optional without a value", expected="a tensor",
                    hint="take one of its elements out in the model, or use ravop.import_onnx, which gives lists",
                )  # fmt: skip
            outputs.append(value)
        return Applied(tuple(outputs), walk.moved)

    def imported(self, inputs: Sequence[Value], parameters: Mapping[str, Op]) -> tuple[Any, ...]:
        """As `apply` without `training`, for outputs of any kind: lists of ops for sequences, None for optionals without."""
        return self._walked(inputs, parameters, None, None)[0]

    def types(self, inputs: Sequence[Value], parameters: Mapping[str, Op]) -> dict[str, tuple[DType, Shape]]:
        """Dtypes and shapes of all tensors of the model's main graph for these inputs, by their names; see `apply`."""
        frame = self._walked(inputs, parameters, False, None)[2]
        return {
            name: (value.dtype, value.shape)
            for name, value in frame.values.items()
            if isinstance(value, Op | np.ndarray)
        }

    def _walked(
        self,
        inputs: Sequence[Value],
        parameters: Mapping[str, Op],
        training: bool | None,
        key: Callable[[str], Op] | None,
        still: Collection[str] = (),
    ) -> tuple[tuple[Any, ...], Walk, Frame]:
        sizes = bound_sizes(self.inputs, inputs)
        graph = graph_of(*_flat(inputs), *parameters.values())
        functions = self._contents.functions
        walk = Walk(
            graph, functions, {op: name for name, op in parameters.items()}, training, key, sizes, still
        )
        main = self._contents.model.graph
        values: dict[str, Value] = {**self.parameters, **self.constants, **parameters}
        values |= {port.name: value for port, value in zip(self.inputs, inputs, strict=True)}
        local = {entry.domain: entry.version for entry in self._contents.model.opset_import}
        frame = Frame(values, self._contents.opset, None, {}, types_in(main), local)
        walk.run(main.node, frame)
        return tuple(walk.as_ops(frame.get(info.name)) for info in main.output), walk, frame


def read_model(source: Source) -> OnnxModel:
    """The model in a file, in bytes, or in memory. Weights in other files are read from beside a local file only.

    Raises `InvalidModelError` for what is no sound model, and `UnsupportedOnnxError` naming all nodes that cannot be imported.
    """
    return OnnxModel(read(source))


def _flat(values: Iterable[Any]) -> list[Any]:
    return [one for value in values for one in (_flat(value) if isinstance(value, list) else [value])]


def _port(info: onnx.ValueInfoProto) -> Port:
    kind, proto = "tensor", info.type
    while proto.WhichOneof("value") in ("sequence_type", "optional_type"):
        inner = proto.WhichOneof("value")
        kind = str(inner).removesuffix("_type") if kind == "tensor" else kind
        proto = proto.sequence_type.elem_type if inner == "sequence_type" else proto.optional_type.elem_type
    tensor = proto.tensor_type
    if not tensor.elem_type:
        raise InvalidModelError(f"the type of {info.name!r} is not told", expected="a tensor of numbers",
                                received=proto.WhichOneof("value") or "nothing")  # fmt: skip
    if tensor.elem_type == onnx.TensorProto.STRING:
        raise UnsupportedOnnxError(f"{info.name!r} is text", expected="numbers or booleans", received="strings",
                                   hint="turn text into numbers before the model")  # fmt: skip
    dims = tuple(_dim(dim) for dim in tensor.shape.dim)
    return Port(info.name, from_elem_type(tensor.elem_type), dims, kind, tensor.HasField("shape"))


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None


def _bodies(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.GraphProto]:
    """The graphs in these nodes, and those within them."""
    return (body for node in all_nodes(nodes) for body in bodies(node))


def _settings(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Names that are read only where an operator expects a setting."""
    settings: set[str] = set()
    others: set[str] = set()
    for node in nodes:
        positions = CONSTANT_INPUTS.get(node.op_type, ()) if node.domain in STANDARD else ()
        for position, name in enumerate(node.input):
            (settings if position in positions else others).add(name)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                settings |= _settings(attribute.g.node)
                others |= {name for inner in attribute.g.node for name in inner.input} - settings
    return settings - others


def _statistics(contents: Contents) -> set[str]:
    """The names, in the main graph, of what BatchNormalization takes as running mean and variance, through functions too."""
    memory: dict[tuple[str, str, str], set[int]] = {}

    def positions(node: onnx.NodeProto) -> set[int]:
        identifier = (node.domain, node.op_type, node.overload)
        function = contents.functions.get(identifier)
        if function is None:
            return {3, 4} if node.op_type == "BatchNormalization" and node.domain in STANDARD else set()
        if identifier not in memory:
            memory[identifier] = set()  # of a function that calls itself, which is refused later
            names = found(function.node)
            memory[identifier] = {place for place, name in enumerate(function.input) if name in names}
        return memory[identifier]

    def found(nodes: Sequence[onnx.NodeProto]) -> set[str]:
        names = {node.input[place] for node in nodes for place in positions(node) if place < len(node.input)}
        for node in reversed(nodes):
            if node.op_type == "Identity" and node.output[0] in names:
                names.add(node.input[0])
        for body in _bodies(nodes):
            names |= {n.input[place] for n in body.node for place in positions(n) if place < len(n.input)}
        return names

    return found(list(contents.model.graph.node))
