"""Elementary functions, element by element: roots, exponentials, logarithms, trigonometry, rounding.

Where the result is a fraction, integers and booleans become float32.
"""

from __future__ import annotations

import math

from ravop.graph.dtypes import is_float
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import also, as_op, floats, node, numbers, operator, scalar

__all__ = [
    "arccos",
    "arcsin",
    "arctan",
    "ceil",
    "cos",
    "cosh",
    "cube_root",
    "erf",
    "exp",
    "expm1",
    "floor",
    "log",
    "log1p",
    "log2",
    "log10",
    "natlog",
    "reciprocal",
    "round",
    "sin",
    "sinh",
    "sqrt",
    "square_root",
    "tan",
]  # fmt: skip


@operator
def square_root(x: Operand) -> Op:
    """√x; NaN for negative x."""
    return node("Sqrt", [floats(x)])


sqrt = also("sqrt", square_root)


@operator
def cube_root(x: Operand) -> Op:
    """∛x, also of negative x."""
    op = floats(x)
    return node("Mul", [node("Sign", [op]), node("Pow", [node("Abs", [op]), scalar(op, 1 / 3)])])


@operator
def reciprocal(x: Operand) -> Op:
    """1 / x."""
    return node("Reciprocal", [floats(x)])


@operator
def exp(x: Operand) -> Op:
    """e to the power of x."""
    return node("Exp", [floats(x)])


@operator
def expm1(x: Operand) -> Op:
    """e to the power of x, minus 1, exact also near 0: 2 sinh(x/2) exp(x/2)."""
    op = floats(x)
    half = node("Mul", [op, scalar(op, 0.5)])
    sinh = node("Sinh", [half])
    return node("Mul", [node("Add", [sinh, sinh]), node("Exp", [half])])


@operator
def natlog(x: Operand) -> Op:
    """The natural logarithm; −inf at 0, NaN below."""
    return node("Log", [floats(x)])


log = also("log", natlog)


@operator
def log2(x: Operand) -> Op:
    """The logarithm to base 2."""
    op = natlog(x)
    return node("Mul", [op, scalar(op, 1 / math.log(2))])


@operator
def log10(x: Operand) -> Op:
    """The logarithm to base 10."""
    op = natlog(x)
    return node("Mul", [op, scalar(op, 1 / math.log(10))])


@operator
def log1p(x: Operand) -> Op:
    """log(1 + x), exact also near 0: x · log(u) / (u − 1) with u = 1 + x rounded (Goldberg 1991, theorem 4)."""
    op = floats(x)
    u = node("Add", [op, scalar(op, 1)])
    rest = node("Sub", [u, scalar(op, 1)])
    tiny = node("Equal", [rest, scalar(op, 0)])
    ratio = node("Div", [op, node("Where", [tiny, scalar(op, 1), rest])])
    far = node("Greater", [op, scalar(op, 1)])
    return node(
        "Where", [tiny, op, node("Mul", [node("Log", [u]), node("Where", [far, scalar(op, 1), ratio])])]
    )


@operator
def sin(x: Operand) -> Op:
    """The sine of x in radians."""
    return node("Sin", [floats(x)])


@operator
def cos(x: Operand) -> Op:
    """The cosine of x in radians."""
    return node("Cos", [floats(x)])


@operator
def tan(x: Operand) -> Op:
    """The tangent of x in radians."""
    op = floats(x)
    return node("Div", [node("Sin", [op]), node("Cos", [op])])


@operator
def arcsin(x: Operand) -> Op:
    """The angle in radians whose sine is x."""
    return node("Asin", [floats(x)])


@operator
def arccos(x: Operand) -> Op:
    """The angle in radians whose cosine is x."""
    return node("Acos", [floats(x)])


@operator
def arctan(x: Operand) -> Op:
    """The angle in radians whose tangent is x."""
    return node("Atan", [floats(x)])


@operator
def sinh(x: Operand) -> Op:
    """The hyperbolic sine of x."""
    return node("Sinh", [floats(x)])


@operator
def cosh(x: Operand) -> Op:
    """The hyperbolic cosine of x."""
    return node("Cosh", [floats(x)])


@operator
def erf(x: Operand) -> Op:
    """The error function: 2/√π ∫₀ˣ exp(−t²) dt."""
    return node("Erf", [floats(x)])


@operator
def floor(x: Operand) -> Op:
    """The largest whole number not above x, of the dtype of x."""
    return _rounded("Floor", x)


@operator
def ceil(x: Operand) -> Op:
    """The smallest whole number not below x, of the dtype of x."""
    return _rounded("Ceil", x)


@operator
def round(x: Operand, decimals: int = 0) -> Op:
    """x rounded to `decimals` places, halves to the even neighbour, as NumPy."""
    if not decimals:
        return _rounded("Round", x)
    op = floats(x)
    scale = scalar(op, 10.0**decimals)
    return node("Div", [node("Round", [node("Mul", [op, scale])]), scale])


def _rounded(op_type: str, x: Operand) -> Op:
    op = as_op(x)
    return node(op_type, [op]) if is_float(op.dtype) else numbers(op)
