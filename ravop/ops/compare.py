"""Comparison, logic and choice, element by element, with NumPy's broadcasting. Comparisons and logic give booleans."""

from __future__ import annotations

from ravop.errors import ArgumentError
from ravop.graph.dtypes import BOOL, is_float
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import as_op, booleans, common, exact, node, numbers, operator

__all__ = [
    "clip", "equal", "greater", "greater_equal", "isfinite", "isinf", "isnan", "less", "less_equal", "logical_and",
    "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "not_equal", "where",
]  # fmt: skip


def _ordering(op_type: str, a: Operand, b: Operand) -> Op:
    x, y = common(a, b)
    return node(op_type, [numbers(x), numbers(y)])


@operator
def greater(a: Operand, b: Operand) -> Op:
    """a > b."""
    return _ordering("Greater", a, b)


@operator
def greater_equal(a: Operand, b: Operand) -> Op:
    """a ≥ b."""
    return _ordering("GreaterOrEqual", a, b)


@operator
def less(a: Operand, b: Operand) -> Op:
    """a < b."""
    return _ordering("Less", a, b)


@operator
def less_equal(a: Operand, b: Operand) -> Op:
    """a ≤ b."""
    return _ordering("LessOrEqual", a, b)


@operator
def equal(a: Operand, b: Operand) -> Op:
    """a = b; NaN equals nothing."""
    x, y = common(a, b)
    return node("Equal", [x, y])


@operator
def not_equal(a: Operand, b: Operand) -> Op:
    """a ≠ b."""
    return node("Not", [equal(a, b)])


@operator
def logical_and(a: Operand, b: Operand) -> Op:
    """Whether both are true; numbers are true when they are not zero."""
    return node("And", [booleans(a), booleans(b)])


@operator
def logical_or(a: Operand, b: Operand) -> Op:
    """Whether at least one is true."""
    return node("Or", [booleans(a), booleans(b)])


@operator
def logical_xor(a: Operand, b: Operand) -> Op:
    """Whether exactly one is true."""
    return node("Xor", [booleans(a), booleans(b)])


@operator
def logical_not(x: Operand) -> Op:
    """Whether x is false."""
    return node("Not", [booleans(x)])


@operator
def isnan(x: Operand) -> Op:
    """Whether x is NaN."""
    op = as_op(x)
    return node("IsNaN", [op]) if is_float(op.dtype) else node("Not", [equal(op, op)])


@operator
def isinf(x: Operand) -> Op:
    """Whether x is infinite."""
    op = as_op(x)
    return (
        node("Equal", [node("Abs", [op]), op.graph.tensor(float("inf"), op.dtype)])
        if is_float(op.dtype)
        else isnan(op)
    )


@operator
def isfinite(x: Operand) -> Op:
    """Whether x is neither NaN nor infinite."""
    op = as_op(x)
    return node("Not", [node("Or", [isnan(op), isinf(op)])])


@operator
def maximum(a: Operand, b: Operand) -> Op:
    """The larger of a and b; NaN where one is NaN."""
    x, y = common(a, b)
    return node("Or", [x, y]) if x.dtype == BOOL else exact("Max", [x, y])


@operator
def minimum(a: Operand, b: Operand) -> Op:
    """The smaller of a and b; NaN where one is NaN."""
    x, y = common(a, b)
    return node("And", [x, y]) if x.dtype == BOOL else exact("Min", [x, y])


@operator
def clip(x: Operand, lower_limit: Operand | None = None, upper_limit: Operand | None = None) -> Op:
    """x, not below `lower_limit` and not above `upper_limit`; None is no limit."""
    op = as_op(x)
    if lower_limit is None and upper_limit is None:
        raise ArgumentError(
            "clip needs a limit", expected="lower_limit, upper_limit or both", received="neither"
        )
    if lower_limit is not None:
        op = maximum(op, lower_limit)
    return op if upper_limit is None else minimum(op, upper_limit)


@operator
def where(condition: Operand, a: Operand, b: Operand) -> Op:
    """a where the condition holds, else b."""
    test = booleans(condition)
    x, y = common(a, b)
    return exact("Where", [x, y], before=[test])
