"""Elementary functions, element by element: roots, exponentials, logarithms, the error function, rounding.

Where the result is a fraction, integers and booleans become float32. Trigonometry is in `trigonometry`.
"""

from __future__ import annotations

import math

from ravop.graph.dtypes import FLOAT, is_float
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import also, as_op, cast, common, floats, node, operator, scalar, unary

__all__ = [
    "around", "cbrt", "ceil", "cube_root", "erf", "erfc", "exp", "exp2", "expm1", "fix", "floor", "log", "log1p", "log2",
    "log10", "logaddexp", "logaddexp2", "natlog", "rint", "round", "sqrt", "square_root", "trunc",
]  # fmt: skip


@operator
def square_root(x: Operand) -> Op:
    """√x; NaN for negative x.

    Example:
        >>> R.square_root([1, 2, 4])
        [1.0, 1.4142, 2.0]
    """
    return node("Sqrt", [floats(x)])


sqrt = also("sqrt", square_root)


@operator
def cube_root(x: Operand) -> Op:
    """∛x, also of negative x.

    Example:
        >>> R.cube_root([-8, 1, 27])
        [-2.0, 1.0, 3.0]
    """
    op = floats(x)
    return node("Mul", [node("Sign", [op]), node("Pow", [node("Abs", [op]), scalar(op, 1 / 3)])])


cbrt = also("cbrt", cube_root)


@operator
def exp(x: Operand) -> Op:
    """e to the power of x.

    Example:
        >>> R.exp([0, 1, 2])
        [1.0, 2.7183, 7.3891]
    """
    return node("Exp", [floats(x)])


@operator
def exp2(x: Operand) -> Op:
    """2 to the power of x, a float.

    Example:
        >>> R.exp2([0, 1, -2])
        [1.0, 2.0, 0.25]
    """
    op = floats(x)
    return node("Pow", [scalar(op, 2), op])


@operator
def expm1(x: Operand) -> Op:
    """e to the power of x, minus 1, exact also near 0: 2 tanh(x/2) / (1 − tanh(x/2)), and exp(x) − 1 further off.

    Example:
        >>> R.expm1([0, 0.001, 1])
        [0.0, 0.001, 1.7183]
    """
    op = floats(x)
    small = node("Clip", [op, scalar(op, -1), scalar(op, 1)])  # no infinities where it is not chosen
    tanh = node("Tanh", [node("Mul", [small, scalar(op, 0.5)])])
    near = node("Div", [node("Add", [tanh, tanh]), node("Sub", [scalar(op, 1), tanh])])
    far = node("Sub", [node("Exp", [op]), scalar(op, 1)])
    return node("Where", [node("Less", [node("Abs", [op]), scalar(op, 1)]), near, far])


@operator
def natlog(x: Operand) -> Op:
    """The natural logarithm; −inf at 0, NaN below.

    Example:
        >>> R.natlog([1, 2, 10])
        [0.0, 0.6931, 2.3026]
    """
    return node("Log", [floats(x)])


log = also("log", natlog)


@operator
def log2(x: Operand) -> Op:
    """The logarithm to base 2.

    Example:
        >>> R.log2([1, 2, 10])
        [0.0, 1.0, 3.3219]
    """
    op = natlog(x)
    return node("Mul", [op, scalar(op, 1 / math.log(2))])


@operator
def log10(x: Operand) -> Op:
    """The logarithm to base 10.

    Example:
        >>> R.log10([1, 2, 10])
        [0.0, 0.301, 1.0]
    """
    op = natlog(x)
    return node("Mul", [op, scalar(op, 1 / math.log(10))])


@operator
def log1p(x: Operand) -> Op:
    """log(1 + x), exact also near 0: x · log(u) / (u − 1) with u = 1 + x rounded (Goldberg 1991, theorem 4).

    Example:
        >>> R.log1p([0, 0.001, 1])
        [0.0, 0.001, 0.6931]
    """
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
def logaddexp(a: Operand, b: Operand) -> Op:
    """log(exp a + exp b), without overflow: max(a, b) + log(1 + exp(−|a − b|)).

    Example:
        >>> R.logaddexp([0, 1000], [0, 1])
        [0.6931, 1000.0]
    """
    x, y = common(a, b, at_least=FLOAT)
    return _log_of_sum(x, y, 1.0)


