"""Arithmetic, element by element, with NumPy's broadcasting.

Operands are ops, arrays, lists or Python numbers. Integers and booleans become float32 where the result is a fraction
(`div`, `exp`, …). Python's operators on ops come here by the table in `ravop.graph.op`.
"""

from __future__ import annotations

from ravop.errors import DTypeError
from ravop.graph.dtypes import BOOL, FLOAT, is_float
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import also, as_op, common, exact, node, numbers, operator, scalar

__all__ = [
    "abs", "add", "cube", "div", "floor_div", "mod", "mul", "multiply", "neg", "pos", "pow", "sign", "square", "sub",
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
    if not is_float(x.dtype):
        return node("Div", [node("Sub", [x, node("Mod", [x, y])]), y])
    remainder, wrong_sign = _truncated(x, y)
    quotient = node("Div", [node("Sub", [x, remainder]), y])
    floored = node("Round", [node("Where", [wrong_sign, node("Sub", [quotient, scalar(x, 1)]), quotient])])
    return node("Where", [node("Equal", [y, scalar(y, 0)]), node("Div", [x, y]), floored])


@operator
def mod(a: Operand, b: Operand) -> Op:
    """The remainder of `floor_div`, with the sign of b, as Python's `%`."""
    x, y = (numbers(op) for op in common(a, b))
    if not is_float(x.dtype):
        return node("Mod", [x, y])
    remainder, wrong_sign = _truncated(x, y)
    return node("Where", [wrong_sign, node("Add", [remainder, y]), remainder])


def _truncated(x: Op, y: Op) -> tuple[Op, Op]:
    """The remainder of x / y with the sign of x, and where that is not the sign of y."""
    remainder = node("Mod", [x, y], fmod=1)
    return remainder, node(
        "Less", [node("Mul", [node("Sign", [remainder]), node("Sign", [y])]), scalar(x, 0)]
    )


@operator
def pow(a: Operand, b: Operand) -> Op:
    """a to the power of b. Integers stay integers, and then b must not be negative."""
    x, y = (numbers(op) for op in common(a, b))
    return exact("Pow", [x, y])


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
