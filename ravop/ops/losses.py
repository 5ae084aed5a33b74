"""Losses by Raven's names, for models that are written in ops; those that layers are trained with are `ravdl`'s."""

from __future__ import annotations

from ravop.errors import ShapeError
from ravop.graph.dtypes import is_float
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import length_of
from ravop.ops.catalogue import as_op, common, floats, integers, node, operator, scalar
from ravop.ops.counting import one_hot

__all__ = ["cross_entropy_loss", "square_loss"]

_NEAR = 1e-7
"""How near to 0 and 1 probabilities may be, so that their logarithms are finite."""


@operator
def square_loss(y_true: Operand, y_pred: Operand) -> Op:
    """The mean squared error, mean((y_pred − y_true)²) over all elements: a scalar, as `torch.nn.MSELoss`.

    Raises `ShapeError` unless both have one shape: broadcasting here is a mistake nearly always.

    Example:
        >>> R.square_loss([1.0, 2.0], [1.0, 4.0])
        2.0
    """
    truth, found = common(floats(y_true), floats(y_pred))
    if truth.shape != found.shape:
        raise ShapeError(
            "the loss compares element by element",
            expected=f"y_true of shape {list(found.shape)}",
            received=list(truth.shape),
        )
    away = node("Sub", [found, truth])
    return node("ReduceMean", [node("Mul", [away, away])], keepdims=0)


@operator
def cross_entropy_loss(y_true: Operand, y_pred: Operand) -> Op:
    """The categorical cross-entropy of probabilities: the mean over the rows of −Σ y_true · log y_pred, a scalar.

    `y_pred` is (…, C), divided by its sum over the classes. `y_true` is of the same shape, or classes: integers of shape
    (…). Of a `softmax` over the last axis the logarithm is taken of what goes into it, so that nothing overflows; of logits
    take `softmax_cross_entropy`. Raises `ShapeError` for truths that do not fit.

    Example:
        >>> R.cross_entropy_loss([[0, 1], [1, 0]], [[0.5, 0.5], [0.8, 0.2]])
        0.4581
    """
    p, truth = floats(y_pred), as_op(y_true)
    if p.ndim and truth.shape == p.shape[:-1] and not is_float(truth.dtype):
        truth = one_hot(truth, length_of(p, -1), p.dtype)
    if not p.ndim or truth.shape != p.shape:
        raise ShapeError(
            "the truths do not fit the probabilities",
            expected="probabilities (…, C), and as many truths or classes (…)",
            received=f"y_pred {list(p.shape)}, y_true {truth.dtype}{list(truth.shape)}",
        )
    truth, log_p = common(floats(truth), _logarithm(p))
    rows = node("ReduceSum", [node("Mul", [truth, log_p]), integers(p, [-1])], keepdims=0)
    return node("Neg", [node("ReduceMean", [rows], keepdims=0)])


def _logarithm(p: Op) -> Op:
    """log p of probabilities over the last axis."""
    made = p.value.producer()
    if made is not None and made.op_type == "Softmax":
        axis, logits = made.attributes.get("axis"), made.inputs[0]
        if logits is not None and (axis is None or axis.as_int() in (-1, p.ndim - 1)):
            return node("LogSoftmax", [p.graph.op_of(logits)], axis=-1)
    whole = node("Div", [p, node("ReduceSum", [p, integers(p, [-1])], keepdims=1)])
    return node("Log", [node("Clip", [whole, scalar(p, _NEAR), scalar(p, 1 - _NEAR)])])
