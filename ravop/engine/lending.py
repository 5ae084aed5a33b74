"""Kernels lent by wider dtypes: where ONNX Runtime cannot compute an operator in a dtype, it computes it in a wider one.

The model that is loaded gets a `Cast` before and after such nodes. Only where nothing can tell the difference: integers
keep their value modulo their size through sums, products, shifts and bits; bfloat16 and float8 are what float32 rounds
to. float64 has nothing wider to borrow from. The stored model stays as it is. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

import onnx
from onnx import TensorProto, defs, helper, inliner, shape_inference

_FLOATS = ("BFLOAT16", "FLOAT16", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ")
_WIDER: dict[int, tuple[int, ...]] = {
    **{TensorProto.DataType.Value(name): (TensorProto.FLOAT,) for name in _FLOATS},
    **dict.fromkeys((TensorProto.INT8, TensorProto.INT16), (TensorProto.INT32, TensorProto.INT64)),
    **dict.fromkeys(
        (TensorProto.UINT8, TensorProto.UINT16), (TensorProto.INT32, TensorProto.INT64, TensorProto.UINT32)
    ),
    TensorProto.UINT32: (TensorProto.INT64, TensorProto.UINT64),
}
"""Dtypes that hold all values of a dtype, those tried first in front."""
_CHOICES = max(map(len, _WIDER.values()))
_FIXED = "BitCast Cast CastLike Constant ConstantOfShape ConvInteger DequantizeLinear DynamicQuantizeLinear EyeLike If Loop"
_BOUND_TO_DTYPE = {*_FIXED.split(), "MatMulInteger", "QLinearConv", "QLinearMatMul", "QuantizeLinear", "Scan"}
"""Operators whose meaning depends on the dtypes of what they take or give, or that have bodies."""


def lend(model: onnx.ModelProto, choices: dict[str, int], lacking: str) -> onnx.ModelProto | None:
    """The model with the nodes of the operators in `choices` computed in wider dtypes, those of `lacking` in the next wider one
    than before; None where there is none. `choices` keeps which of the wider dtypes each operator was given.

    The engine may lack a kernel of an operator that it puts in the place of those in the model, such as those that Softmax is
    defined by; then all are lent to.
    """
    if lacking in _BOUND_TO_DTYPE:
        return None
    flat = inliner.inline_local_functions(model) if model.functions else model
    held = set(_operators(flat.graph)) - _BOUND_TO_DTYPE
    if lacking in held:
        for choice in range(choices.get(lacking, -1) + 1, _CHOICES):
            choices[lacking] = choice
            made = _widened(flat, choices)
            if made is not None:
                return made
        choices[lacking] = 0
    others = held - choices.keys()
    choices |= dict.fromkeys(others, 0)
    return _widened(flat, choices) if others else None


def _widened(model: onnx.ModelProto, operators: Mapping[str, int]) -> onnx.ModelProto | None:
    """The model with these operators computed in wider dtypes; None where that changes nothing."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    typed = shape_inference.infer_shapes(made)
    lender = _Lender(typed, operators)
    lender.rewrite(made.graph)
    return made if lender.changed else None


class _Lender:
    """One rewrite of a model."""

    def __init__(self, model: onnx.ModelProto, operators: Mapping[str, int]) -> None:
        self._operators = operators
        self._opset = next((entry.version for entry in model.opset_import if not entry.domain), 1)
        self._types = dict(_types(model.graph))
        self._numbers = count()
        self.changed = False

    def rewrite(self, graph: onnx.GraphProto) -> None:
        nodes: list[onnx.NodeProto] = []
        for kept in graph.node:
            node = onnx.NodeProto()
            node.CopyFrom(kept)
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    self.rewrite(attribute.g)
            nodes += self._wrapped(node)
        del graph.node[:]
        graph.node.extend(nodes)

    def _wrapped(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        wider = self._wider(node) if node.op_type in self._operators and not node.domain else {}
        if not wider:
            return [node]
        self.changed = True
        before, after = [], []
        for place, name in enumerate(node.input):
            kind = self._types.get(name)
            if kind in wider:
                node.input[place] = self._fresh(name)
                before.append(self._cast(name, node.input[place], wider[kind], node.name))
        for place, name in enumerate(node.output):
            kind = self._types.get(name)
            if kind in wider:
                node.output[place] = self._fresh(name)
                after.append(self._cast(node.output[place], name, kind, node.name))
        return [*before, node, *after]

    def _wider(self, node: onnx.NodeProto) -> dict[int, int]:
        """What the dtypes of the node's tensors become; empty where that is not possible."""
        choice = self._operators[node.op_type]
        kinds = {self._types.get(name, 0) for name in (*node.input, *node.output)}
        return {
            kind: _WIDER[kind][choice]
            for kind in kinds
            if choice < len(_WIDER.get(kind, ()))
            and _takes(node.op_type, self._opset, {kind, _WIDER[kind][choice]})
        }

    def _fresh(self, name: str) -> str:
        return f"{name}/lent_{next(self._numbers)}"

    def _cast(self, source: str, target: str, kind: int, near: str) -> onnx.NodeProto:
        return helper.make_node("Cast", [source], [target], name=f"{near}/{target}", to=kind)


def _takes(op_type: str, opset: int, kinds: set[int]) -> bool:
    """Whether the operator takes tensors of all these dtypes in the same place."""
    names = {f"tensor({TensorProto.DataType.Name(kind).lower()})" for kind in kinds}
    schema = defs.get_schema(op_type, opset, "")
    return any(names <= set(constraint.allowed_type_strs) for constraint in schema.type_constraints)


def _operators(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _operators(attribute.g)


def _types(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    """The dtype of each value by name, in bodies too."""
    for info in (*graph.input, *graph.output, *graph.value_info):
        yield info.name, info.type.tensor_type.elem_type
    for tensor in graph.initializer:
        yield tensor.name, tensor.data_type
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _types(attribute.g)
