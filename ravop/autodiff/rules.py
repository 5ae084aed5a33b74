"""The table of gradient rules, and what every rule needs.

A rule takes a node and the gradients of its outputs (None where an output does not matter) and gives the gradients of
its inputs, in order; None, or nothing at the end, for an input without one. Rules may skip inputs that
`NodeView.wants` says nobody needs. They live in the family modules beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from ravop.errors import GradientError
from ravop.graph.infer import Shape
from ravop.graph.op import Op
from ravop.ops.catalogue import integers, node

Grads = Sequence[Op | None]
Rule = Callable[..., Grads]

RULES: dict[str, Rule] = {}
"""By ONNX operator name."""

CONSTANT = frozenset(
    {
        "Floor", "Ceil", "Round", "Sign", "Shape", "Size", "Constant", "ConstantOfShape", "EyeLike", "Range", "Hardmax",
        "Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
        "BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix", "QuantizeLinear", "TfIdfVectorizer",
    }
)  # fmt: skip
"""Operators whose float outputs do not change with small changes of their inputs: no gradient flows through them."""


WITHOUT = {
    "DeformConv": "the sampling positions that it learns are not written out yet",
    "MaxRoiPool": "engines do not give the places of the maxima; RoiAlign is the operator to use",
    "SequenceMap": "sequences are resolved when a model is imported",
    "Unique": "how many elements it gives is known to the run alone",
}
"""Operators with float outputs that have no rule, and why."""


def rule(*op_types: str) -> Callable[[Rule], Rule]:
    """Register a function as the gradient rule of these ONNX operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(op_types, function))
        return function

    return register


@dataclass(frozen=True)
class NodeView:
    """A node as rules see it: its operands and results as ops."""

    node: ir.Node
    inputs: tuple[Op | None, ...]
    outputs: tuple[Op, ...]
    wants: tuple[bool, ...]
    """For each input, whether its gradient is asked for."""

    @property
    def x(self) -> Op:
        """The first input."""
        return self.input(0)

    @property
    def y(self) -> Op:
        """The first output."""
        return self.outputs[0]

    def input(self, position: int) -> Op:
        """An input that must be there. Raises `GradientError` where it is left out."""
        op = self.optional(position)
        if op is None:
            raise self.error(f"its input {position} is left out")
        return op

    def optional(self, position: int) -> Op | None:
        return self.inputs[position] if position < len(self.inputs) else None

    def wanted(self, position: int) -> bool:
        return position < len(self.wants) and self.wants[position]

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute; lists come as tuples."""
        found = self.node.attributes.get(name)
        if found is None:
            return default
        return (
            tuple(found.value)
            if isinstance(found.value, Sequence) and not isinstance(found.value, str)
            else found.value
        )

    def known(self, position: int, what: str) -> tuple[int, ...] | None:
        """The numbers in an integer input, which must be a constant; None where the input is left out."""
        op = self.optional(position)
        if op is None:
            return None
        if op.constant is None:
            raise self.error(f"{what} must be a constant")
        return tuple(int(v) for v in np.ravel(op.constant))

    def axes(self, position: int = 1) -> tuple[int, ...]:
        """The axes in input `position`, counted from the front; all of the first input's where it is left out or empty."""
        given = self.known(position, "axes")
        rank = self.x.ndim
        if not given:
            return () if self.attribute("noop_with_empty_axes", 0) else tuple(range(rank))
        return tuple(sorted(axis % rank for axis in given))

    def axis(self, default: int) -> int:
        """The attribute `axis`, counted from the front."""
        return int(self.attribute("axis", default)) % max(self.x.ndim, 1)

    def error(self, reason: str, hint: str = "") -> GradientError:
        return GradientError(
            f"no gradient of {self.node.op_type}: {reason}",
            received=", ".join("nothing" if op is None else repr(op) for op in self.inputs),
            op=self.node.name or self.node.op_type, source=self.y.source, hint=hint,
        )  # fmt: skip


def sum_to(grad: Op, target: Op) -> Op:
    """`grad` summed over the axes along which `target` was broadcast (NumPy's rules), so that the shapes are equal."""
    if grad.shape == target.shape:
        return grad
    lead = grad.ndim - target.ndim
    stretched = [
        lead + axis for axis, dim in enumerate(target.shape) if dim == 1 and grad.shape[lead + axis] != 1
    ]
    if not lead and not stretched:  # the target's size is known to the run alone
        return grad
    if lead and not stretched:
        return reduce_sum(grad, range(lead), keepdims=False)
    summed = reduce_sum(grad, [*range(lead), *stretched], keepdims=True)
    return reshape(summed, target.static_shape) if lead else summed


def reduce_sum(op: Op, axes: Sequence[int], keepdims: bool) -> Op:
    return node("ReduceSum", [op, integers(op, list(axes))], keepdims=int(keepdims))


def reshape(op: Op, shape: Shape) -> Op:
    """`op` in another shape, of which at most one dimension may be unknown."""
    if op.shape == shape:
        return op
    return node("Reshape", [op, integers(op, [dim if isinstance(dim, int) else -1 for dim in shape])])


def expand(op: Op, shape: tuple[int, ...]) -> Op:
    return op if op.shape == shape else node("Expand", [op, integers(op, shape)])


def permute(op: Op, order: Sequence[int]) -> Op:
    order = list(order)
    return op if order == sorted(order) else node("Transpose", [op], perm=order)


def number(like: Op, value: float) -> Op:
    """A constant scalar of the dtype of `like`."""
    return like.graph.constant(np.array(value, dtype=like.dtype))


def zeros(like: Op) -> Op:
    return expand(number(like, 0), like.static_shape)


def total(ops: Sequence[Op]) -> Op:
    """The sum of ops of one shape."""
    return ops[0] if len(ops) == 1 else node("Add" if len(ops) == 2 else "Sum", list(ops))
