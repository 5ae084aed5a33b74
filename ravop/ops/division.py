"""Whole quotients and remainders, element by element, with NumPy's broadcasting. Integers stay integers, and what stops
processors, such as a divisor 0, has NumPy's value.
"""

from __future__ import annotations

import numpy as np

from ravop.graph.dtypes import is_float
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import also, common, exact, node, numbers, operator, scalar

__all__ = ["divmod", "floor_div", "floor_divide", "fmod", "mod", "remainder"]


@operator
def floor_div(a: Operand, b: Operand) -> Op:
    """⌊a / b⌋, as Python's `//`; integers stay integers. An integer divided by 0 gives 0, as in NumPy.

    Example:
        >>> R.floor_div([7, -7], 2)
        [3, -4]
    """
    x, y = (numbers(op) for op in common(a, b))
    if not is_float(x.dtype):
        divisor, factor = _divisor(y)
        floored = _floored(x, divisor)
        return floored if factor is None else node("Mul", [floored, factor])
    remainder, wrong_sign = _truncated(x, y)
    quotient = node("Div", [node("Sub", [x, remainder]), y])
    floored = node("Round", [node("Where", [wrong_sign, node("Sub", [quotient, scalar(x, 1)]), quotient])])
    return node("Where", [node("Equal", [y, scalar(y, 0)]), node("Div", [x, y]), floored])


floor_divide = also("floor_divide", floor_div)


def _floored(x: Op, y: Op) -> Op:
    """⌊x / y⌋ of integers by divisions without remainder, which all engines do alike. x less the remainder with the sign of y
    may leave the range of signed ones, so that the one with the sign of x goes first.
    """
    remainder = node("Mod", [x, y])
    if x.dtype.kind == "u":
        return node("Div", [node("Sub", [x, remainder]), y])
    truncated = node("Mod", [x, y], fmod=1)
    quotient = node("Div", [node("Sub", [x, truncated]), y])
    return node("Sub", [quotient, node("Div", [node("Sub", [remainder, truncated]), y])])


def _divisor(y: Op) -> tuple[Op, Op | None]:
    """An integer divisor with 1 in place of 0 and −1, and y in those places among ones, to multiply the quotient with; None
    where no place needs it.

    A processor stops a program that divides by 0, or the least integer by −1. In those places x / 1 · y is NumPy's value, and
    so is the remainder of x / 1.
    """
    unfit = (0, -1) if y.dtype.kind == "i" else (0,)
    known = y.constant
    if known is not None:
        places = np.isin(known, unfit)
        if not places.any():
            return y, None
        one = np.ones_like(known)
        return y.graph.constant(np.where(places, one, known)), y.graph.constant(np.where(places, known, one))
    found = node("Equal", [y, scalar(y, 0)])
    if len(unfit) > 1:
        found = node("Or", [found, node("Equal", [y, scalar(y, -1)])])
    unit = scalar(y, 1)
    return exact("Where", [unit, y], before=[found]), exact("Where", [y, unit], before=[found])


@operator
def mod(a: Operand, b: Operand) -> Op:
    """The remainder of `floor_div`, with the sign of b, as Python's `%`. That of an integer and 0 is 0, as in NumPy.

    Example:
        >>> R.mod([7, -7], 3)
        [1, 2]
    """
    x, y = (numbers(op) for op in common(a, b))
    if not is_float(x.dtype):
        return node("Mod", [x, _divisor(y)[0]])
    remainder, wrong_sign = _truncated(x, y)
    return node("Where", [wrong_sign, node("Add", [remainder, y]), remainder])


remainder = also("remainder", mod)


def _truncated(x: Op, y: Op) -> tuple[Op, Op]:
    """The remainder of x / y with the sign of x, and where that is not the sign of y."""
    remainder = node("Mod", [x, y], fmod=1)
    return remainder, node(
        "Less", [node("Mul", [node("Sign", [remainder]), node("Sign", [y])]), scalar(x, 0)]
    )


@operator
def fmod(a: Operand, b: Operand) -> Op:
    """The remainder of a / b with the sign of a, as C's `fmod`. That of an integer and 0 is 0, as in NumPy.

    Example:
        >>> R.fmod([7, -7], 3)
        [1, -1]
    """
    x, y = (numbers(op) for op in common(a, b))
    return node("Mod", [x, y if is_float(y.dtype) else _divisor(y)[0]], fmod=1)


@operator
def divmod(a: Operand, b: Operand) -> tuple[Op, Op]:
    """`floor_div` and `mod` at once, as Python's `divmod`.

    Example:
        >>> R.divmod([7, -7], 3)
        ([2, -3], [1, 2])
    """
    return floor_div(a, b), mod(a, b)