@operator
def logaddexp2(a: Operand, b: Operand) -> Op:
    """log₂(2ᵃ + 2ᵇ), without overflow.

    Example:
        >>> R.logaddexp2([0, 1000], [0, 1])
        [1.0, 1000.0]
    """
    x, y = common(a, b, at_least=FLOAT)
    return _log_of_sum(x, y, math.log(2))


def _log_of_sum(x: Op, y: Op, base: float) -> Op:
    """The logarithm of a sum of two powers, of a base that is given by its natural logarithm."""
    equal = node("Equal", [x, y])  # also two infinities, whose difference is no number
    distance = node("Where", [equal, scalar(x, 0), node("Sub", [x, y])])
    ratio = node("Mul", [node("Abs", [distance]), scalar(x, base)])
    return node(
        "Sub",
        [node("Max", [x, y]), node("Mul", [node("Log", [node("Sigmoid", [ratio])]), scalar(x, 1 / base)])],
    )


@operator
def erf(x: Operand) -> Op:
    """The error function: 2/√π ∫₀ˣ exp(−t²) dt. Engines compute it in single precision, of float64 too.

    Example:
        >>> R.erf([-1, 0, 0.5])
        [-0.8427, 0.0, 0.5205]
    """
    return unary("Erf", x)


@operator
def erfc(x: Operand) -> Op:
    """1 − erf(x).

    Example:
        >>> R.erfc([-1, 0, 0.5])
        [1.8427, 1.0, 0.4795]
    """
    op = erf(x)
    return node("Sub", [scalar(op, 1), op])


@operator
def floor(x: Operand) -> Op:
    """The largest whole number not above x, of the dtype of x.

    Example:
        >>> R.floor([-1.5, 0.5, 2])
        [-2.0, 0.0, 2.0]
    """
    return _rounded("Floor", x)


@operator
def ceil(x: Operand) -> Op:
    """The smallest whole number not below x, of the dtype of x.

    Example:
        >>> R.ceil([-1.5, 0.5, 2])
        [-1.0, 1.0, 2.0]
    """
    return _rounded("Ceil", x)


@operator
def trunc(x: Operand) -> Op:
    """x without its fraction, of the dtype of x.

    Example:
        >>> R.trunc([-1.5, 0.5, 2])
        [-1.0, 0.0, 2.0]
    """
    op = as_op(x)
    if not is_float(op.dtype):
        return op
    below = node("Less", [op, scalar(op, 0)])
    return node("Where", [below, node("Ceil", [op]), node("Floor", [op])])


fix = also("fix", trunc)


@operator
def round(x: Operand, decimals: int = 0) -> Op:
    """x rounded to `decimals` places, halves to the even neighbour, as NumPy; negative places are those before the point.

    Example:
        >>> R.round([0.5, 1.5, -2.675])
        [0.0, 2.0, -3.0]
    """
    op = as_op(x)
    if not decimals or (decimals > 0 and not is_float(op.dtype)):
        return _rounded("Round", op)
    scale = scalar(floats(op), 10.0 ** (decimals if decimals > 0 else -decimals))
    first, back = ("Mul", "Div") if decimals > 0 else ("Div", "Mul")
    rounded = node(back, [node("Round", [node(first, [floats(op), scale])]), scale])
    return rounded if is_float(op.dtype) else cast(rounded, op.dtype)


around = also("around", round)


@operator
def rint(x: Operand) -> Op:
    """x rounded to a whole number, a float; halves to the even neighbour.

    Example:
        >>> R.rint([0.5, 1.5, -2.675])
        [0.0, 2.0, -3.0]
    """
    return node("Round", [floats(x)])


def _rounded(op_type: str, x: Operand) -> Op:
    op = as_op(x)
    return node(op_type, [op]) if is_float(op.dtype) else op
