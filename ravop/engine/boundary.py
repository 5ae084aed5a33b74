"""Where narrow dtypes enter and leave ONNX Runtime, whose Python binding does not know them.

Inputs and outputs of the model that is loaded become ones of a wider dtype, with a `Cast` inside: all values of a narrow
dtype are values of the wider one, so nothing is lost. The stored model stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper

from ravop.graph.dtypes import DType, from_elem_type, is_float, to_ir
from ravop.protocol.tensors import NARROW, Array

_FLOAT32, _INT32 = np.dtype(np.float32), np.dtype(np.int32)
_KNOWN = frozenset(int(to_ir(dtype)) for dtype in NARROW.values())
_SATURATING = frozenset(
    int(to_ir(dtype)) for name, dtype in NARROW.items() if name.startswith("float8_e")
) - {int(to_ir(NARROW["float8_e8m0fnu"]))}


class Boundary(NamedTuple):
    """The narrow dtypes of a model's inputs and outputs, by name."""

    inputs: Mapping[str, DType]
    outputs: Mapping[str, DType]

    def __bool__(self) -> bool:
        return bool(self.inputs or self.outputs)

    def widened(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What the loaded model takes. Raises `TypeError` for an input of another dtype than the model says."""
        return {
            name: _widened(name, array, self.inputs[name]) if name in self.inputs else array
            for name, array in inputs.items()
        }

    def narrowed(self, name: str, array: Array) -> Array:
        """The output as the stored model gives it."""
        return array.astype(self.outputs[name]) if name in self.outputs else array


def boundary(model: onnx.ModelProto) -> Boundary:
    return Boundary(_narrow(model.graph.input), _narrow(model.graph.output))


def widen(model: onnx.ModelProto, found: Boundary) -> onnx.ModelProto:
    """The model with wider inputs and outputs of the same names; inside, the narrow values have new names."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    taken = {name for node in _all_nodes(wide.graph) for name in (*node.input, *node.output)}
    renamed: dict[str, str] = {}
    for name in (*found.inputs, *found.outputs):
        new = f"{name}/narrow"
        while new in taken:
            new += "_"
        renamed[name] = new
    _rename(wide.graph, renamed)
    before = [_cast(name, renamed[name], int(to_ir(dtype))) for name, dtype in found.inputs.items()]
    after = [
        _cast(renamed[name], name, int(to_ir(_wide(dtype))))
        for name, dtype in found.outputs.items()
        if name not in found.inputs
    ]
    nodes = [*before, *wide.graph.node, *after]
    del wide.graph.node[:]
    wide.graph.node.extend(nodes)
    for info in (*wide.graph.input, *wide.graph.output):
        dtype = {**found.inputs, **found.outputs}.get(info.name)
        if dtype is not None:
            info.type.tensor_type.elem_type = int(to_ir(_wide(dtype)))
    return wide


def _wide(dtype: DType) -> DType:
    return _FLOAT32 if is_float(dtype) else _INT32


def _widened(name: str, array: Array, dtype: DType) -> Array:
    if array.dtype != dtype:
        raise TypeError(f"input {name!r} must be {dtype}, not {array.dtype}")
    return array.astype(_wide(dtype))


def _narrow(infos: Iterable[onnx.ValueInfoProto]) -> dict[str, DType]:
    return {
        info.name: from_elem_type(info.type.tensor_type.elem_type)
        for info in infos
        if info.type.tensor_type.elem_type in _KNOWN
    }


def _cast(source: str, target: str, elem_type: int) -> onnx.NodeProto:
    # Values that the narrow dtype has stay what they are: an infinity too, which would else become the largest number.
    more: dict[str, Any] = {"saturate": 0} if elem_type in _SATURATING else {}
    return helper.make_node("Cast", [source], [target], name=f"{target}/Cast", to=elem_type, **more)


def _all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    found = list(graph.node)
    for node in found:  # grows while it is walked
        found += [n for attribute in node.attribute if attribute.HasField("g") for n in attribute.g.node]
    return found


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give values new names wherever nodes make or read them; inputs and outputs of the graph itself keep theirs."""
    for node in _all_nodes(graph):
        for listed in (node.input, node.output):
            for place, name in enumerate(listed):
                listed[place] = names.get(name, name)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                for info in attribute.g.output:
                    info.name = names.get(info.name, info.name)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for info in graph.value_info:
        info.name = names.get(info.name, info.name)
