"""Optimizers of ONNX Runtime that change results, and the models that must do without them.

Found by comparing with NumPy, in version 1.31: `MatmulTransposeFusion` computes `Transpose(A) @ vector` as if A were not
transposed; `MatMulScaleFusion` keeps a constant factor of float64 matrices in float32; `ConstantFolding` cannot store the
2-bit integers that it computes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onnx import TensorProto

_TWO_BITS = frozenset({TensorProto.INT2, TensorProto.UINT2})


def flawed(graphs: Iterable[Any]) -> list[str]:
    """The optimizers to leave out for a model of these graphs, functions and bodies. Of unknown types the worst is assumed."""
    kept = list(graphs)
    ranks: dict[str, int] = {}
    dtypes: set[int] = set()
    for graph in kept:
        named = [
            *graph.value_info,
            *(v for v in graph.input if not isinstance(v, str)),
            *(v for v in graph.output if not isinstance(v, str)),
        ]
        for info in named:
            tensor = info.type.tensor_type
            dtypes.add(tensor.elem_type)
            if tensor.HasField("shape"):
                ranks[info.name] = len(tensor.shape.dim)
        for constant in getattr(graph, "initializer", ()):
            dtypes.add(constant.data_type)
            ranks[constant.name] = len(constant.dims)
    multiplied = [node.input[1] for graph in kept for node in graph.node if node.op_type == "MatMul"]
    found = []
    if any(ranks.get(name, 1) == 1 for name in multiplied):
        found.append("MatmulTransposeFusion")
    if multiplied and TensorProto.DOUBLE in dtypes:
        found.append("MatMulScaleFusion")
    cast_to = {
        a.i
        for graph in kept
        for node in graph.node
        if node.op_type == "Cast"
        for a in node.attribute
        if a.name == "to"
    }
    if not _TWO_BITS.isdisjoint(dtypes | cast_to):
        found.append("ConstantFolding")
    return found
