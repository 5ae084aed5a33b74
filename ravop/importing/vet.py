"""What is wrong with a model from elsewhere before any native code looks at it, and what of it cannot be imported. Pure.

`ravop.graph.structure` does the same for the graphs that travel, which are held to less: one opset, no sequences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import onnx
import onnx_ir as ir
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, defs

from ravop.errors import InvalidModelError, UnsupportedOnnxError
from ravop.graph.equations import is_equation
from ravop.graph.limits import MAX_DIM, Limits
from ravop.importing.calls import Calls
from ravop.importing.order import in_order
from ravop.importing.values import NEWEST, STANDARD, array_of, sparse_array
from ravop.protocol.tensors import Array

OLDEST = 7
"""The oldest version of the standard domain that is imported."""
_LIMITS = Limits()
_SHOWN = 30
"""Nodes that one error names."""

_MAX_SPARSE = 2**24
"""Elements of a sparse tensor, zeros included."""

_TEXT = "works on text, and only tensors of numbers flow through a graph"
REFUSED = {
    "ImageDecoder": "decodes image files: decode them before",
    **dict.fromkeys(
        ("LabelEncoder", "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit"), _TEXT
    ),
    "TfIdfVectorizer": "counts words: count them before",
}
"""Operators of the standard domain that are not imported, and why."""
_DOMAINS = {
    "ai.onnx.ml": "is of ONNX's classical machine learning: use ravop's learners",
    "ai.onnx.preview.training": "trains: import the model alone, and train it with ravop.grad",
    "ai.onnx.training": "trains: import the model alone, and train it with ravop.grad",
}


@dataclass
class Contents:
    """A sound model: its nodes in order, without its initializers, and those as arrays by name, in the file's order."""

    model: onnx.ModelProto
    initializers: dict[str, Array]
    inputs: Sequence[onnx.ValueInfoProto]
    """What the model takes: its graph's inputs without an initializer."""
    opset: int
    functions: dict[tuple[str, str, str], onnx.FunctionProto] = field(default_factory=dict)
    size: int = 0
    """How many nodes there are, those of functions counted at every call."""


def vetted(proto: onnx.ModelProto) -> Contents:
    """Raises `InvalidModelError` for what no model can be, `UnsupportedOnnxError` naming all that cannot be imported."""
    if not proto.ir_version:
        raise InvalidModelError(
            "this is nothing of a model", expected="an ONNX model with its IR version", received="none"
        )
    if proto.training_info:
        raise UnsupportedOnnxError(
            "the model holds ONNX training information", hint="import the model alone: see ravop.grad"
        )
    _check_tensors(proto)
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    size = _check_nodes(proto, functions)
    light = onnx.ModelProto(ir_version=proto.ir_version, producer_name=proto.producer_name)
    used = STANDARD | {function.domain for function in proto.functions}
    light.opset_import.extend(
        entry for entry in proto.opset_import if entry.domain in used
    )  # others are never used
    light.functions.extend(proto.functions)
    for function in light.functions:
        in_order(function.node, function.name)
    graph = light.graph
    graph.name = proto.graph.name or "graph"
    graph.input.extend(proto.graph.input)
    graph.output.extend(proto.graph.output)
    graph.value_info.extend(proto.graph.value_info)
    graph.node.extend(proto.graph.node)
    in_order(graph.node, "the model")
    initializers = {tensor.name: array_of(tensor) for tensor in proto.graph.initializer}
    for sparse in proto.graph.sparse_initializer:
        initializers[sparse.values.name] = array_of(_dense(sparse))
    inputs = [info for info in proto.graph.input if info.name not in initializers]
    named = {info.name for info in proto.graph.input}
    for name, array in initializers.items():
        if name not in named:  # to the checker, initializers are inputs: their data is checked here
            kind = int(ir.DataType.from_numpy(array.dtype))
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    version = next((entry.version for entry in proto.opset_import if entry.domain in STANDARD), NEWEST)
    copies = {(f.domain, f.name, f.overload): f for f in light.functions}
    return Contents(light, initializers, inputs, version, copies, size)


# ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _check_nodes(proto: onnx.ModelProto, functions: dict[tuple[str, str, str], onnx.FunctionProto]) -> int:
    """How many nodes there are, those of functions counted at every call."""
    problems: list[str] = []
    calls = Calls()
    for caller, nodes, imports, place in (
        (None, proto.graph.node, proto.opset_import, ""),
        *((name, f.node, f.opset_import, f"{f.name}/") for name, f in functions.items()),
    ):
        versions = {entry.domain: entry.version for entry in imports}
        version = next((versions[name] for name in STANDARD if name in versions), None)
        if version is not None and not 1 <= version <= NEWEST:
            raise UnsupportedOnnxError(
                "the model's version of the ONNX operators is not supported",
                expected=f"opset {OLDEST} to {NEWEST}", received=f"opset {version}",
                hint=f"export the model for opset {NEWEST}, or convert it with onnx.version_converter",
            )  # fmt: skip
        for node in all_nodes(nodes):
            called = (node.domain, node.op_type, node.overload)
            calls.count(caller, called if called in functions else None)
            if called not in functions:
                reason = _reason(node, version)
                if reason:
                    problems.append(f"{place}{_named(node)} {reason}")
    size = calls.check()
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise UnsupportedOnnxError(
            f"{len(problems)} node{'s' if len(problems) > 1 else ''} of the model cannot be imported",
            expected=f"operators of ONNX's standard domain, opset {OLDEST} to {NEWEST}, and functions of the model itself",
            received="; ".join([*problems[:_SHOWN], *more]),
            hint="export the model with standard operators only",
        )  # fmt: skip
    return size


def _reason(node: NodeProto, version: int | None) -> str:
    """Why the node cannot be imported; empty where it can."""
    if node.domain not in STANDARD:
        return _DOMAINS.get(node.domain, f"is of the domain {node.domain!r}, which the model does not define")
    if node.op_type in REFUSED:
        return REFUSED[node.op_type]
    if version is None:
        return "is of the standard domain, of which the model imports no version"
    if not defs.has(node.op_type, version, ""):
        return f"is no operator of opset {version}"
    equations = [a.s.decode(errors="replace") for a in node.attribute if a.name == "equation"]
    if node.op_type == "Einsum" and not (equations and is_equation(equations[0])):
        return "has no proper equation"
    if version < OLDEST and not _unchanged(node.op_type, version):
        return f"has the form of opset {version}, which is older than {OLDEST}"
    return ""


def _unchanged(op_type: str, version: int) -> bool:
    """Whether the operator is in `OLDEST` as it was in this older version."""
    then, later = defs.get_schema(op_type, version, ""), defs.get_schema(op_type, OLDEST, "")
    return bool(then.since_version == later.since_version)


def _named(node: NodeProto) -> str:
    kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"{node.name or '(no name)'} ({kind})"


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in the node's attributes: of a loop, a scan or a branch."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def all_nodes(nodes: Iterable[NodeProto], depth: int = 0) -> Iterator[NodeProto]:
    """The nodes, each followed by those of the bodies in it. Raises `InvalidModelError` where these are nested too deeply."""
    if depth > _LIMITS.depth:
        raise InvalidModelError("loops are nested too deeply", expected=f"at most {_LIMITS.depth} levels")
    for node in nodes:
        yield node
        for body in bodies(node):
            yield from all_nodes(body.node, depth + 1)


# ── tensors ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _check_tensors(proto: onnx.ModelProto) -> None:
    for graph in (
        proto.graph,
        *(body for f in (proto.graph, *proto.functions) for n in all_nodes(f.node) for body in bodies(n)),
    ):
        for tensor in graph.initializer:
            _check_tensor(tensor)
        for sparse in graph.sparse_initializer:
            _check_sparse(sparse)
    for function in (proto.graph, *proto.functions):
        for node in all_nodes(function.node):
            for attribute in node.attribute:
                if attribute.type == AttributeProto.TENSOR:
                    _check_tensor(attribute.t, _named(node))
                elif attribute.type == AttributeProto.SPARSE_TENSOR:
                    _check_sparse(attribute.sparse_tensor)


