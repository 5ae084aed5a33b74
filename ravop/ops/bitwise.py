"""Bits of integers, element by element; of booleans the same as logic."""

from __future__ import annotations

from ravop.errors import DTypeError
from ravop.graph.dtypes import BOOL, INT, is_float
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import also, as_op, cast, common, node, operator, scalar
from ravop.ops.division import floor_div

__all__ = [
    "bitwise_and", "bitwise_invert", "bitwise_not", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift",
]  # fmt: skip

_LOGIC = {"BitwiseAnd": "And", "BitwiseOr": "Or", "BitwiseXor": "Xor"}
_SHIFTED = ("uint8", "uint32", "uint64")
"""What engines shift; others are multiplied and divided."""


def _whole(x: Op) -> Op:
    if is_float(x.dtype):
        raise DTypeError(
            "only integers and booleans have bits",
            expected="integers or booleans",
            received=x.dtype,
            hint="use ravop.logical_and and the like, or .astype('int64')",
        )
    return x


def _bitwise(op_type: str, a: Operand, b: Operand) -> Op:
    x, y = (_whole(op) for op in common(a, b))
    return node(_LOGIC[op_type] if x.dtype == BOOL else op_type, [x, y])


@operator
def bitwise_and(a: Operand, b: Operand) -> Op:
    """The bits that are set in both; Python's `&`.

    Example:
        >>> R.bitwise_and([12, 10], 6)
        [4, 2]
    """
    return _bitwise("BitwiseAnd", a, b)


@operator
def bitwise_or(a: Operand, b: Operand) -> Op:
    """The bits that are set in at least one; Python's `|`.

    Example:
        >>> R.bitwise_or([12, 10], 6)
        [14, 14]
    """
    return _bitwise("BitwiseOr", a, b)


@operator
def bitwise_xor(a: Operand, b: Operand) -> Op:
    """The bits that are set in exactly one; Python's `^`.

    Example:
        >>> R.bitwise_xor([12, 10], 6)
        [10, 12]
    """
    return _bitwise("BitwiseXor", a, b)


@operator
def invert(x: Operand) -> Op:
    """The bits that are not set; the negation of booleans. Python's `~` is the inverse of a matrix here.

    Example:
        >>> R.invert([0, 5, -1])
        [-1, -6, 0]
    """
    op = _whole(as_op(x))
    return node("Not" if op.dtype == BOOL else "BitwiseNot", [op])


bitwise_not = also("bitwise_not", invert)
bitwise_invert = also("bitwise_invert", invert)


@operator
def left_shift(a: Operand, b: Operand) -> Op:
    """The bits of a moved up by b places, 0 or more; what leaves the dtype is lost.

    Example:
        >>> R.left_shift([1, 3], [4, 1])
        [16, 6]
    """
    x, y = _shiftable(a, b)
    if x.dtype.name in _SHIFTED:
        return node("BitShift", [x, y], direction="LEFT")
    return node("Mul", [x, cast(_power_of_two(y), x.dtype)])


@operator
def right_shift(a: Operand, b: Operand) -> Op:
    """The bits of a moved down by b places, 0 or more; the sign stays: ⌊a / 2ᵇ⌋.

    Example:
        >>> R.right_shift([64, -7], [4, 1])
        [4, -4]
    """
    x, y = _shiftable(a, b)
    if x.dtype.name in _SHIFTED:
        return node("BitShift", [x, y], direction="RIGHT")
    return cast(floor_div(cast(x, INT), _power_of_two(y)), x.dtype)


def _shiftable(a: Operand, b: Operand) -> tuple[Op, Op]:
    x, y = (_whole(op) for op in common(a, b))
    return (cast(x, INT), cast(y, INT)) if x.dtype == BOOL else (x, y)


def _power_of_two(y: Op) -> Op:
    """2 to the power of y, int64; shifts of 63 and more need dtypes that engines shift themselves."""
    number = cast(y, INT)
    return node("Pow", [scalar(number, 2), number])
