"""What flows between the nodes of a model while it is imported, and a node with what it reads.

A value is an op; an array, where it is known at import; a list of values, for a sequence; or None, for an input that is
left out and an optional without a value. Arrays become constants of the graph only where an op is made from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import AttributeProto, numpy_helper

from ravop.errors import InvalidModelError, UnsupportedOnnxError
from ravop.graph.dtypes import DType, from_elem_type
from ravop.graph.infer import Shape, TensorType
from ravop.graph.op import Op
from ravop.protocol.tensors import Array

if TYPE_CHECKING:
    from ravop.importing.walk import Walk

Value = Op | Array | list[Any] | None

NEWEST = onnx.defs.onnx_opset_version()
"""The newest version of the standard domain that the installed `onnx` knows."""
STANDARD = frozenset({"", "ai.onnx"})
"""Names of the standard domain."""


@dataclass(slots=True)
class Node:
    """One node to be imported. Handlers may change it on its way."""

    op_type: str
    name: str
    version: int
    """Of the standard domain, where the node was written."""
    inputs: list[Value]
    attributes: dict[str, Any]
    """Numbers, texts, lists of them, arrays; `GraphProto`s for bodies."""
    outputs: Sequence[str]
    """Names, empty for outputs that nobody asks for."""
    declared: tuple[TensorType | None, ...] = ()
    """What the model says of the outputs, where it says dtype and rank."""
    frame: Frame = field(default_factory=lambda: Frame({}, NEWEST))

    def input(self, position: int) -> Value:
        """The input at this position, None where it is left out."""
        return self.inputs[position] if position < len(self.inputs) else None

    def place(self, position: int, value: Value) -> None:
        """Make `value` the input at this position."""
        self.inputs += [None] * (position + 1 - len(self.inputs))
        self.inputs[position] = value

    def wanted(self, position: int) -> bool:
        return position < len(self.outputs) and bool(self.outputs[position])

    @property
    def label(self) -> str:
        """How errors call the node."""
        return f"{self.name} ({self.op_type})" if self.name else self.op_type


@dataclass(slots=True)
class Frame:
    """The names that nodes of one graph or function see. A body sees those around it too: `outer`."""

    values: dict[str, Value]
    opset: int
    outer: Frame | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Of the call, where the frame is that of a function."""
    declared: Mapping[str, onnx.TypeProto] = field(default_factory=dict)
    local: Mapping[str, int] = field(default_factory=dict)
    """Versions of the other domains."""

    def get(self, name: str) -> Value:
        """Raises `InvalidModelError` for a name that nothing before has made."""
        if not name:
            return None
        frame: Frame | None = self
        while frame is not None:
            if name in frame.values:
                return frame.values[name]
            frame = frame.outer
        raise InvalidModelError(
            f"nothing makes the value {name!r}",
            expected="an input, an initializer, or the output of a node before",
            hint="export the model again",
        )

    def has(self, name: str) -> bool:
        """Whether `get` would find the name."""
        return name in self.values or (self.outer is not None and self.outer.has(name))


def shape_of(value: Value) -> Shape:
    return tensor(value).shape


def dtype_of(value: Value) -> DType:
    return tensor(value).dtype


def tensor(value: Value) -> Op | Array:
    """`value`, which must be a tensor. Raises `InvalidModelError`."""
    if isinstance(value, Op | np.ndarray):
        return value
    raise InvalidModelError("an operator on tensors got none", expected="a tensor",
                            received="nothing" if value is None else "a sequence")  # fmt: skip


def attributes_of(attributes: Iterable[AttributeProto], around: Mapping[str, Any]) -> dict[str, Any]:
    """A node's attributes as Python values; references to attributes of the call (`around`) are looked up."""
    found: dict[str, Any] = {}
    for attribute in attributes:
        if attribute.ref_attr_name:
            if attribute.ref_attr_name in around:
                found[attribute.name] = around[attribute.ref_attr_name]
            continue
        found[attribute.name] = attribute_value(attribute)
    return found


def attribute_value(attribute: AttributeProto) -> Any:
    """The value; `UnsupportedOnnxError` for kinds that nothing here can hold."""
    read = _READERS.get(attribute.type)
    if read is None:
        kind = AttributeProto.AttributeType.Name(attribute.type)
        raise UnsupportedOnnxError(
            f"the attribute {attribute.name!r} is of a kind that is not supported", received=kind
        )
    return read(attribute)


def array_of(proto: onnx.TensorProto) -> Array:
    """The array in a tensor. Raises `InvalidModelError` where its bytes do not fit."""
    try:
        array: Array = numpy_helper.to_array(proto)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise InvalidModelError(
            f"the tensor {proto.name!r} has other bytes than its shape asks for", received=str(error)
        ) from error
    return array


def sparse_array(proto: onnx.SparseTensorProto) -> Array:
    values, indices = array_of(proto.values), array_of(proto.indices)
    dense = np.zeros(tuple(proto.dims), values.dtype)
    dense[tuple(indices.T) if indices.ndim == 2 else np.unravel_index(indices, dense.shape)] = values
    return dense


_READERS: dict[int, Callable[[AttributeProto], Any]] = {
    AttributeProto.FLOAT: lambda a: a.f,
    AttributeProto.INT: lambda a: a.i,
    AttributeProto.STRING: lambda a: a.s.decode(errors="replace"),
    AttributeProto.TENSOR: lambda a: array_of(a.t),
    AttributeProto.SPARSE_TENSOR: lambda a: sparse_array(a.sparse_tensor),
    AttributeProto.GRAPH: lambda a: a.g,
    AttributeProto.FLOATS: lambda a: list(a.floats),
    AttributeProto.INTS: lambda a: list(a.ints),
    AttributeProto.STRINGS: lambda a: [text.decode(errors="replace") for text in a.strings],
    AttributeProto.TYPE_PROTO: lambda a: a.tp,
}


def declared_type(proto: onnx.TypeProto | None, sizes: Mapping[str, int]) -> TensorType | None:
    """What a model says of a tensor, None where it leaves dtype or rank open; `sizes` are the known named dimensions."""
    if proto is None or not proto.HasField("tensor_type"):
        return None
    kind = proto.tensor_type
    if not kind.elem_type or not kind.HasField("shape"):
        return None
    dims = tuple(
        dim.dim_value if dim.HasField("dim_value") else sizes.get(dim.dim_param) for dim in kind.shape.dim
    )
    return TensorType(from_elem_type(kind.elem_type), dims)


Handler = Callable[["Walk", Node], Sequence[Value] | None]
"""Gives a node's outputs; or None where it only changed the node, and others go on with it."""


@dataclass(frozen=True, slots=True)
class Entry:
    first: int
    last: int
    handler: Handler


HANDLERS: dict[str, list[Entry]] = {}
"""By operator: what is done with it other than making the same node, in this order, for versions first to last."""


def handles(*op_types: str, first: int = 1, last: int = NEWEST) -> Callable[[Handler], Handler]:
    """Register a handler of these operators, where the model's version of the standard domain is first to last."""

    def register(handler: Handler) -> Handler:
        for op_type in op_types:
            HANDLERS.setdefault(op_type, []).append(Entry(first, last, handler))
        return handler

    return register
