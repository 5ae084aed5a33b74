"""What training a network takes beyond single operators, in the forms whose gradients the engine computes fastest.

Windows over images are in `windows`, activations in `activation`; layers are `ravdl`'s.
"""

from __future__ import annotations

import numpy as np

from ravop.errors import ShapeError
from ravop.graph.dtypes import INT, is_float
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import length_of
from ravop.ops.catalogue import as_op, cast, common, floats, integers, node, operator, scalar
from ravop.ops.shaping import is_static, op_size

__all__ = [
    "affine",
    "batch_normalization",
    "batch_normalization_training",
    "dropout",
    "softmax_cross_entropy",
]


_MANY = 65_536
"""Elements from which a pass over memory costs more than an operator."""


@operator
def affine(x: Operand, scale: Operand, shift: Operand) -> Op:
    """scale · x + shift, with scalars: for large x in one pass over memory, where two operators take two.

    Example:
        >>> R.affine([1.0, 2.0, 3.0], 2.0, 0.5)
        [2.5, 4.5, 6.5]
    """
    op, a, b = (floats(operand) for operand in common(x, scale, shift))
    if a.shape or b.shape:
        raise ShapeError(
            "affine takes scalars",
            expected="scale and shift of shape []",
            received=f"{a.shape} and {b.shape}",
        )
    if not is_static(op) or op_size(op) < _MANY:
        return node("Add", [node("Mul", [op, a]), b])
    # ONNX has no such operator, but batch normalization of a single channel with mean 0 and variance 1 is one.
    channel, one = integers(op, [1]), op.graph.constant(np.ones(1, dtype=op.dtype))
    zero = op.graph.constant(np.zeros(1, dtype=op.dtype))
    as_image = node("Reshape", [op, integers(op, [1, 1, -1])])
    a, b = node("Reshape", [a, channel]), node("Reshape", [b, channel])
    moved = node("BatchNormalization", [as_image, a, b, zero, one], epsilon=0.0)
    return node("Reshape", [moved, integers(op, op.static_shape)])


@operator
def batch_normalization(
    x: Operand, gamma: Operand, beta: Operand, mean: Operand, variance: Operand, epsilon: float = 1e-5
) -> Op:
    """gamma (x - mean) / √(variance + epsilon) + beta for each channel of x (N, C, …); the others are (C,).

    Example:
        >>> R.batch_normalization([[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0], [0.0, 1.0], [1.0, 2.0], [4.0, 1.0])
        [[0.0, 1.0], [1.0, 5.0]]
    """
    return node("BatchNormalization", _per_channel(x, gamma, beta, mean, variance), epsilon=float(epsilon))


@operator
def batch_normalization_training(
    x: Operand, gamma: Operand, beta: Operand, epsilon: float = 1e-5
) -> tuple[Op, Op, Op]:
    """`batch_normalization` of x (N, C, …) by its own statistics (Ioffe & Szegedy 2015). → y, mean (C,), variance (C,).

    The variance is the biased one, divided by n. Running statistics are mixed from them outside of the node (see
    `_scratch`).

    Example:
        >>> R.batch_normalization_training([[1.0, 2.0], [3.0, 6.0]], [1.0, 1.0], [0.0, 0.0])
        ([[-1.0, -1.0], [1.0, 1.0]], [2.0, 4.0], [1.0, 4.0])
    """
    ops = _per_channel(x, gamma, beta)
    attributes = {"epsilon": float(epsilon), "momentum": 0.0, "training_mode": 1}
    y, mean, variance = ops[0].graph.apply("BatchNormalization", [*ops, *_scratch(ops[0])], attributes)
    return y, mean, variance


def _scratch(x: Op) -> tuple[Op, Op]:
    """Two vectors (C,), whatever is in them.

    ONNX Runtime writes a training BatchNormalization's statistics over its inputs 3 and 4, be they constants or data
    that others read too. So each node gets inputs of its own, made from x so that they are not folded into constants.
    """
    zeros, ones = [0] * x.ndim, [1] * x.ndim
    ones[1] = length_of(x, 1)
    corner = node("Slice", [x, integers(x, zeros), integers(x, ones)])
    first = node("Reshape", [corner, integers(x, ones[1:2])])
    return first, node("Neg", [first])


def _per_channel(x: Operand, *others: Operand) -> list[Op]:
    ops = [floats(op) for op in common(x, *others)]
    channels = ops[0].shape[1:2]
    for op in ops[1:]:
        if not channels or op.shape != channels:
            raise ShapeError(
                "batch normalization takes (N, C, …) and one number for each channel",
                expected=f"shape {list(channels)}" if channels else "at least 2 axes",
                received=f"{list(op.shape)} for x {list(ops[0].shape)}",
            )  # fmt: skip
    return ops


@operator
def dropout(x: Operand, kept: Operand, p: float) -> Op:
    """x / (1 - p) where `kept` is true, else 0 (Srivastava et al. 2014); `kept` is such as `bernoulli(1 - p, x.shape)`.

    Example:
        >>> R.dropout([1.0, 2.0, 3.0, 4.0], [True, False, True, True], 0.5)
        [2.0, 0.0, 6.0, 8.0]
    """
    op = floats(x)
    # Products of a mask of numbers, forward and backward, take half the time of selecting by truth values.
    return node("Mul", [op, node("Mul", [cast(as_op(kept), op.dtype), scalar(op, 1 / (1 - p))])])


@operator
def softmax_cross_entropy(logits: Operand, targets: Operand) -> Op:
    """The mean over the rows of -Σ targets · log softmax(logits), without overflow: a scalar.

    `logits` are (N, C). `targets` are classes, integers of shape (N,), or probabilities of shape (N, C).

    Example:
        >>> R.softmax_cross_entropy([[2.0, 0.0], [0.0, 1.0]], [0, 1])
        0.2201
    """
    z, truth = floats(logits), as_op(targets)
    expected = z.shape if is_float(truth.dtype) else z.shape[:1]
    if z.ndim != 2 or truth.shape != expected:
        raise ShapeError(
            "the targets do not fit the logits", expected="logits (N, C), and classes (N,) or probabilities (N, C)",
            received=f"logits {list(z.shape)}, targets {truth.dtype}{list(truth.shape)}",
        )  # fmt: skip
    if not is_float(truth.dtype):
        return node("SoftmaxCrossEntropyLoss", [z, cast(truth, INT)])
    products = node("Mul", [cast(truth, z.dtype), node("LogSoftmax", [z], axis=1)])
    return node("Mul", [node("ReduceSum", [products], keepdims=0), scalar(z, -1 / z.static_shape[0])])
