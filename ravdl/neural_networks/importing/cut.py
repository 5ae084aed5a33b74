"""A part of an ONNX model as a model: what certain values of it are computed from, under the same names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

MAX_BYTES = 2**31 - 1
"""Of an ONNX model in one piece: protobuf's limit."""


def cut(proto: onnx.ModelProto, outputs: Mapping[str, int]) -> onnx.ModelProto:
    """The model that gives these values: names with ONNX's numbers of their dtypes."""
    graph = proto.graph
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    wanted, todo = set(), list(outputs)
    needed: set[int] = set()
    while todo:
        name = todo.pop()
        if name in wanted:
            continue
        wanted.add(name)
        if name in makers and makers[name] not in needed:
            needed.add(makers[name])
            todo += _read(graph.node[makers[name]])
    part = onnx.ModelProto(ir_version=proto.ir_version, producer_name=proto.producer_name)
    part.opset_import.extend(proto.opset_import)
    part.functions.extend(proto.functions)
    part.graph.name = graph.name or "part"
    part.graph.node.extend(graph.node[number] for number in sorted(needed))
    part.graph.input.extend(value for value in graph.input if value.name in wanted)
    part.graph.initializer.extend(value for value in graph.initializer if value.name in wanted)
    part.graph.sparse_initializer.extend(v for v in graph.sparse_initializer if v.values.name in wanted)
    part.graph.value_info.extend(value for value in graph.value_info if value.name in wanted)
    for name, kind in outputs.items():
        part.graph.output.add(name=name).type.tensor_type.elem_type = kind
    return part


def _read(node: onnx.NodeProto) -> Iterable[str]:
    """The names that a node takes, those that its bodies take from around them included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            for inner in body.node:
                yield from _read(inner)
            yield from (output.name for output in body.output)
