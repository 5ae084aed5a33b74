"""Logic, and what is asked of numbers: whether they are finite, close, equal. All give booleans."""

from __future__ import annotations

from ravop.graph.dtypes import FLOAT, is_float
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import as_op, booleans, common, node, operator, scalar
from ravop.ops.compare import equal

__all__ = [
    "allclose", "array_equal", "isclose", "isfinite", "isinf", "isnan", "isneginf", "isposinf", "logical_and", "logical_not",
    "logical_or", "logical_xor",
]  # fmt: skip


@operator
def isclose(a: Operand, b: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Op:
    """Whether |a − b| ≤ atol + rtol · |b|; infinities are close to themselves, NaNs with `equal_nan`.

    Example:
        >>> R.isclose([1, 2], [1.000001, 2.1])
        [True, False]
    """
    x, y = common(a, b, at_least=FLOAT)
    room = node("Add", [node("Mul", [node("Abs", [y]), scalar(y, rtol)]), scalar(y, atol)])
    near = node("LessOrEqual", [node("Abs", [node("Sub", [x, y])]), room])
    close = node("Or", [node("And", [near, isfinite(y)]), node("Equal", [x, y])])
    return node("Or", [close, node("And", [isnan(x), isnan(y)])]) if equal_nan else close


@operator
def allclose(a: Operand, b: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Op:
    """Whether all elements are close (see `isclose`), a boolean scalar.

    Example:
        >>> R.allclose([1, 2], [1.000001, 2.1])
        False
    """
    return _all(isclose(a, b, rtol, atol, equal_nan))


@operator
def array_equal(a: Operand, b: Operand) -> Op:
    """Whether a and b have one shape and equal elements, a boolean scalar.

    Example:
        >>> R.array_equal([1, 2], [1, 2])
        True
    """
    x, y = as_op(a), as_op(b)
    if x.ndim != y.ndim or any(
        isinstance(n, int) and isinstance(m, int) and n != m for n, m in zip(x.shape, y.shape, strict=True)
    ):
        return x.graph.tensor(False)
    return _all(equal(x, y))


def _all(test: Op) -> Op:
    return node("ReduceMin", [test], keepdims=0)


@operator
def logical_and(a: Operand, b: Operand) -> Op:
    """Whether both are true; numbers are true when they are not zero.

    Example:
        >>> R.logical_and([True, True, False], [True, False, False])
        [True, False, False]
    """
    return node("And", _truths(a, b))


@operator
def logical_or(a: Operand, b: Operand) -> Op:
    """Whether at least one is true.

    Example:
        >>> R.logical_or([True, True, False], [True, False, False])
        [True, True, False]
    """
    return node("Or", _truths(a, b))


@operator
def logical_xor(a: Operand, b: Operand) -> Op:
    """Whether exactly one is true.

    Example:
        >>> R.logical_xor([True, True, False], [True, False, False])
        [False, True, False]
    """
    return node("Xor", _truths(a, b))


def _truths(*values: Operand) -> list[Op]:
    return [booleans(value) for value in values]


@operator
def logical_not(x: Operand) -> Op:
    """Whether x is false.

    Example:
        >>> R.logical_not([True, False])
        [False, True]
    """
    return node("Not", [booleans(x)])


@operator
def isnan(x: Operand) -> Op:
    """Whether x is NaN.

    Example:
        >>> R.isnan([1, np.nan, np.inf])
        [False, True, False]
    """
    op = as_op(x)
    return node("IsNaN", [op]) if is_float(op.dtype) else node("Not", [equal(op, op)])


@operator
def isinf(x: Operand) -> Op:
    """Whether x is infinite.

    Example:
        >>> R.isinf([1, np.nan, -np.inf])
        [False, False, True]
    """
    op = as_op(x)
    if not is_float(op.dtype):
        return isnan(op)
    return node("Equal", [node("Abs", [op]), scalar(op, float("inf"))])


@operator
def isposinf(x: Operand) -> Op:
    """Whether x is ∞.

    Example:
        >>> R.isposinf([1, np.inf, -np.inf])
        [False, True, False]
    """
    return _is(x, float("inf"))


@operator
def isneginf(x: Operand) -> Op:
    """Whether x is −∞.

    Example:
        >>> R.isneginf([1, np.inf, -np.inf])
        [False, False, True]
    """
    return _is(x, float("-inf"))


def _is(x: Operand, value: float) -> Op:
    op = as_op(x)
    return node("Equal", [op, scalar(op, value)]) if is_float(op.dtype) else isnan(op)


@operator
def isfinite(x: Operand) -> Op:
    """Whether x is neither NaN nor infinite.

    Example:
        >>> R.isfinite([1, np.nan, np.inf])
        [True, False, False]
    """
    op = as_op(x)
    if not is_float(op.dtype):
        return equal(op, op)
    return node("Less", [node("Abs", [op]), scalar(op, float("inf"))])
