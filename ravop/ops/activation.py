"""Activation functions of neural networks, element by element, except softmax and its logarithm."""

from __future__ import annotations

import math

from ravop.errors import ShapeError
from ravop.graph.dtypes import is_float
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import as_op, axis_of, floats, node, numbers, operator, scalar
from ravop.ops.compare import maximum

__all__ = [
    "elu", "gelu", "hard_sigmoid", "leaky_relu", "log_softmax", "relu", "selu", "sigmoid", "silu", "softmax", "softplus",
    "softsign", "tanh",
]  # fmt: skip


@operator
def relu(x: Operand) -> Op:
    """max(x, 0)."""
    op = as_op(x)
    return node("Relu", [op]) if is_float(op.dtype) else maximum(numbers(op), 0)


@operator
def sigmoid(x: Operand) -> Op:
    """1 / (1 + exp(−x))."""
    return node("Sigmoid", [floats(x)])


@operator
def tanh(x: Operand) -> Op:
    """The hyperbolic tangent."""
    return node("Tanh", [floats(x)])


@operator
def softmax(x: Operand, axis: int = -1) -> Op:
    """exp(x) / Σ exp(x) along `axis`, without overflow."""
    return _along("Softmax", x, axis)


@operator
def log_softmax(x: Operand, axis: int = -1) -> Op:
    """x − log Σ exp(x) along `axis`, without overflow."""
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
    """log(1 + exp(x)), without overflow: max(x, 0) + log(1 + exp(−|x|))."""
    op = floats(x)
    return node("Sub", [node("Relu", [op]), node("Log", [node("Sigmoid", [node("Abs", [op])])])])


@operator
def softsign(x: Operand) -> Op:
    """x / (1 + |x|)."""
    op = floats(x)
    return node("Div", [op, node("Add", [node("Abs", [op]), scalar(op, 1)])])


@operator
def leaky_relu(x: Operand, alpha: float = 0.01) -> Op:
    """x, times `alpha` below 0."""
    return node("LeakyRelu", [floats(x)], alpha=float(alpha))


@operator
def elu(x: Operand, alpha: float = 1.0) -> Op:
    """x, below 0 alpha · (exp(x) − 1)."""
    return node("Elu", [floats(x)], alpha=float(alpha))


@operator
def selu(x: Operand) -> Op:
    """The scaled ELU of Klambauer et al. (2017)."""
    return node("Selu", [floats(x)])


@operator
def gelu(x: Operand) -> Op:
    """x · Φ(x), with the normal distribution's Φ: x/2 · (1 + erf(x/√2)) (Hendrycks, Gimpel 2016)."""
    op = floats(x)
    erf = node("Erf", [node("Mul", [op, scalar(op, math.sqrt(0.5))])])
    return node("Mul", [node("Mul", [op, scalar(op, 0.5)]), node("Add", [erf, scalar(op, 1)])])


@operator
def silu(x: Operand) -> Op:
    """x · sigmoid(x)."""
    op = floats(x)
    return node("Mul", [op, node("Sigmoid", [op])])


@operator
def hard_sigmoid(x: Operand) -> Op:
    """x/6 + 1/2, kept between 0 and 1."""
    return node("HardSigmoid", [floats(x)], alpha=1 / 6, beta=0.5)
