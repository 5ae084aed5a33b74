"""What is known while a model is imported: shape arithmetic is computed at once, so that shapes are known to every operator.

Small values only; ONNX's reference evaluator computes them. Pure.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from ravop.graph.graph import Graph
from ravop.graph.infer import OPSET, Shape
from ravop.graph.op import Op
from ravop.protocol.tensors import Array

LIMIT = 4096
"""Elements of what is computed at import."""
_DEPTH = 64
"""Nodes in a row that are looked through for a known value."""

STATIC: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,), "BlackmanWindow": (0,), "CenterCropPad": (1,), "Col2Im": (1, 2), "ConstantOfShape": (0,),
    "CumSum": (1,), "DFT": (1, 2), "Expand": (1,), "HammingWindow": (0,), "HannWindow": (0,), "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4), "NonMaxSuppression": (2,), "OneHot": (1,), "Pad": (1, 3), "Range": (0, 1, 2),
    "ReduceL1": (1,), "ReduceL2": (1,), "ReduceLogSum": (1,), "ReduceLogSumExp": (1,), "ReduceMax": (1,),
    "ReduceMean": (1,), "ReduceMin": (1,), "ReduceProd": (1,), "ReduceSum": (1,), "ReduceSumSquare": (1,),
    "Reshape": (1,), "Resize": (1, 2, 3), "STFT": (1, 3), "Slice": (1, 2, 3, 4), "Split": (1,), "Squeeze": (1,),
    "Tile": (1,), "TopK": (1,), "Trilu": (1,), "Unsqueeze": (1,), "Upsample": (1,),
}  # fmt: skip
"""Inputs that decide shapes or axes: they are looked through for a known value, also floats."""

UNBOUNDED = frozenset({
    "AffineGrid", "AveragePool", "Col2Im", "Conv", "ConvInteger", "ConvTranspose", "DFT", "DeformConv", "Einsum",
    "GridSample", "GRU", "LRN", "LSTM", "LpPool", "MaxPool", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix",
    "NonMaxSuppression", "QLinearConv", "RNN", "Resize", "RoiAlign", "STFT", "Upsample",
})  # fmt: skip
"""Operators whose work is not bounded by the sizes of their inputs and outputs: attributes such as dilations decide it.
No shape is made with them, and they are never computed at import."""

_FAULTS = (ValueError, TypeError, IndexError, KeyError, RuntimeError, ArithmeticError, NotImplementedError,
           AttributeError, AssertionError)  # fmt: skip
"""What the evaluator raises for what it does not know, or for inputs that do not fit."""


_QUICK: dict[str, Callable[..., Array]] = {
    "Concat": lambda attributes, *parts: np.concatenate(parts, attributes["axis"]),
    "Gather": lambda attributes, data, places: np.take(data, places, attributes.get("axis", 0)),
    "Mul": lambda attributes, a, b: a * b,
    "Add": lambda attributes, a, b: a + b,
    "Unsqueeze": lambda attributes, data, axes: np.expand_dims(data, tuple(np.ravel(axes))),
}
"""The operators that shape arithmetic is mostly made of: NumPy is asked at once. Inference has found that inputs fit."""


def small(shapes: Sequence[Shape]) -> bool:
    """Whether tensors of these shapes together are small enough to be computed at import."""
    sizes = [math.prod(dim if isinstance(dim, int) else LIMIT + 1 for dim in shape) for shape in shapes]
    return sum(sizes) <= LIMIT


def evaluate(
    op_type: str, inputs: Sequence[Array | None], attributes: Mapping[str, Any], count: int
) -> list[Array] | None:
    """The first `count` outputs of an operator; None where the evaluator cannot compute them."""
    if op_type in UNBOUNDED or any(array is not None and array.dtype.kind not in "biuf" for array in inputs):
        return None
    quick = _QUICK.get(op_type)
    if quick is not None and count == 1:
        try:
            with np.errstate(all="ignore"):
                return [np.asarray(quick(attributes, *inputs))]
        except _FAULTS:
            return None
    names = ["" if array is None else f"i{number}" for number, array in enumerate(inputs)]
    protos = {
        name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in attributes.items()
    }
    node = onnx.helper.make_node(op_type, names, [f"o{number}" for number in range(count)], **protos)
    feeds = {name: array for name, array in zip(names, inputs, strict=True) if array is not None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # such as a division by zero, whose result is what the model asks for
            found = ReferenceEvaluator(node, opsets={"": OPSET}).run(None, feeds)
    except _FAULTS:
        return None
    return [np.asarray(array) for array in found]


class Known:
    """The values of ops that constants alone decide. `parameters` are constants that training moves: they do not count."""

    def __init__(self, graph: Graph, parameters: Mapping[Op, str]) -> None:
        self.graph = graph
        self.parameters = parameters
        self._memory: dict[ir.Value, Array | None] = {}

    def value(self, op: Op, depth: int = 0) -> Array | None:
        """The value of `op`, None where it is not known or not small."""
        if op.value not in self._memory:
            self._memory[op.value] = self._look(op, depth)
        return self._memory[op.value]

    def _look(self, op: Op, depth: int) -> Array | None:
        if depth > _DEPTH or not small([op.shape]) or op in self.parameters:
            return None
        node = op.value.producer()
        if op.constant is not None or node is None:
            return op.constant
        if node.domain or any(attr.type == ir.AttributeType.GRAPH for attr in node.attributes.values()):
            return None
        inputs: list[Array | None] = []
        for given in node.inputs:
            found = None if given is None else self.value(self.graph.op_of(given), depth + 1)
            if given is not None and found is None:
                return None
            inputs.append(found)
        attributes = {
            name: attr.as_tensor().numpy() if attr.type == ir.AttributeType.TENSOR else attr.value
            for name, attr in node.attributes.items()
        }
        if node.op_type == "Constant":
            return np.asarray(attributes["value"]) if "value" in attributes else None
        outputs = evaluate(node.op_type, inputs, attributes, len(node.outputs))
        return None if outputs is None else outputs[op.value.index() or 0]
