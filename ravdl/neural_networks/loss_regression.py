"""Losses of numbers: distances between the model's output and targets of the same shape.

y has the output's shape; (samples,) is taken for an output of shape (samples, 1). Formulas as in Keras, and in PyTorch
where it has them.
"""

from __future__ import annotations

import math

import numpy as np

import ravop as R
from ravdl.neural_networks.forward import Prediction
from ravdl.neural_networks.layers.arguments import Shape, above_zero
from ravdl.neural_networks.loss import Loss, shaped
from ravop.graph import Op
from ravop.protocol.tensors import Array

EPSILON = 1e-7
"""What keeps logarithms from zero."""


def _difference(prediction: Prediction, y: Op) -> Op:
    return prediction.value - R.astype(y, np.float32)


class SquareLoss(Loss):
    """Mean squared error over all elements of the batch: mean((prediction - y)²), as `torch.nn.MSELoss`."""

    def elements(self, prediction: Prediction, y: Op) -> Op:
        return R.square(_difference(prediction, y))


class MeanSquaredError(SquareLoss):
    """`SquareLoss` by its other name."""


class MeanAbsoluteError(Loss):
    """mean |prediction - y|, as `torch.nn.L1Loss`."""

    def elements(self, prediction: Prediction, y: Op) -> Op:
        return R.abs(_difference(prediction, y))


class Huber(Loss):
    """Of e = prediction - y: e² / 2 where |e| ≤ delta, else delta |e| - delta² / 2 (Huber 1964), as `torch.nn.HuberLoss`.

    Args:
        delta: above 0.
    """

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = above_zero(delta, "delta")

    def elements(self, prediction: Prediction, y: Op) -> Op:
        size = R.abs(_difference(prediction, y))
        inner = R.minimum(size, self.delta)
        return inner * (size - inner * 0.5)


class LogCosh(Loss):
    """mean log cosh(prediction - y), computed without overflow as |e| + softplus(-2 |e|) - log 2."""

    def elements(self, prediction: Prediction, y: Op) -> Op:
        size = R.abs(_difference(prediction, y))
        return size + R.softplus(size * -2.0) - math.log(2)


class Poisson(Loss):
    """mean(prediction - y log(prediction + 1e-7)), for counts y, as `torch.nn.PoissonNLLLoss(log_input=False)`."""

    def elements(self, prediction: Prediction, y: Op) -> Op:
        value = prediction.value
        return value - R.astype(y, np.float32) * R.natlog(value + EPSILON)


class KLDivergence(Loss):
    """mean over samples of Σ y log(y / p) over the last axis, as `torch.nn.KLDivLoss(reduction="batchmean")`.

    y and p are probabilities; both are taken to be at least 1e-7. After a softmax, log p is computed from what goes into it.
    """

    def elements(self, prediction: Prediction, y: Op) -> Op:
        truth = R.clip(R.astype(y, np.float32), EPSILON, 1.0)
        if prediction.activation == "softmax":
            log_p = R.log_softmax(prediction.raw, axis=-1)
        else:
            log_p = R.natlog(R.clip(prediction.value, EPSILON, 1.0))
        return R.sum(truth * (R.natlog(truth) - log_p), axis=-1)


class CosineSimilarity(Loss):
    """mean over samples of minus the cosine of the angle between prediction and y, along the last axis: from -1, the same
    direction, to 1, as in Keras.
    """

    def elements(self, prediction: Prediction, y: Op) -> Op:
        return -cosine(prediction.value, R.astype(y, np.float32))


def cosine(a: Op, b: Op) -> Op:
    """Of the angle between a and b along the last axis; 0 where one of them is zero."""
    lengths = [R.sqrt(R.maximum(R.sum(R.square(x), axis=-1), 1e-12)) for x in (a, b)]
    return R.sum(a * b, axis=-1) / (lengths[0] * lengths[1])


class _Margin(Loss):
    """For y of -1 and 1; targets that are all 0 and 1 are taken as -1 and 1."""

    def targets(self, y: object, output_shape: Shape, activation: str) -> Array | Op:
        found = shaped(y, output_shape)
        if isinstance(found, Op) or not np.isin(found, (0, 1)).all():
            return found
        return found.astype(np.float32) * 2 - 1

    def _margin(self, prediction: Prediction, y: Op) -> Op:
        return R.relu(1.0 - R.astype(y, np.float32) * prediction.value)


class Hinge(_Margin):
    """mean max(1 - y prediction, 0), for y of -1 and 1; targets that are all 0 and 1 are taken as -1 and 1."""

    def elements(self, prediction: Prediction, y: Op) -> Op:
        return self._margin(prediction, y)


class SquaredHinge(_Margin):
    """mean max(1 - y prediction, 0)², for y of -1 and 1; targets that are all 0 and 1 are taken as -1 and 1."""

    def elements(self, prediction: Prediction, y: Op) -> Op:
        return R.square(self._margin(prediction, y))


class CategoricalHinge(Loss):
    """mean over samples of max(1 + max((1 - y) p) - Σ y p, 0) over the last axis, for one-hot y, as in Keras."""

    def elements(self, prediction: Prediction, y: Op) -> Op:
        truth, value = R.astype(y, np.float32), prediction.value
        wrong = R.max((1.0 - truth) * value, axis=-1)
        return R.relu(1.0 + wrong - R.sum(truth * value, axis=-1))
