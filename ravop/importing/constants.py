"""Nodes whose value is known at import: constants, shapes of what is known, and what only passes a value on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ravop.errors import InvalidModelError, UnsupportedOnnxError
from ravop.graph.dtypes import to_ir
from ravop.importing.values import Node, Value, dtype_of, handles, shape_of

if TYPE_CHECKING:
    from ravop.importing.walk import Walk


@handles("Constant")
def constant(walk: Walk, node: Node) -> Sequence[Value]:
    found = {name: value for name, value in node.attributes.items() if value is not None}
    if len(found) != 1:
        raise InvalidModelError(
            "a Constant has one value", expected="one attribute", received=", ".join(found) or "none"
        )
    ((name, value),) = found.items()
    if name in ("value", "sparse_value"):
        return [np.asarray(value)]
    dtype = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }.get(name)
    if dtype is None:
        raise UnsupportedOnnxError("a constant is text", expected="numbers or booleans", received=name)
    return [np.array(value, dtype=dtype)]


@handles("Identity")
def identity(walk: Walk, node: Node) -> Sequence[Value]:
    return [node.input(0)]


@handles("Shape")
def shape(walk: Walk, node: Node) -> Sequence[Value] | None:
    dims = shape_of(node.input(0))[slice(node.attributes.get("start"), node.attributes.get("end"))]
    return [np.array(dims, dtype=np.int64)] if all(isinstance(dim, int) for dim in dims) else None


@handles("Size")
def size(walk: Walk, node: Node) -> Sequence[Value] | None:
    dims = shape_of(node.input(0))
    known = np.array([dim for dim in dims if isinstance(dim, int)], dtype=np.int64)
    return [np.array(np.prod(known), dtype=np.int64)] if len(known) == len(dims) else None


@handles("CastLike")
def cast_like(walk: Walk, node: Node) -> Sequence[Value] | None:
    """A Cast, which has a gradient."""
    to = int(to_ir(dtype_of(node.input(1))))
    node.op_type, node.inputs, node.attributes = "Cast", node.inputs[:1], node.attributes | {"to": to}
    return None
