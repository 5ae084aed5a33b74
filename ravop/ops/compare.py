"""Comparison and choice, element by element, with NumPy's broadcasting. Comparisons give booleans; what is asked of truth
values and of single numbers is in `logic`.
"""

from __future__ import annotations

from typing import overload

import numpy as np

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.dtypes import BOOL, is_float
from ravop.graph.graph import graph_of
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import as_op, booleans, common, exact, node, numbers, operator

__all__ = [
    "clip", "equal", "fmax", "fmin", "greater", "greater_equal", "less", "less_equal", "maximum", "minimum", "nonzero",
    "not_equal", "where",
]  # fmt: skip


def _ordering(op_type: str, a: Operand, b: Operand) -> Op:
    x, y = common(a, b)
    return node(op_type, [numbers(x), numbers(y)])


@operator
def greater(a: Operand, b: Operand) -> Op:
    """a > b.

    Example:
        >>> R.greater([1, 2, 3], 2)
        [False, False, True]
    """
    return _ordering("Greater", a, b)


@operator
def greater_equal(a: Operand, b: Operand) -> Op:
    """a ≥ b.

    Example:
        >>> R.greater_equal([1, 2, 3], 2)
        [False, True, True]
    """
    return _ordering("GreaterOrEqual", a, b)


@operator
def less(a: Operand, b: Operand) -> Op:
    """a < b.

    Example:
        >>> R.less([1, 2, 3], 2)
        [True, False, False]
    """
    return _ordering("Less", a, b)


@operator
def less_equal(a: Operand, b: Operand) -> Op:
    """a ≤ b.

    Example:
        >>> R.less_equal([1, 2, 3], 2)
        [True, True, False]
    """
    return _ordering("LessOrEqual", a, b)


@operator
def equal(a: Operand, b: Operand) -> Op:
    """a = b; NaN equals nothing.

    Example:
        >>> R.equal([1, 2, 3], 2)
        [False, True, False]
    """
    x, y = common(a, b)
    return node("Equal", [x, y])


@operator
def not_equal(a: Operand, b: Operand) -> Op:
    """a ≠ b.

    Example:
        >>> R.not_equal([1, 2, 3], 2)
        [True, False, True]
    """
    return node("Not", [equal(a, b)])


@operator
def maximum(a: Operand, b: Operand) -> Op:
    """The larger of a and b; NaN where one is NaN.

    Example:
        >>> R.maximum([1, 5, 3], 2)
        [2, 5, 3]
    """
    x, y = common(a, b)
    return node("Or", [x, y]) if x.dtype == BOOL else exact("Max", [x, y])


@operator
def minimum(a: Operand, b: Operand) -> Op:
    """The smaller of a and b; NaN where one is NaN.

    Example:
        >>> R.minimum([1, 5, 3], 2)
        [1, 2, 2]
    """
    x, y = common(a, b)
    return node("And", [x, y]) if x.dtype == BOOL else exact("Min", [x, y])


@operator
def fmax(a: Operand, b: Operand) -> Op:
    """The larger of a and b; where one is NaN, the other.

    Example:
        >>> R.fmax([1, np.nan, 3], 2)
        [2.0, 2.0, 3.0]
    """
    x, y = common(a, b)
    return maximum(x, y) if not is_float(x.dtype) else maximum(*_filled(x, y))


@operator
def fmin(a: Operand, b: Operand) -> Op:
    """The smaller of a and b; where one is NaN, the other.

    Example:
        >>> R.fmin([1, np.nan, 3], 2)
        [1.0, 2.0, 2.0]
    """
    x, y = common(a, b)
    return minimum(x, y) if not is_float(x.dtype) else minimum(*_filled(x, y))


def _filled(x: Op, y: Op) -> tuple[Op, Op]:
    """Each with the other where it is NaN."""
    return node("Where", [node("IsNaN", [x]), y, x]), node("Where", [node("IsNaN", [y]), x, y])


@operator
def clip(x: Operand, lower_limit: Operand | None = None, upper_limit: Operand | None = None) -> Op:
    """x, not below `lower_limit` and not above `upper_limit`; None is no limit.

    Example:
        >>> R.clip([-2, 0.5, 7], 0, 1)
        [0.0, 0.5, 1.0]
    """
    op = as_op(x)
    if lower_limit is None and upper_limit is None:
        raise ArgumentError(
            "clip needs a limit", expected="lower_limit, upper_limit or both", received="neither"
        )
    if lower_limit is not None:
        op = maximum(op, lower_limit)
    return op if upper_limit is None else minimum(op, upper_limit)


@overload
def where(condition: Operand) -> tuple[Op, ...]: ...
@overload
def where(condition: Operand, a: Operand, b: Operand) -> Op: ...
@operator
def where(condition: Operand, a: Operand | None = None, b: Operand | None = None) -> Op | tuple[Op, ...]:
    """a where the condition holds, else b. With the condition alone: where it holds, as `nonzero`.

    Example:
        >>> R.where([True, False, True], [1, 2, 3], 0)
        [1, 0, 3]
    """
    if a is None and b is None:
        return nonzero(condition)
    if a is None or b is None:
        raise ArgumentError(
            "where chooses between two values", expected="both a and b, or neither", received="one of them"
        )
    test = booleans(graph_of(condition, a, b).tensor(condition))
    x, y = common(a, b)
    return exact("Where", [x, y], before=[test])


@operator
def nonzero(x: Operand) -> tuple[Op, ...]:
    """Where x is not zero, in order: one int64 vector of indices for each axis; how many is known when it is computed.

    Example:
        >>> R.nonzero([[3, 0], [0, 4]])
        ([0, 1], [0, 1])
    """
    op = as_op(x)
    if not op.ndim:
        raise ShapeError("a scalar has no places", expected="at least one axis", received="a scalar")
    found = node("NonZero", [booleans(op)])
    places = [op.graph.constant(np.array(axis, dtype=np.int64)) for axis in range(op.ndim)]
    return tuple(node("Gather", [found, place], axis=0) for place in places)
