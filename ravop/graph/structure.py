"""What is wrong with an ONNX model before any native code looks at it.

`vet` walks a parsed model and raises `InvalidModelError` for what the ONNX checker does not refuse, or would crash
on: too much of anything, other domains, functions that call themselves, tensors whose bytes do not match their
dims, operators that are not reproducible. Only `ravop.graph.check` calls it, and lets ONNX's own checker do the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, defs

from ravop.errors import DTypeError
from ravop.graph.choices import wrong_attribute
from ravop.graph.dtypes import from_elem_type, itemsize
from ravop.graph.equations import is_equation
from ravop.graph.infer import OPSET
from ravop.graph.limits import MAX_DIM, MAX_STRING, OLDEST_OPSET, RANDOM, REFUSED, TENSORS, Limits, refuse

FunctionId = tuple[str, str, str]

_FIELDS = {
    getattr(AttributeProto, kind): field
    for kind, field in (
        ("FLOAT", "f"),
        ("INT", "i"),
        ("STRING", "s"),
        ("TENSOR", "t"),
        ("GRAPH", "g"),
        ("FLOATS", "floats"),
        ("INTS", "ints"),
        ("STRINGS", "strings"),
    )
}
"""Kinds of attributes that are supported, and where an attribute keeps its value."""


def vet(model: onnx.ModelProto, limits: Limits) -> None:
    """Raises `InvalidModelError` for a model that ONNX's native checker should not even see."""
    if not 3 <= model.ir_version <= limits.ir_version:
        raise refuse(
            "an ONNX file of an unknown version",
            expected=f"IR version 3 to {limits.ir_version}",
            received=model.ir_version,
        )
    if model.training_info:
        raise refuse(
            "the model holds ONNX training information", hint="write the training step as ops: see ravop.grad"
        )
    opset = _opset(model.opset_import, limits)
    functions = _functions(model, limits, opset)
    walks = [_Walk(limits, opset, functions) for _ in range(1 + len(functions))]
    walks[0].graph(model.graph)
    for walk, function in zip(walks[1:], model.functions, strict=True):
        walk.function(function)
    _bound_calls(walks, list(functions), limits)


def _opset(imports: Iterable[onnx.OperatorSetIdProto], limits: Limits) -> int:
    versions = [entry.version for entry in imports if entry.domain == ""]
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= limits.opset:
        raise refuse(
            "the model's version of the ONNX operators is not supported",
            expected=f"one opset from {OLDEST_OPSET} to {limits.opset}",
            received=", ".join(map(str, versions)) or "none",
            hint="export the model for this opset",
        )
    return versions[0]


def _functions(model: onnx.ModelProto, limits: Limits, opset: int) -> dict[FunctionId, onnx.FunctionProto]:
    found: dict[FunctionId, onnx.FunctionProto] = {}
    for function in model.functions:
        identifier = (function.domain, function.name, function.overload)
        if identifier in found or function.domain in ("", "ai.onnx") or not function.name:
            raise refuse(
                "functions need names of their own, in a domain of their own", received=_called(identifier)
            )
        if function.attribute or function.attribute_proto:
            raise refuse("functions with attributes are not supported", op=_called(identifier))
        if _opset(function.opset_import, limits) != opset:
            raise refuse(
                "a function uses another opset than its model", expected=opset, op=_called(identifier)
            )
        found[identifier] = function
    domains = {"", *(domain for domain, _, _ in found)}
    for entry in [*model.opset_import, *(e for f in found.values() for e in f.opset_import)]:
        if entry.domain not in domains:
            raise refuse("the model uses operators of another domain", expected="standard ONNX operators", received=entry.domain,
                         hint="only functions defined in the model itself may be used besides them")  # fmt: skip
    return found


def _called(identifier: FunctionId) -> str:
    return ".".join(filter(None, identifier))


def _bound_calls(walks: list[_Walk], functions: list[FunctionId], limits: Limits) -> None:
    """Refuse recursion, deep calls, and more nodes than allowed once every call is replaced by the function."""
    calls = dict(zip(functions, (walk.calls for walk in walks[1:]), strict=True))
    own = dict(zip(functions, (walk.nodes for walk in walks[1:]), strict=True))
    level = dict.fromkeys(functions, 0)
    size = dict(own)
    for _ in range(limits.depth):
        new_level = {f: 1 + max((level[c] for c in calls[f]), default=0) for f in functions}
        size = {f: own[f] + sum(count * size[c] for c, count in calls[f].items()) for f in functions}
        if new_level == level:
            break
        level = new_level
    else:
        deepest = [_called(f) for f in functions if level[f] >= limits.depth]
        if deepest:
            raise refuse(
                "functions call each other too deeply, or themselves",
                expected=f"at most {limits.depth - 1} levels",
                received=", ".join(deepest[:5]),
            )
    total = sum(walk.nodes for walk in walks) + sum(count * size[c] for c, count in walks[0].calls.items())
    if total > limits.nodes:
        raise refuse(
            "the model has too many nodes",
            expected=f"at most {limits.nodes:,}",
            received=f"{total:,} with every function call",
            hint="write repeated work as a loop: see ravop.scan",
        )