_PLAIN = 1
_FIELDS: dict[str, Callable[[int], int]] = {
    "float_data": lambda bits: _PLAIN, "int64_data": lambda bits: _PLAIN, "double_data": lambda bits: _PLAIN,
    "uint64_data": lambda bits: _PLAIN, "int32_data": lambda bits: max(1, 8 // bits),
}  # fmt: skip
"""Where a tensor may keep its elements one by one, and how many of one are in an entry."""


def _check_tensor(tensor: TensorProto, where: str = "") -> None:
    """Raises where dims, type and bytes of a tensor do not fit each other."""
    label = f"{tensor.name or 'a constant'!r}"
    if tensor.data_location == TensorProto.EXTERNAL or (
        tensor.external_data and not tensor.HasField("raw_data")
    ):
        raise InvalidModelError(f"the tensor {label} is kept in another file", expected="all data inside the model", op=where,
                                hint="give the path of the model's file: weights are read from beside it")  # fmt: skip
    if tensor.data_type in (TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        kind = TensorProto.DataType.Name(tensor.data_type)
        raise UnsupportedOnnxError(
            f"the tensor {label} holds no real numbers",
            expected="numbers or booleans",
            received=kind,
            op=where,
        )
    if tensor.data_type not in TensorProto.DataType.values() or not tensor.data_type:
        raise InvalidModelError(
            f"the tensor {label} is of no type that ONNX has", received=tensor.data_type, op=where
        )
    count = math.prod(tensor.dims)
    if (
        any(not 0 <= dim <= MAX_DIM for dim in tensor.dims)
        or count > MAX_DIM
        or len(tensor.dims) > _LIMITS.rank
    ):
        raise InvalidModelError(
            f"the tensor {label} has a shape that no tensor can have",
            received=list(tensor.dims)[:40],
            op=where,
        )
    bits = int(ir.DataType(tensor.data_type).itemsize * 8)
    filled = [name for name in (*_FIELDS, "raw_data", "string_data") if getattr(tensor, name)]
    if filled == ["raw_data"]:
        expected, given, unit = -(-count * bits // 8), len(tensor.raw_data), "bytes"
    elif len(filled) == 1 and filled[0] in _FIELDS:
        per_entry = _FIELDS[filled[0]](bits)
        expected, given, unit = -(-count // per_entry), len(getattr(tensor, filled[0])), "entries"
    else:
        expected, given, unit = (0, len(filled), "fields of data") if filled else (count, 0, "elements")
    if given != expected:
        raise InvalidModelError(
            f"the tensor {label} has other bytes than its shape asks for", op=where,
            expected=f"{expected} {unit} for {list(tensor.dims)}", received=f"{given} {unit}",
        )  # fmt: skip


def _check_sparse(sparse: onnx.SparseTensorProto) -> None:
    _check_tensor(sparse.values)
    _check_tensor(sparse.indices)
    if any(dim < 0 for dim in sparse.dims) or math.prod(sparse.dims) > _MAX_SPARSE:
        raise InvalidModelError(
            "a sparse tensor is too large", expected=f"at most {_MAX_SPARSE:,} elements, as it is written out",
            received=list(sparse.dims), op=sparse.values.name,
        )  # fmt: skip
    if any(index < 0 for index in array_of(sparse.indices).ravel()):
        raise InvalidModelError("a sparse tensor has negative indices", op=sparse.values.name)


def _dense(sparse: onnx.SparseTensorProto) -> TensorProto:
    try:
        return onnx.numpy_helper.from_array(sparse_array(sparse), sparse.values.name)
    except (IndexError, ValueError) as error:
        raise InvalidModelError(
            "a sparse tensor has indices outside of it", op=sparse.values.name, received=str(error)
        ) from error
