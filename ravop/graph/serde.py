"""The one door between the in-memory graph and ONNX bytes."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from ravop.errors import InvalidModelError

IR_VERSION = 10
PRODUCER = "ravenverse"


def to_proto(model: ir.Model) -> onnx.ModelProto:
    return ir.to_proto(model)


def to_bytes(model: ir.Model) -> bytes:
    """Deterministic ONNX bytes: equal models give equal bytes."""
    return ir.to_proto(model).SerializeToString(deterministic=True)


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