class _Walk:
    """One walk over the main graph or a function: names are unique within it, bodies included."""

    def __init__(self, limits: Limits, opset: int, functions: dict[FunctionId, onnx.FunctionProto]) -> None:
        self.limits = limits
        self.opset = opset
        self.functions = functions
        self.nodes = 0
        self.calls: dict[FunctionId, int] = {}
        self._names: set[str] = set()
        self._node_names: set[str] = set()

    def graph(self, graph: GraphProto) -> None:
        pending = [(graph, 0)]
        while pending:
            current, depth = pending.pop()
            if depth > self.limits.depth:
                raise refuse("loops are nested too deeply", expected=f"at most {self.limits.depth} levels")
            self._border(current)
            pending += [(body, depth + 1) for body in self._nodes(current.node)]

    def function(self, function: onnx.FunctionProto) -> None:
        for name in function.input:
            self._define(name)
        self._types(function.value_info)
        for body in self._nodes(function.node):
            self.graph(body)

    def _border(self, graph: GraphProto) -> None:
        if graph.sparse_initializer or graph.quantization_annotation:
            raise refuse("sparse or quantised tensors are not supported", expected="dense tensors")
        for info in graph.input:
            self._define(info.name)
        for tensor in graph.initializer:
            self._define(tensor.name)
            self._tensor(tensor, tensor.name)
        self._types([*graph.input, *graph.output, *graph.value_info])

    def _define(self, name: str) -> None:
        if not name or len(name) > 400 or name in self._names:
            raise refuse(
                "every value needs a name of its own",
                expected="1 to 400 characters, used once in the whole model",
                received=repr(name[:80]),
            )
        self._names.add(name)

    def _nodes(self, nodes: Iterable[NodeProto]) -> Iterator[GraphProto]:
        for node in nodes:
            self.nodes += 1
            if self.nodes > self.limits.nodes:
                raise refuse("the model has too many nodes", expected=f"at most {self.limits.nodes:,}")
            self._node(node)
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    yield attribute.g

    def _node(self, node: NodeProto) -> None:
        label = (node.name or node.op_type)[:200]
        if node.name and node.name in self._node_names:
            raise refuse("two nodes have the same name", received=repr(label))
        self._node_names.add(node.name)
        for name in node.output:
            if name:
                self._define(name)
        identifier = (node.domain, node.op_type, node.overload)
        if identifier in self.functions:
            self.calls[identifier] = self.calls.get(identifier, 0) + 1
        elif node.domain:
            raise refuse("an operator of another domain", expected="a standard ONNX operator, or a function of the model itself",
                         received=_called(identifier), op=label)  # fmt: skip
        else:
            self._standard(node, label)
        for attribute in node.attribute:
            self._attribute(attribute, label)

    def _standard(self, node: NodeProto, label: str) -> None:
        if not defs.has(node.op_type, min(self.opset, OPSET), ""):
            raise refuse(
                "ONNX has no such operator",
                expected=f"an operator of opset {min(self.opset, OPSET)}",
                received=node.op_type[:100],
                op=label,
            )
        if node.op_type in REFUSED:
            why, hint = REFUSED[node.op_type]
            raise refuse(f"{node.op_type} {why}", hint=hint, op=label)
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
            raise refuse(
                "Dropout in training mode draws random numbers that cannot be reproduced",
                hint=RANDOM,
                op=label,
            )
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "GatherND" and "batch_dims" in attributes and attributes["batch_dims"].i < 0:
            raise refuse(
                "GatherND needs batch_dims of 0 or more", received=attributes["batch_dims"].i, op=label
            )
        equation = attributes["equation"].s.decode(errors="replace") if "equation" in attributes else None
        if node.op_type == "Einsum" and (equation is None or not is_equation(equation)):
            raise refuse(
                "Einsum has no proper equation", expected="letters, ... and ->, as in 'ij,jk->ik'", op=label
            )
        values = {name: _value(attribute) for name, attribute in attributes.items()}
        wrong = wrong_attribute(node.op_type, values, min(self.opset, OPSET))
        if wrong is not None:
            raise refuse(wrong.message, expected=wrong.expected, received=wrong.received, op=label)
        if (
            node.op_type == "Split"
            and "num_outputs" in attributes
            and attributes["num_outputs"].i != len(node.output)
        ):
            raise refuse(
                "Split has another number of outputs than it says",
                expected=attributes["num_outputs"].i,
                received=len(node.output),
                op=label,
            )

    def _attribute(self, attribute: AttributeProto, label: str) -> None:
        field = _FIELDS.get(attribute.type)
        if field is None or attribute.ref_attr_name:
            raise refuse(f"the attribute {attribute.name[:80]!r} has a type that is not supported", op=label)
        if attribute.type == AttributeProto.TENSOR:
            self._tensor(attribute.t, label)
        for text in [attribute.s, *attribute.strings]:
            if len(text) > MAX_STRING:
                raise refuse(
                    f"the attribute {attribute.name[:80]!r} is too long",
                    expected=f"at most {MAX_STRING} bytes",
                    op=label,
                )
        if field in ("i", "ints") and not attribute.name.startswith("value"):
            numbers = [attribute.i] if field == "i" else attribute.ints
            if any(not -MAX_DIM <= number <= MAX_DIM for number in numbers):
                raise refuse(
                    f"the attribute {attribute.name[:80]!r} is out of range",
                    expected=f"{-MAX_DIM} to {MAX_DIM}",
                    op=label,
                )

    def _tensor(self, tensor: TensorProto, label: str) -> None:
        if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
            raise refuse("the model keeps tensors in other files", expected="all data inside the model", op=label[:200],
                         hint="save it without external data")  # fmt: skip
        count = math.ceil(self._count(tensor.dims, label) * itemsize(_dtype(tensor.data_type, label)))
        given = _given_bytes(tensor)
        if given != count or tensor.HasField("segment"):
            raise refuse(
                "a tensor's bytes do not match its dims",
                expected=f"{count} bytes for {list(tensor.dims)}",
                received=f"{given} bytes",
                op=label,
            )

    def _count(self, dims: Iterable[int], label: str) -> int:
        shape = list(dims)
        if len(shape) > self.limits.rank or any(not 0 <= dim <= MAX_DIM for dim in shape):
            raise refuse(
                "a shape that no tensor can have",
                expected=f"up to {self.limits.rank} dims from 0 to {MAX_DIM}",
                received=str(shape[:40]),
                op=label,
            )
        return math.prod(shape)

    def _types(self, infos: Iterable[ValueInfoProto]) -> None:
        for info in infos:
            kind = info.type.WhichOneof("value")
            if kind is None:
                continue
            if kind != "tensor_type":
                raise refuse(
                    TENSORS,
                    expected="a tensor",
                    received=f"{info.name[:80]!r} is a {kind.removesuffix('_type')}",
                )
            if info.type.tensor_type.elem_type:
                _dtype(info.type.tensor_type.elem_type, info.name)
            self._count((dim.dim_value for dim in info.type.tensor_type.shape.dim), info.name)


