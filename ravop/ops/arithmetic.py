"""Arithmetic, element by element, with NumPy's broadcasting.

Operands are ops, arrays, lists or Python numbers. Integers and booleans become float32 where the result is a fraction
(`div`, `exp`, …). Python's operators on ops come here by the table in `ravop.graph.op`.
"""

from __future__ import annotations

from ravop.errors import ArgumentError, DTypeError
from ravop.graph.dtypes import BOOL, FLOAT, is_float
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import also, as_op, cast, common, exact, floats, node, numbers, operator, scalar

__all__ = [
    "abs", "absolute", "add", "copysign", "cube", "div", "divide", "heaviside", "mul", "multiply", "neg",
    "negative", "pos", "positive", "pow", "power", "reciprocal", "sign", "signbit", "square", "sub", "subtract",
    "true_divide",
]  # fmt: skip


_OF_BOOLEANS = {"Add": "Or", "Mul": "And"}
"""NumPy's sums and products of booleans."""


def _calculating(op_type: str, a: Operand, b: Operand) -> Op:
    """A binary operator; two booleans stay booleans where `_OF_BOOLEANS` knows how, and are calculated with as int8 otherwise."""
    x, y = common(a, b)
    if x.dtype == BOOL and op_type in _OF_BOOLEANS:
        return node(_OF_BOOLEANS[op_type], [x, y])
    return node(op_type, [numbers(x), numbers(y)])


@operator
def add(a: Operand, b: Operand) -> Op:
    """a + b; of two booleans, whether one is true.

    Example:
        >>> R.add([1, 2, 3], 0.5)
        [1.5, 2.5, 3.5]
    """
    return _calculating("Add", a, b)


@operator
def sub(a: Operand, b: Operand) -> Op:
    """a − b. Raises `DTypeError` for two booleans, as NumPy does.

    Example:
        >>> R.sub([[1, 2], [3, 4]], [1, 1])
        [[0, 1], [2, 3]]
    """
    x, y = common(a, b)
    if x.dtype == BOOL:
        raise DTypeError(
            "booleans have no difference",
            expected="numbers",
            received="two booleans",
            hint="use ravop.logical_xor",
        )
    return node("Sub", [x, y])


subtract = also("subtract", sub)


@operator
def mul(a: Operand, b: Operand) -> Op:
    """a · b, element by element; of two booleans, whether both are true.

    Example:
        >>> R.mul([1, 2, 3], [[2], [3]])
        [[2, 4, 6], [3, 6, 9]]
    """
    return _calculating("Mul", a, b)


multiply = also("multiply", mul)


@operator
def div(a: Operand, b: Operand) -> Op:
    """a / b, a float also for integers.

    Example:
        >>> R.div([1, 2, 3], 2)
        [0.5, 1.0, 1.5]
    """
    x, y = common(a, b, at_least=FLOAT)
    return node("Div", [x, y])


divide = also("divide", div)
true_divide = also("true_divide", div)


@operator
def pow(a: Operand, b: Operand) -> Op:
    """a to the power of b. Integers stay integers, and then b must not be negative: `ArgumentError` where b is known while the
    graph is defined; the values for negative ones that are computed mean nothing.

    Example:
        >>> R.pow([1, 2, 3], 2)
        [1, 4, 9]
    """
    x, y = (numbers(op) for op in common(a, b))
    if not is_float(x.dtype) and y.constant is not None and (y.constant < 0).any():
        raise ArgumentError(
            "integers have no negative integer powers",
            expected="exponents of 0 or more",
            received=int(y.constant.min()),
            hint="make the base or the exponent a float, such as with x.astype('float32')",
        )
    return exact("Pow", [x, y])


power = also("power", pow)


@operator
def neg(x: Operand) -> Op:
    """−x.

    Example:
        >>> R.neg([1, -2])
        [-1, 2]
    """
    op = as_op(x)
    if op.dtype == BOOL:
        raise DTypeError(
            "a boolean has no negative", expected="numbers", received=op.dtype, hint="use ravop.logical_not"
        )
    if op.dtype.kind == "u":
        return node("Sub", [scalar(op, 0), op])
    return node("Neg", [op])


negative = also("negative", neg)


@operator
def pos(x: Operand) -> Op:
    """x itself.

    Example:
        >>> R.pos([1, -2])
        [1, -2]
    """
    return as_op(x)


positive = also("positive", pos)


@operator
def reciprocal(x: Operand) -> Op:
    """1 / x, a float.

    Example:
        >>> R.reciprocal([1, 2, 4])
        [1.0, 0.5, 0.25]
    """
    return node("Reciprocal", [floats(x)])


@operator
def abs(x: Operand) -> Op:
    """|x|.

    Example:
        >>> R.abs([-1.5, 2])
        [1.5, 2.0]
    """
    op = as_op(x)
    return op if op.dtype == BOOL else node("Abs", [op])


absolute = also("absolute", abs)


@operator
def sign(x: Operand) -> Op:
    """−1, 0 or 1 by the sign of x.

    Example:
        >>> R.sign([-1.5, 0, 2])
        [-1.0, 0.0, 1.0]
    """
    return node("Sign", [numbers(x)])


@operator
def signbit(x: Operand) -> Op:
    """Whether x is negative; −0.0 is.

    Example:
        >>> R.signbit([-1.5, -0.0, 2])
        [True, True, False]
    """
    op = numbers(x)
    zero = scalar(op, 0)
    if not is_float(op.dtype):
        return node("Less", [op, zero])
    # 1 / −0 is −∞, and 1 / −∞ is −0, which is below nothing: so both are asked.
    below = node("Less", [op, zero])
    return node(
        "Or",
        [below, node("And", [node("Equal", [op, zero]), node("Less", [node("Reciprocal", [op]), zero])])],
    )


@operator
def copysign(a: Operand, b: Operand) -> Op:
    """|a| with the sign of b, a float.

    Example:
        >>> R.copysign([1, 2], [-1, 3.5])
        [-1.0, 2.0]
    """
    x, y = common(a, b, at_least=FLOAT)
    size = node("Abs", [x])
    return node("Where", [signbit(y), node("Neg", [size]), size])


@operator
def heaviside(x: Operand, at_zero: Operand) -> Op:
    """0 below 0, 1 above, `at_zero` at 0, a float.

    Example:
        >>> R.heaviside([-1.5, 0, 2], 0.5)
        [0.0, 0.5, 1.0]
    """
    op, middle = common(x, at_zero, at_least=FLOAT)
    step = cast(node("Greater", [op, scalar(op, 0)]), op.dtype)
    step = node("Where", [node("IsNaN", [op]), op, step])
    return node("Where", [node("Equal", [op, scalar(op, 0)]), middle, step])


@operator
def square(x: Operand) -> Op:
    """x².

    Example:
        >>> R.square([1, -2, 3])
        [1, 4, 9]
    """
    op = numbers(x)
    return node("Mul", [op, op])


@operator
def cube(x: Operand) -> Op:
    """x³.

    Example:
        >>> R.cube([1, -2, 3])
        [1, -8, 27]
    """
    op = numbers(x)
    return node("Mul", [node("Mul", [op, op]), op])
