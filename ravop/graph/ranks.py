"""A bound on the number of dimensions of every value of a model, before ONNX infers shapes.

Shape inference takes time and memory in proportion to ranks, and a chain of a few thousand `Unsqueeze`
nodes, or one `ConstantOfShape` of a long input, makes that unbounded. So ranks are bounded first: what a
value is declared to have, else what the operator gives at most. Only `ravop.graph.check` calls this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto

from ravop.errors import InvalidModelError

SHAPE_OPERAND = {
    "AffineGrid": 1,
    "Col2Im": 1,
    "ConstantOfShape": 0,
    "Expand": 1,
    "Reshape": 1,
    "Unsqueeze": 1,
}
"""Operators whose result has a dim for each element of an operand: it must be a constant."""
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
AXES_OPERAND = {"Squeeze": 1, **{f"Reduce{kind}": 1 for kind in _REDUCTIONS}}
"""Operators that take away a dim for each element of an operand, where it is a constant."""

_Rule = Callable[[NodeProto, Sequence[int], int], int]
"""(node, ranks of its inputs, elements of the operand above or -1) → bound of its outputs' ranks."""


def _gather(node: NodeProto, ranks: Sequence[int], size: int) -> int:
    return sum(ranks[:2])


def _einsum(node: NodeProto, ranks: Sequence[int], size: int) -> int:
    equation = next((a.s.decode(errors="replace") for a in node.attribute if a.name == "equation"), "")
    return max(ranks) + len(equation.rpartition(">")[2])


def _squeeze(node: NodeProto, ranks: Sequence[int], size: int) -> int:
    return max(0, ranks[0] - max(0, size))


def _reduce(node: NodeProto, ranks: Sequence[int], size: int) -> int:
    attributes = {a.name: a for a in node.attribute}
    if "keepdims" not in attributes or attributes["keepdims"].i:
        return ranks[0]
    if "axes" in attributes:
        size = len(attributes["axes"].ints)
    return max(0, ranks[0] - max(0, size))


def _arg(node: NodeProto, ranks: Sequence[int], size: int) -> int:
    kept = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
    return ranks[0] if kept else max(0, ranks[0] - 1)


def _more(count: int) -> _Rule:
    return lambda node, ranks, size: max(ranks) + count


def _exactly(count: int) -> _Rule:
    return lambda node, ranks, size: count


def _largest(node: NodeProto, ranks: Sequence[int], size: int) -> int:
    return max(ranks)


RULES: dict[str, _Rule] = {
    "ConstantOfShape": lambda node, ranks, size: size,
    "Reshape": lambda node, ranks, size: size,
    "Expand": lambda node, ranks, size: max(ranks[0], size),
    "Unsqueeze": lambda node, ranks, size: ranks[0] + size,
    "Col2Im": lambda node, ranks, size: size + 2,
    "AffineGrid": _exactly(5),
    "Flatten": _exactly(2),
    "Einsum": _einsum,
    "Gather": _gather,
    "GatherND": _gather,
    "Squeeze": _squeeze,
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **{f"Reduce{kind}": _reduce for kind in _REDUCTIONS},
    **dict.fromkeys(("GRU", "LSTM", "OneHot", "RNN"), _more(1)),
    **dict.fromkeys(("DFT", "MelWeightMatrix", "NonMaxSuppression", "NonZero", "STFT"), _more(2)),
    **dict.fromkeys(("Shape", "Size"), _exactly(1)),
}
"""Operators that may give more dims than they read, or fewer; all others give at most as many."""

FunctionId = tuple[str, str, str]
_Functions = dict[FunctionId, onnx.FunctionProto]


def bound_ranks(model: onnx.ModelProto, limit: int) -> None:
    """Raises `InvalidModelError` where a value may have more than `limit` dims. Functions must not be recursive."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    _Bounds(functions, {}, limit).graph(model.graph, 0)


class _Bounds:
    """The bounds inside the main graph or one function."""

    def __init__(self, functions: _Functions, calls: dict[tuple[FunctionId, int], int], limit: int) -> None:
        self._functions = functions
        self._calls = calls
        """Bound of what a function gives, by the largest rank it is called with."""
        self._limit = limit
        self._ranks: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        """Elements of each constant."""

    def graph(self, graph: GraphProto, given: int) -> int:
        """Bound everything in `graph`, whose undeclared inputs have `given` dims. → bound of its outputs."""
        declared = _declared((*graph.input, *graph.output, *graph.value_info))
        for info in graph.input:
            self._ranks[info.name] = declared.get(info.name, given)
        for tensor in graph.initializer:
            self._constant(tensor.name, tensor)
        for node in graph.node:
            self._node(node, declared)
        return max((self._ranks.get(output.name, 0) for output in graph.output), default=0)

    def function(self, function: onnx.FunctionProto, given: int) -> int:
        self._ranks = dict.fromkeys(function.input, given)
        for node in function.node:
            self._node(node, {})
        return max((self._ranks.get(name, 0) for name in function.output), default=0)

    def _constant(self, name: str, tensor: TensorProto) -> None:
        self._ranks[name], self._sizes[name] = len(tensor.dims), math.prod(tensor.dims)

    def _node(self, node: NodeProto, declared: dict[str, int]) -> None:
        bound = self._bound(node, [self._ranks.get(name, 0) for name in node.input] or [0])
        for name in node.output:
            self._ranks[name] = declared.get(name, bound)
            if self._ranks[name] > self._limit:
                raise InvalidModelError(
                    "a tensor of too many dimensions",
                    expected=f"at most {self._limit}",
                    op=node.name or node.op_type,
                )

    def _bound(self, node: NodeProto, ranks: Sequence[int]) -> int:
        function = (node.domain, node.op_type, node.overload)
        if function in self._functions:
            return self._call(function, max(ranks))
        bodies = [a.g for a in node.attribute if a.type == AttributeProto.GRAPH]
        if bodies:
            return max(self.graph(body, max(ranks)) for body in bodies) + 1
        if node.op_type == "Constant":
            return self._constant_node(node)
        return RULES.get(node.op_type, _largest)(node, ranks, self._operand_size(node))

    def _call(self, function: FunctionId, given: int) -> int:
        key = (function, given)
        if key not in self._calls:
            inside = _Bounds(self._functions, self._calls, self._limit)
            self._calls[key] = inside.function(self._functions[function], given)
        return self._calls[key]

    def _constant_node(self, node: NodeProto) -> int:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                self._constant(node.output[0], attribute.t)
                return len(attribute.t.dims)
            self._sizes[node.output[0]] = len(attribute.ints)
        return 1

    def _operand_size(self, node: NodeProto) -> int:
        must = node.op_type in SHAPE_OPERAND
        position = (SHAPE_OPERAND if must else AXES_OPERAND).get(node.op_type, len(node.input))
        name = node.input[position] if position < len(node.input) else ""
        if must and name not in self._sizes:
            raise InvalidModelError(
                f"the rank of what {node.op_type} gives cannot be known before the run",
                expected="a constant where the operator takes a shape",
                received=repr(name),
                op=node.name or node.op_type,
            )
        return self._sizes.get(name, -1)


def _declared(infos: Iterable[ValueInfoProto]) -> dict[str, int]:
    return {
        info.name: len(info.type.tensor_type.shape.dim)
        for info in infos
        if info.type.tensor_type.HasField("shape")
    }