def _value(attribute: AttributeProto) -> Any:
    """Of an attribute of numbers or text; of graphs and tensors nothing."""
    field = _FIELDS.get(attribute.type)
    if field in ("ints", "strings"):
        return list(getattr(attribute, field))
    return getattr(attribute, field) if field in ("i", "s") else None


def _dtype(elem_type: int, label: str) -> np.dtype[np.generic]:
    try:
        return from_elem_type(elem_type)
    except (DTypeError, ValueError) as error:
        known = (
            TensorProto.DataType.Name(elem_type) if elem_type in TensorProto.DataType.values() else elem_type
        )
        raise refuse(
            "tensors of this type are not supported",
            expected="numbers or booleans",
            received=known,
            op=label[:200],
        ) from error


_TYPED = {"float_data": 4, "int32_data": 4, "int64_data": 8, "double_data": 8, "uint64_data": 8}


def _given_bytes(tensor: TensorProto) -> int:
    """Bytes of data that the tensor brings, whatever field they are in; -1 for data in several fields."""
    dtype = from_elem_type(tensor.data_type)
    found = [len(getattr(tensor, field)) * dtype.itemsize for field in _TYPED if getattr(tensor, field)]
    if tensor.string_data or len(found) + bool(tensor.raw_data) > 1:
        return -1
    return found[0] if found else len(tensor.raw_data)
