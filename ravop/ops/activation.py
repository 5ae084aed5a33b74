"""Activation functions of neural networks, element by element, except softmax and its kin. Those made of straight lines are in
`clipped`.
"""

from __future__ import annotations

import math

from ravop.errors import ShapeError
from ravop.graph.dtypes import is_float
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import axis_of, length_of
from ravop.ops.catalogue import also, as_op, common, floats, node, numbers, operator, scalar, unary
from ravop.ops.compare import maximum

__all__ = [
    "celu", "elu", "gelu", "glu", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "prelu", "relu", "selu",
    "sigmoid", "silu", "softmax", "softmin", "softplus", "softsign", "squareplus", "swish", "tanh",
]  # fmt: skip


@operator
def relu(x: Operand) -> Op:
    """max(x, 0).

    Example:
        >>> R.relu([-2, 0, 1.5])
        [0.0, 0.0, 1.5]
    """
    op = as_op(x)
    return node("Relu", [op]) if is_float(op.dtype) else maximum(numbers(op), 0)


@operator
def sigmoid(x: Operand) -> Op:
    """1 / (1 + exp(−x)).

    Example:
        >>> R.sigmoid([-2, 0, 1.5])
        [0.1192, 0.5, 0.8176]
    """
    return node("Sigmoid", [floats(x)])


@operator
def tanh(x: Operand) -> Op:
    """The hyperbolic tangent.

    Example:
        >>> R.tanh([-2, 0, 1.5])
        [-0.964, 0.0, 0.9051]
    """
    return node("Tanh", [floats(x)])


@operator
def softmax(x: Operand, axis: int = -1) -> Op:
    """exp(x) / Σ exp(x) along `axis`, without overflow.

    Example:
        >>> R.softmax([-2, 0, 1.5])
        [0.0241, 0.178, 0.7979]
    """
    return _along("Softmax", x, axis)


@operator
def log_softmax(x: Operand, axis: int = -1) -> Op:
    """x − log Σ exp(x) along `axis`, without overflow.

    Example:
        >>> R.log_softmax([-2, 0, 1.5])
        [-3.7258, -1.7258, -0.2258]
    """
    return _along("LogSoftmax", x, axis)


def _along(op_type: str, x: Operand, axis: int) -> Op:
    op = floats(x)
    if not op.ndim:
        raise ShapeError(
            f"{op_type} needs an axis to sum along", expected="at least one axis", received="a scalar"
        )
    return node(op_type, [op], axis=axis_of(op, axis))


@operator
def softplus(x: Operand) -> Op:
    """log(1 + exp(x)), without overflow: max(x, 0) + log(1 + exp(−|x|)).

    Example:
        >>> R.softplus([-2, 0, 1.5])
        [0.1269, 0.6931, 1.7014]
    """
    op = floats(x)
    return node("Sub", [node("Relu", [op]), node("Log", [node("Sigmoid", [node("Abs", [op])])])])


@operator
def softsign(x: Operand) -> Op:
    """x / (1 + |x|).

    Example:
        >>> R.softsign([-2, 0, 1.5])
        [-0.6667, 0.0, 0.6]
    """
    op = floats(x)
    return node("Div", [op, node("Add", [node("Abs", [op]), scalar(op, 1)])])


@operator
def leaky_relu(x: Operand, alpha: float = 0.01) -> Op:
    """x, times `alpha` below 0.

    Example:
        >>> R.leaky_relu([-2, 0, 1.5])
        [-0.02, 0.0, 1.5]
    """
    return unary("LeakyRelu", x, alpha=float(alpha))


@operator
def elu(x: Operand, alpha: float = 1.0) -> Op:
    """x, below 0 alpha · (exp(x) − 1).

    Example:
        >>> R.elu([-2, 0, 1.5])
        [-0.8647, 0.0, 1.5]
    """
    return unary("Elu", x, alpha=float(alpha))


@operator
def selu(x: Operand) -> Op:
    """The scaled ELU of Klambauer et al. (2017).

    Example:
        >>> R.selu([-2, 0, 1.5])
        [-1.5202, 0.0, 1.5761]
    """
    return unary("Selu", x)


