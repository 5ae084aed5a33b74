"""Trigonometric and hyperbolic functions and their inverses, element by element; angles are radians.

Integers and booleans become float32. Formulas in float64, which engines have few kernels for: Abramowitz and Stegun (1964),
chapter 4, in the forms that neither overflow nor cancel.
"""

from __future__ import annotations

import math

import numpy as np

from ravop.graph.dtypes import FLOAT
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import also, cast, common, floats, node, operator, scalar
from ravop.ops.elementary import expm1, log1p

__all__ = [
    "acos", "acosh", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "asin", "asinh", "atan", "atan2",
    "atanh", "cos", "cosh", "deg2rad", "degrees", "hypot", "rad2deg", "radians", "sin", "sinc", "sinh", "tan",
]  # fmt: skip


def _is_double(op: Op) -> bool:
    return op.dtype == np.float64


@operator
def sin(x: Operand) -> Op:
    """The sine of x.

    Example:
        >>> R.sin([0, 1, 2])
        [0.0, 0.8415, 0.9093]
    """
    return node("Sin", [floats(x)])


@operator
def cos(x: Operand) -> Op:
    """The cosine of x.

    Example:
        >>> R.cos([0, 1, 2])
        [1.0, 0.5403, -0.4161]
    """
    return node("Cos", [floats(x)])


@operator
def tan(x: Operand) -> Op:
    """The tangent of x: sin(x) / cos(x).

    Example:
        >>> R.tan([0, 1, 2])
        [0.0, 1.5574, -2.185]
    """
    op = floats(x)
    return node("Div", [node("Sin", [op]), node("Cos", [op])])


@operator
def arcsin(x: Operand) -> Op:
    """The angle whose sine is x; NaN beyond ±1.

    Example:
        >>> R.arcsin([-1, 0, 0.5])
        [-1.5708, 0.0, 0.5236]
    """
    op = floats(x)
    return _arctan(node("Div", [op, _leg(op)])) if _is_double(op) else node("Asin", [op])


asin = also("asin", arcsin)


@operator
def arccos(x: Operand) -> Op:
    """The angle whose cosine is x; NaN beyond ±1.

    Example:
        >>> R.arccos([-1, 0, 0.5])
        [3.1416, 1.5708, 1.0472]
    """
    op = floats(x)
    if not _is_double(op):
        return node("Acos", [op])
    return node("Sub", [scalar(op, math.pi / 2), arcsin(op)])


acos = also("acos", arccos)


def _leg(x: Op) -> Op:
    """√(1 − x²), as √((1 − x) (1 + x))."""
    one = scalar(x, 1)
    return node("Sqrt", [node("Mul", [node("Sub", [one, x]), node("Add", [one, x])])])


@operator
def arctan(x: Operand) -> Op:
    """The angle between −π/2 and π/2 whose tangent is x.

    Example:
        >>> R.arctan([-1, 0, 0.5])
        [-0.7854, 0.0, 0.4636]
    """
    op = floats(x)
    return _arctan(op) if _is_double(op) else node("Atan", [op])


atan = also("atan", arctan)


def _arctan(x: Op) -> Op:
    """In float64: the angle in single precision, corrected by the angle that is missing, whose tangent is its own value."""
    about = cast(node("Atan", [cast(x, FLOAT)]), x.dtype)
    sine, cosine = node("Sin", [about]), node("Cos", [about])
    flat = node("Less", [node("Abs", [x]), scalar(x, 1e15)])
    held = node("Where", [flat, x, scalar(x, 0)])
    missing = node("Div", [
        node("Sub", [node("Mul", [held, cosine]), sine]), node("Add", [cosine, node("Mul", [held, sine])])])  # fmt: skip
    end = node("Mul", [node("Sign", [x]), scalar(x, math.pi / 2)])
    return node("Where", [flat, node("Add", [about, missing]), end])


@operator
def arctan2(y: Operand, x: Operand) -> Op:
    """The angle between −π and π of the point (x, y), seen from the origin.

    Example:
        >>> R.arctan2([1, 1, -1], [1, -1, 0])
        [0.7854, 2.3562, -1.5708]
    """
    up, right = common(y, x, at_least=FLOAT)
    zero, half = scalar(up, 0), scalar(up, math.pi / 2)
    steep = node("Greater", [node("Abs", [up]), node("Abs", [right])])
    origin = node("And", [node("Equal", [up, zero]), node("Equal", [right, zero])])
    # The smaller over the larger: no division by zero, and no infinite slope in the branch that is not chosen.
    below = node("Where", [steep, up, right])
    above = node("Where", [steep, right, up])
    angle = arctan(node("Div", [above, node("Where", [origin, scalar(up, 1), below])]))
    upward = node("Where", [node("Less", [up, zero]), node("Neg", [half]), half])
    turn = node("Where", [node("Less", [up, zero]), scalar(up, -math.pi), scalar(up, math.pi)])
    back = node("Less", [right, zero])
    flat = node("Where", [back, node("Add", [angle, turn]), angle])
    return node("Where", [steep, node("Sub", [upward, angle]), flat])


atan2 = also("atan2", arctan2)


