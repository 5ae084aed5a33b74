"""What is known of a node while it is imported: its schema, the types of its values, and how errors name it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, defs

from ravop.errors import InvalidModelError, RavenError
from ravop.graph.infer import OPSET, TensorType, constant_type
from ravop.graph.op import Op
from ravop.graph.source import describe, user_line
from ravop.importing.values import Node, Value, tensor

_MAX_LABEL = 80


def types_in(graph: onnx.GraphProto) -> dict[str, onnx.TypeProto]:
    """What a graph declares of its values."""
    return {info.name: info.type for info in (*graph.value_info, *graph.output)}


def label_of(name: str) -> str:
    """A node's name as a label: without the slashes at its ends, and not too long."""
    return name.strip("/")[-_MAX_LABEL:]


_schemas: dict[tuple[str, int], Any] = {}


def schema(op_type: str, version: int) -> Any:
    """The operator's schema at this version, None where it has none or is deprecated."""
    key = op_type, version
    if key not in _schemas:
        try:
            found = defs.get_schema(op_type, version, "")
            _schemas[key] = None if found.deprecated else found
        except defs.SchemaError:
            _schemas[key] = None
    return _schemas[key]


def at_opset(node: Node) -> tuple[dict[str, Any], bool]:
    """The node's attributes at `OPSET`, and whether the operator there does what the node says.

    An attribute that only the node's own version has may be left out where it has its default.
    """
    target = schema(node.op_type, OPSET)
    if target is None:
        return node.attributes, False
    if node.version <= OPSET or all(name in target.attributes for name in node.attributes):
        return node.attributes, True
    own = schema(node.op_type, node.version)
    extra = [name for name in node.attributes if name not in target.attributes]
    for name in extra:
        default = own.attributes[name].default_value if own is not None and name in own.attributes else None
        if default is None or onnx.helper.get_attribute_value(default) not in (
            node.attributes[name], str(node.attributes[name]).encode(),
        ):  # fmt: skip
            return node.attributes, False
    return {name: value for name, value in node.attributes.items() if name not in extra}, True


def type_of(value: Value, floats: bool) -> TensorType | None:
    """What inference is told of a value; of small arrays the data as well, of floats only where they decide a shape."""
    if value is None:
        return None
    if isinstance(value, Op):
        return value.type
    array = tensor(value)
    assert isinstance(array, np.ndarray)
    if floats and array.size <= 64:
        return TensorType(array.dtype, array.shape, array)
    return constant_type(array)


def merged(found: TensorType, told: TensorType | None) -> TensorType:
    """The inferred type, with the dimensions that only the model tells."""
    if (
        told is None
        or len(told.shape) != len(found.shape)
        or all(isinstance(dim, int) for dim in found.shape)
    ):
        return found
    dims = tuple(
        dim if isinstance(dim, int) else other for dim, other in zip(found.shape, told.shape, strict=True)
    )
    return TensorType(found.dtype, dims)


def check_declared(name: str, value: Value, told: TensorType | None) -> None:
    """Raises `InvalidModelError` where a model says of a value what cannot be."""
    if told is None or not isinstance(value, Op | np.ndarray):
        return
    shape, dtype = value.shape, value.dtype
    fits = len(shape) == len(told.shape) and all(
        one == other or not isinstance(one, int) or not isinstance(other, int)
        for one, other in zip(shape, told.shape, strict=True)
    )
    if fits and dtype == told.dtype:
        return
    raise InvalidModelError(
        f"the model says of the value {name!r} what its operator does not give", expected=f"{dtype}{_dims(shape)}",
        received=f"{told.dtype}{_dims(told.shape)} in the model", hint="export the model again, without the shapes of its values",
    )  # fmt: skip


def _dims(shape: Iterable[Any]) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def at_node(error: RavenError, proto: NodeProto) -> RavenError:
    """The error with the node's name; the innermost node counts."""
    p = error.problem
    label = (
        f"{proto.name} ({proto.op_type})"
        if proto.name
        else f"{proto.op_type} that makes {list(proto.output)}"
    )
    if p.op.startswith(_TOLD):
        return error
    return type(error)(p.message, expected=p.expected, received=p.received, hint=p.hint,
                       op=f"{_TOLD}{label}", source=p.source or describe(user_line()))  # fmt: skip


_TOLD = "node "
"""What the op of an error begins with that tells the model's node already."""