@operator
def gelu(x: Operand, approximate: bool = False) -> Op:
    """x · Φ(x), with the normal distribution's Φ: x/2 · (1 + erf(x/√2)) (Hendrycks, Gimpel 2016). With `approximate`
    x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))).

    Example:
        >>> R.gelu([-2, 0, 1.5])
        [-0.0455, 0.0, 1.3998]
    """
    op = floats(x)
    if approximate:
        cubic = node("Mul", [node("Mul", [op, op]), node("Mul", [op, scalar(op, 0.044715)])])
        inner = node("Tanh", [node("Mul", [node("Add", [op, cubic]), scalar(op, math.sqrt(2 / math.pi))])])
    else:
        inner = unary("Erf", node("Mul", [op, scalar(op, math.sqrt(0.5))]))
    return node("Mul", [node("Mul", [op, scalar(op, 0.5)]), node("Add", [inner, scalar(op, 1)])])


@operator
def silu(x: Operand) -> Op:
    """x · sigmoid(x).

    Example:
        >>> R.silu([-2, 0, 1.5])
        [-0.2384, 0.0, 1.2264]
    """
    op = floats(x)
    return node("Mul", [op, node("Sigmoid", [op])])


swish = also("swish", silu)


@operator
def mish(x: Operand) -> Op:
    """x · tanh(softplus(x)) (Misra 2019).

    Example:
        >>> R.mish([-2, 0, 1.5])
        [-0.2525, 0.0, 1.4034]
    """
    op = floats(x)
    return node("Mul", [op, node("Tanh", [softplus(op)])])


@operator
def celu(x: Operand, alpha: float = 1.0) -> Op:
    """x, below 0 alpha · (exp(x / alpha) − 1) (Barron 2017).

    Example:
        >>> R.celu([-2, 0, 1.5])
        [-0.8647, 0.0, 1.5]
    """
    op = floats(x)
    below = node("Min", [op, scalar(op, 0)])
    bent = node("Sub", [node("Exp", [node("Div", [below, scalar(op, alpha)])]), scalar(op, 1)])
    return node("Add", [node("Relu", [op]), node("Mul", [bent, scalar(op, alpha)])])


@operator
def prelu(x: Operand, alpha: Operand) -> Op:
    """x, times `alpha` below 0; `alpha` broadcasts to the shape of x (He et al. 2015).

    Example:
        >>> R.prelu([-2, 0, 1.5], 0.25)
        [-0.5, 0.0, 1.5]
    """
    op, slope = common(floats(x), alpha)
    return node("PRelu", [op, slope])


@operator
def glu(x: Operand, axis: int = -1) -> Op:
    """The first half of x along `axis`, times the sigmoid of the second (Dauphin et al. 2017).

    Example:
        >>> R.glu([1, 2, 0, 0])
        [0.5, 1.0]
    """
    op = floats(x)
    a = axis_of(op, axis)
    length = length_of(op, a)
    if length % 2:
        raise ShapeError("only an even axis has halves", expected="an even length", received=list(op.shape))
    first, gate = op.graph.apply("Split", [op, op.graph.integers([length // 2] * 2)], {"axis": a})
    return node("Mul", [first, node("Sigmoid", [gate])])


@operator
def linear(x: Operand) -> Op:
    """x itself, a float.

    Example:
        >>> R.linear([-2, 0, 1.5])
        [-2.0, 0.0, 1.5]
    """
    return floats(x)


@operator
def log_sigmoid(x: Operand) -> Op:
    """log sigmoid(x), without overflow: −softplus(−x).

    Example:
        >>> R.log_sigmoid([-2, 0, 1.5])
        [-2.1269, -0.6931, -0.2014]
    """
    return node("Neg", [softplus(node("Neg", [floats(x)]))])


@operator
def softmin(x: Operand, axis: int = -1) -> Op:
    """softmax(−x) along `axis`.

    Example:
        >>> R.softmin([-2, 0, 1.5])
        [0.858, 0.1161, 0.0259]
    """
    return softmax(node("Neg", [floats(x)]), axis)


@operator
def squareplus(x: Operand, b: float = 4.0) -> Op:
    """(x + √(x² + b)) / 2 (Barron 2021).

    Example:
        >>> R.squareplus([-2, 0, 1.5])
        [0.4142, 1.0, 2.0]
    """
    op = floats(x)
    root = node("Sqrt", [node("Add", [node("Mul", [op, op]), scalar(op, b)])])
    return node("Mul", [node("Add", [op, root]), scalar(op, 0.5)])
