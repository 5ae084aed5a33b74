"""Activation functions made of straight lines and thresholds, element by element."""

from __future__ import annotations

from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import also, floats, node, operator, scalar, unary

__all__ = [
    "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "relu6", "soft_shrink", "tanh_shrink", "threshold",
]  # fmt: skip


@operator
def relu6(x: Operand) -> Op:
    """x, kept between 0 and 6.

    Example:
        >>> R.relu6([-2, 3, 9])
        [0.0, 3.0, 6.0]
    """
    op = floats(x)
    return node("Clip", [op, scalar(op, 0), scalar(op, 6)])


@operator
def hard_sigmoid(x: Operand) -> Op:
    """x/6 + 1/2, kept between 0 and 1.

    Example:
        >>> R.hard_sigmoid([-2, 0, 1.5])
        [0.1667, 0.5, 0.75]
    """
    return unary("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@operator
def hard_tanh(x: Operand) -> Op:
    """x, kept between −1 and 1.

    Example:
        >>> R.hard_tanh([-2, 0, 1.5])
        [-1.0, 0.0, 1.0]
    """
    op = floats(x)
    return node("Clip", [op, scalar(op, -1), scalar(op, 1)])


@operator
def tanh_shrink(x: Operand) -> Op:
    """x − tanh(x).

    Example:
        >>> R.tanh_shrink([-2, 0, 1.5])
        [-1.036, 0.0, 0.5949]
    """
    op = floats(x)
    return node("Sub", [op, node("Tanh", [op])])


@operator
def soft_shrink(x: Operand, threshold: float = 0.5) -> Op:
    """x moved towards 0 by `threshold`, 0 where it is nearer.

    Example:
        >>> R.soft_shrink([-2, 0, 1.5])
        [-1.5, 0.0, 1.0]
    """
    op = floats(x)
    return node("Sub", [op, node("Clip", [op, scalar(op, -threshold), scalar(op, threshold)])])


@operator
def hard_shrink(x: Operand, threshold: float = 0.5) -> Op:
    """x, 0 where it is not further from 0 than `threshold`.

    Example:
        >>> R.hard_shrink([-2, 0, 1.5])
        [-2.0, 0.0, 1.5]
    """
    op = floats(x)
    return node("Where", [node("Greater", [node("Abs", [op]), scalar(op, threshold)]), op, scalar(op, 0)])


@operator
def threshold(x: Operand, limit: float, value: float = 0.0) -> Op:
    """x, `value` where it is not above `limit`.

    Example:
        >>> R.threshold([-2, 0, 1.5], 1, 9)
        [9.0, 9.0, 1.5]
    """
    op = floats(x)
    return node("Where", [node("Greater", [op, scalar(op, limit)]), op, scalar(op, value)])


@operator
def hard_silu(x: Operand) -> Op:
    """x · hard_sigmoid(x).

    Example:
        >>> R.hard_silu([-2, 0, 1.5])
        [-0.3333, 0.0, 1.125]
    """
    op = floats(x)
    return node("Mul", [op, hard_sigmoid(op)])


hard_swish = also("hard_swish", hard_silu)
