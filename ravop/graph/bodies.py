"""Function bodies: what ONNX itself says an operator is made of, for operators that are defined by others.

Gradients use it for operators without a rule of their own, imports for operators that `OPSET` does not have. A body may
hold operators that have bodies again; whoever writes it out asks here for those in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import defs

from ravop.graph.dtypes import to_ir
from ravop.graph.infer import OPSET, TensorType


def has_body(op_type: str, version: int = OPSET) -> bool:
    """Whether `function_body` may find a body for this operator of the standard domain; some depend on the inputs."""
    schema = _schema(op_type, version)
    return schema is not None and bool(schema.has_function or schema.has_context_dependent_function)


def function_body(
    op_type: str,
    inputs: Sequence[TensorType | None],
    attributes: Mapping[str, Any],
    version: int = OPSET,
    outputs: Sequence[bool] | None = None,
) -> onnx.FunctionProto | None:
    """ONNX's definition of an operator by others, as it is in opset `version`, for inputs of these types; None without one.

    `outputs` tells which of the operator's outputs are asked for: the first one by default. The function's inputs and
    outputs are the operator's, by position; an output that is not asked for may lack a node that makes it, and so may a
    left out input be listed. Attribute references are filled in: from `attributes`, else with the operator's defaults,
    else the attribute is left out. The nodes are of the version of the standard domain in the function's `opset_import`.
    Source: the operator schemas of the `onnx` package.
    """
    schema = _schema(op_type, version)
    if schema is None:
        return None
    given = {name: _attribute(schema, name, value) for name, value in attributes.items() if value is not None}
    body = _plain(schema, version)
    if body is None:
        node = onnx.NodeProto(op_type=op_type, attribute=given.values())
        node.input.extend("" if i is None else f"i{n}" for n, i in enumerate(inputs))
        node.output.extend(f"o{n}" if asked else "" for n, asked in enumerate(outputs or (True,)))
        body = _by_context(schema, version, node, inputs)
    if body is None:
        return None
    defaults = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.type}
    _fill(body.node, defaults | given)
    del body.attribute[:], body.attribute_proto[:]
    return body


def _schema(op_type: str, version: int) -> Any:
    """The operator's schema, None without one; its methods for bodies are unknown to the type stubs."""
    try:
        return defs.get_schema(op_type, version, "")
    except defs.SchemaError:
        return None


def _plain(schema: Any, version: int) -> onnx.FunctionProto | None:
    """The body that is the same for all inputs, written for the newest opset that is not above `version`."""
    return _parsed(schema.get_function_with_opset_version, schema.function_opset_versions, version)


def _by_context(
    schema: Any, version: int, node: onnx.NodeProto, inputs: Sequence[TensorType | None]
) -> onnx.FunctionProto | None:
    """The body that ONNX builds for this very node."""
    types = [onnx.TypeProto().SerializeToString() if i is None else _type(i) for i in inputs]
    data = node.SerializeToString()
    return _parsed(
        lambda opset: schema.get_context_dependent_function_with_opset_version(opset, data, types),
        schema.context_dependent_function_opset_versions,
        version,
    )


def _parsed(
    build: Callable[[int], bytes], versions: Iterable[int], version: int
) -> onnx.FunctionProto | None:
    fitting = [v for v in versions if v <= version]
    data = build(max(fitting)) if fitting else b""
    return onnx.FunctionProto.FromString(data) if data else None


def _type(type: TensorType) -> bytes:
    made = onnx.helper.make_tensor_type_proto(int(to_ir(type.dtype)), list(type.shape))
    return bytes(made.SerializeToString())


def _attribute(schema: Any, name: str, value: Any) -> onnx.AttributeProto:
    if isinstance(value, np.ndarray):
        value = onnx.numpy_helper.from_array(value)
    elif isinstance(value, ir.Graph | ir.TensorProtocol):
        value = ir.to_proto(value)
    formal = schema.attributes.get(name)
    kind = None if formal is None else formal.type.value
    return onnx.helper.make_attribute(name, value, attr_type=kind)


def _fill(nodes: Iterable[onnx.NodeProto], values: Mapping[str, onnx.AttributeProto]) -> None:
    """Replace references to the operator's attributes by their values, in the bodies of loops and branches too."""
    for node in nodes:
        kept = []
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                found = values.get(attribute.ref_attr_name)
                if found is None:
                    continue
                filled = onnx.AttributeProto()
                filled.CopyFrom(found)
                filled.name = attribute.name
                attribute = filled
            for graph in (attribute.g, *attribute.graphs):
                _fill(graph.node, values)
            kept.append(attribute)
        copies = [onnx.AttributeProto.FromString(attribute.SerializeToString()) for attribute in kept]
        del node.attribute[:]
        node.attribute.extend(copies)