@operator
def hypot(a: Operand, b: Operand) -> Op:
    """√(a² + b²), without overflow: the larger · √(1 + (smaller / larger)²).

    Example:
        >>> R.hypot([3, 5], [4, 12])
        [5.0, 13.0]
    """
    x, y = (node("Abs", [op]) for op in common(a, b, at_least=FLOAT))
    larger, smaller = node("Max", [x, y]), node("Min", [x, y])
    nothing = node("Equal", [larger, scalar(x, 0)])
    ratio = node("Div", [smaller, node("Where", [nothing, scalar(x, 1), larger])])
    return node("Mul", [larger, node("Sqrt", [node("Add", [node("Mul", [ratio, ratio]), scalar(x, 1)])])])


@operator
def sinh(x: Operand) -> Op:
    """The hyperbolic sine of x.

    Example:
        >>> R.sinh([-1, 0, 2])
        [-1.1752, 0.0, 3.6269]
    """
    op = floats(x)
    if not _is_double(op):
        return node("Sinh", [op])
    size, sign = _size_and_sign(op)
    rest = expm1(node("Mul", [size, scalar(op, -2)]))
    half = node("Mul", [node("Mul", [rest, node("Exp", [size])]), scalar(op, -0.5)])
    return node("Mul", [half, sign])


@operator
def cosh(x: Operand) -> Op:
    """The hyperbolic cosine of x.

    Example:
        >>> R.cosh([-1, 0, 2])
        [1.5431, 1.0, 3.7622]
    """
    op = floats(x)
    if not _is_double(op):
        return node("Cosh", [op])
    return node("Mul", [node("Add", [node("Exp", [op]), node("Exp", [node("Neg", [op])])]), scalar(op, 0.5)])


@operator
def arcsinh(x: Operand) -> Op:
    """The number whose hyperbolic sine is x.

    Example:
        >>> R.arcsinh([-1, 0, 2])
        [-0.8814, 0.0, 1.4436]
    """
    op = floats(x)
    if not _is_double(op):
        return node("Asinh", [op])
    size, sign = _size_and_sign(op)
    one = scalar(op, 1)
    far = node("Greater", [size, scalar(op, 1e9)])  # there √(x² + 1) is |x|, and x² might be infinite
    near = node("Where", [far, one, size])
    over = node("Div", [node("Mul", [near, near]), node("Add", [one, hypot(near, one)])])
    beyond = node("Add", [node("Log", [node("Where", [far, size, one])]), scalar(op, math.log(2))])
    return node("Mul", [node("Where", [far, beyond, log1p(node("Add", [near, over]))]), sign])


asinh = also("asinh", arcsinh)


@operator
def arccosh(x: Operand) -> Op:
    """The number of 0 or more whose hyperbolic cosine is x; NaN below 1.

    Example:
        >>> R.arccosh([1, 2, 10])
        [0.0, 1.317, 2.9932]
    """
    op = floats(x)
    if not _is_double(op):
        return node("Acosh", [op])
    one = scalar(op, 1)
    roots = [node("Sqrt", [node(way, [op, one])]) for way in ("Sub", "Add")]
    return node("Log", [node("Add", [op, node("Mul", roots)])])


acosh = also("acosh", arccosh)


@operator
def arctanh(x: Operand) -> Op:
    """The number whose hyperbolic tangent is x; NaN beyond ±1.

    Example:
        >>> R.arctanh([-0.5, 0, 0.9])
        [-0.5493, 0.0, 1.4722]
    """
    op = floats(x)
    if not _is_double(op):
        return node("Atanh", [op])
    size, sign = _size_and_sign(op)
    double = node("Add", [size, size])
    ratio = node("Div", [double, node("Sub", [scalar(op, 1), size])])
    return node("Mul", [node("Mul", [log1p(ratio), scalar(op, 0.5)]), sign])


atanh = also("atanh", arctanh)


def _size_and_sign(x: Op) -> tuple[Op, Op]:
    """|x|, and 1 or −1: chosen, so that the gradient at 0 is the one of x."""
    below = node("Less", [x, scalar(x, 0)])
    return node("Where", [below, node("Neg", [x]), x]), node("Where", [below, scalar(x, -1), scalar(x, 1)])


@operator
def sinc(x: Operand) -> Op:
    """sin(πx) / (πx), and 1 at 0.

    Example:
        >>> R.sinc([0, 0.5, 1.5])
        [1.0, 0.6366, -0.2122]
    """
    op = floats(x)
    zero = node("Equal", [op, scalar(op, 0)])
    angle = node("Mul", [node("Where", [zero, scalar(op, 1), op]), scalar(op, math.pi)])
    return node("Where", [zero, scalar(op, 1), node("Div", [node("Sin", [angle]), angle])])


@operator
def deg2rad(x: Operand) -> Op:
    """Degrees as radians.

    Example:
        >>> R.deg2rad([0, 90, 180])
        [0.0, 1.5708, 3.1416]
    """
    op = floats(x)
    return node("Mul", [op, scalar(op, math.pi / 180)])


radians = also("radians", deg2rad)


@operator
def rad2deg(x: Operand) -> Op:
    """Radians as degrees.

    Example:
        >>> R.rad2deg([0, 1, 2])
        [0.0, 57.2958, 114.5916]
    """
    op = floats(x)
    return node("Mul", [op, scalar(op, 180 / math.pi)])


degrees = also("degrees", rad2deg)
