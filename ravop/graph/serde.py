"""The one door between the in-memory graph and ONNX bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from ravop.errors import InvalidModelError
from ravop.graph.dtypes import DType, to_ir
from ravop.graph.infer import OPSET, Shape
from ravop.protocol.tensors import DTYPES

IR_VERSION = 10
NEWEST_IR_VERSION = 13
PRODUCER = "ravenverse"


_shapes: dict[Shape, ir.Shape] = {}


def ir_shape(shape: Shape) -> ir.Shape:
    """The shape as onnx-ir has it: frozen, so that values can share one."""
    found = _shapes.get(shape)
    if found is None:
        found = _shapes[shape] = ir.Shape(shape, frozen=True)
    return found


_types = {dtype: ir.TensorType(to_ir(dtype)) for dtype in DTYPES}


def ir_type(dtype: DType) -> ir.TensorType:
    """The type as onnx-ir has it, shared by all values of the dtype: give a value another one, never change it."""
    return _types[dtype]


def ir_attributes(attributes: Mapping[str, Any]) -> list[ir.Attr]:
    """Python values, arrays and graphs as attributes."""
    return [_attribute(name, value) for name, value in attributes.items()]


_PLAIN: dict[type, Callable[[str, Any], ir.Attr]] = {
    int: ir.AttrInt64, float: ir.AttrFloat32, str: ir.AttrString, ir.Graph: ir.AttrGraph,
}  # fmt: skip
"""What onnx-ir would find out by asking a value what it can do, which takes long."""


def _attribute(name: str, value: Any) -> ir.Attr:
    make = _PLAIN.get(type(value))
    if make is not None:
        return make(name, value)
    if type(value) in (list, tuple) and all(type(item) is int for item in value):
        return ir.AttrInt64s(name, value)
    if isinstance(value, np.ndarray):
        return ir.AttrTensor(name, ir.Tensor(value))
    return ir.convenience.convert_attribute(name, value)


def ir_version_for(opset: int) -> int:
    """The version of the file format that has the dtypes of this opset."""
    return IR_VERSION if opset == OPSET else NEWEST_IR_VERSION


def to_proto(model: ir.Model) -> onnx.ModelProto:
    return ir.to_proto(model)


def to_bytes(model: ir.Model) -> bytes:
    """Deterministic ONNX bytes: equal models give equal bytes."""
    data: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return data


def parse(data: bytes) -> onnx.ModelProto:
    """Raises `InvalidModelError` for bytes that are not an ONNX model."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise InvalidModelError("these bytes are not an ONNX model", received=str(error)) from error
    return proto


def from_bytes(data: bytes) -> ir.Model:
    """Unchecked: see `ravop.graph.check` for models from elsewhere. Raises `InvalidModelError`."""
    return ir.from_proto(parse(data))
