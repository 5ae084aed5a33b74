"""Arithmetic, element by element, with NumPy's broadcasting.

Operands are ops, arrays, lists or Python numbers. Integers and booleans become float32 where the result is a fraction
(`div`, `exp`, …). Python's operators on ops come here by the table in `ravop.graph.op`.
"""

from __future__ import annotations

import math

from ravop.errors import DTypeError
from ravop.graph.dtypes import BOOL, FLOAT, is_float
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import also, as_op, common, floats, node, numbers, operator, scalar

__all__ = [
    "abs",
    "add",
    "cube",
    "cube_root",
    "div",
    "exp",
    "expm1",
    "floor_div",
    "inv",
    "log",
    "log1p",
    "log2",
    "log10",
    "mod",
    "mul",
    "multiply",
    "natlog",
    "neg",
    "pos",
    "pow",
    "reciprocal",
    "sign",
    "sqrt",
    "square",
    "square_root",
    "sub",
]  # fmt: skip


def _calculating(op_type: str, a: Operand, b: Operand) -> Op:
    """A binary operator; two booleans are calculated with as int64."""
    x, y = common(a, b)
    return node(op_type, [numbers(x), numbers(y)])


@operator
def add(a: Operand, b: Operand) -> Op:
    """a + b."""
    return _calculating("Add", a, b)


@operator
def sub(a: Operand, b: Operand) -> Op:
    """a − b."""
    return _calculating("Sub", a, b)


@operator
def mul(a: Operand, b: Operand) -> Op:
    """a · b, element by element."""
    return _calculating("Mul", a, b)


multiply = also("multiply", mul)


@operator
def div(a: Operand, b: Operand) -> Op:
    """a / b, a float also for integers."""
    x, y = common(a, b, at_least=FLOAT)
    return node("Div", [x, y])


@operator
def floor_div(a: Operand, b: Operand) -> Op:
    """⌊a / b⌋, as Python's `//`; integers stay integers."""
    x, y = (numbers(op) for op in common(a, b))
    if is_float(x.dtype):
        return node("Floor", [node("Div", [x, y])])
    return node("Div", [node("Sub", [x, mod(x, y)]), y])


@operator
def mod(a: Operand, b: Operand) -> Op:
    """The remainder of `floor_div`, with the sign of b, as Python's `%`."""
    x, y = (numbers(op) for op in common(a, b))
    if not is_float(x.dtype):
        return node("Mod", [x, y])
    remainder = node("Mod", [x, y], fmod=1)
    wrong_sign = node("Less", [node("Mul", [node("Sign", [remainder]), node("Sign", [y])]), scalar(x, 0)])
    return node("Where", [wrong_sign, node("Add", [remainder, y]), remainder])


@operator
def pow(a: Operand, b: Operand) -> Op:
    """a to the power of b. A whole positive Python exponent keeps integers integers."""
    x, y = common(a, b)
    if x.dtype == BOOL:
        x, y = numbers(x), numbers(y)
    return node("Pow", [x, y])


@operator
def neg(x: Operand) -> Op:
    """−x."""
    op = as_op(x)
    if op.dtype == BOOL:
        raise DTypeError(
            "a boolean has no negative", expected="numbers", received=op.dtype, hint="use ravop.logical_not"
        )
    if op.dtype.kind == "u":
        return node("Sub", [scalar(op, 0), op])
    return node("Neg", [op])


@operator
def pos(x: Operand) -> Op:
    """x itself."""
    return as_op(x)


@operator
def abs(x: Operand) -> Op:
    """|x|."""
    return node("Abs", [numbers(x)])


@operator
def sign(x: Operand) -> Op:
    """−1, 0 or 1 by the sign of x."""
    return node("Sign", [numbers(x)])


@operator
def square(x: Operand) -> Op:
    """x²."""
    op = numbers(x)
    return node("Mul", [op, op])


@operator
def cube(x: Operand) -> Op:
    """x³."""
    op = numbers(x)
    return node("Mul", [node("Mul", [op, op]), op])


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
    """e to the power of x, minus 1, exact near 0: 2·tanh(x/2) / (1 − tanh(x/2))."""
    op = floats(x)
    half = node("Tanh", [node("Mul", [op, scalar(op, 0.5)])])
    return node("Div", [node("Add", [half, half]), node("Sub", [scalar(op, 1), half])])


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
    """log(1 + x)."""
    op = floats(x)
    return node("Log", [node("Add", [op, scalar(op, 1)])])


@operator
def inv(x: Operand) -> Op:
    """The inverse of a square matrix: no standard ONNX operator computes it.

    Raises `DTypeError` always, so that `~op` on a boolean, where Python's habit means "not", is explained as well.
    """
    op = as_op(x)
    raise DTypeError(
        "~ is the matrix inverse, and ONNX has no operator for it",
        expected="an operator that ONNX can carry",
        received=f"~{op!r}",
        hint="use ravop.logical_not(op) for a boolean; invert a constant matrix with NumPy before giving it to ravop.t",
    )
