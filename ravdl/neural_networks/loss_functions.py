"""Losses: what training makes small. Each checks the targets it is given, and computes a float32 scalar."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import ravop as R
from ravdl.neural_networks.forward import Prediction
from ravdl.neural_networks.layers.arguments import Shape
from ravop.errors import ArgumentError, ShapeError
from ravop.graph import Op
from ravop.graph.dtypes import as_array
from ravop.protocol.tensors import Array


class Loss:
    """Base of all losses. Given to a model as a class or as an object."""

    metrics: tuple[str, ...] = ()
    """What is measured beside it when the model does not say."""

    def check_model(self, output_shape: Shape, activation: str) -> None:
        """Raises `ArgumentError` or `ShapeError` for a model that the loss cannot train."""

    def targets(self, y: object, output_shape: Shape, activation: str) -> Array | Op:
        """`y` in the form in which `call` takes it. Raises `ShapeError`, `ArgumentError`, `DTypeError`."""
        return _shaped(y, output_shape)

    def call(self, prediction: Prediction, y: Op) -> Op:
        """The mean loss over a batch, a float32 scalar."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class SquareLoss(Loss):
    """Mean squared error over all elements of the batch: mean((prediction - y)²), as `torch.nn.MSELoss`.

    y has the model's output shape; (samples,) is taken for an output of shape (samples, 1).
    """

    def call(self, prediction: Prediction, y: Op) -> Op:
        return R.mean(R.square(prediction.value - R.astype(y, np.float32)))


class CrossEntropy(Loss):
    """The mean of -log(the probability that the model gave to the truth).

    By the model's last activation: after **softmax** the categorical one, mean over samples of -Σ y log
    softmax(z), as `torch.nn.CrossEntropyLoss` of z; after **sigmoid** the binary one, mean over all elements
    of -(y log σ(z) + (1 - y) log(1 - σ(z))), as `torch.nn.BCEWithLogitsLoss`. Both are computed from z, what
    goes into that activation. Outputs of a model that ends in neither are taken as z of a softmax.

    y: integer class labels of shape (samples,), made one-hot within each step; or probabilities (one-hot
        rows) in the shape of the model's output.
    """

    metrics = ("accuracy",)

    def check_model(self, output_shape: Shape, activation: str) -> None:
        if activation not in _CROSS_ENTROPIES:
            raise ArgumentError(
                "CrossEntropy does not go with this last activation",
                expected=" or ".join(_CROSS_ENTROPIES),
                received=activation,
                hint="end in Activation('softmax') for classes, Activation('sigmoid') for yes or no",
            )
        if activation != "sigmoid" and (len(output_shape) != 1 or output_shape[0] < 2):
            raise ShapeError(
                "CrossEntropy over classes needs an output for each class",
                expected="output of shape (classes,), at least two",
                received=output_shape,
                hint="end the model in Dense(classes), or use Activation('sigmoid') for yes or no",
            )

    def targets(self, y: object, output_shape: Shape, activation: str) -> Array | Op:
        if activation == "sigmoid":
            return _shaped(y, output_shape)
        labels = y if isinstance(y, Op) else as_array(y)
        if labels.ndim == 2 and labels.shape[1] == 1 and labels.dtype.kind in "biu":
            labels = labels.reshape((labels.shape[0],))
        if labels.ndim != 1:
            return _shaped(labels, output_shape)
        if labels.dtype.kind not in "biu":
            raise ShapeError(
                "the targets are neither labels nor probabilities",
                expected=f"integer labels, or shape (samples, {output_shape[0]})",
                received=f"{labels.dtype}{list(labels.shape)}",
                hint="make labels integers: y.astype(int)",
            )
        return labels if isinstance(labels, Op) else _labels(labels, output_shape[0])

    def call(self, prediction: Prediction, y: Op) -> Op:
        return _CROSS_ENTROPIES[prediction.activation](prediction.raw, y)


def _categorical(z: Op, y: Op) -> Op:
    return R.softmax_cross_entropy(z, y if y.ndim == 1 else R.astype(y, np.float32))


def _binary(z: Op, y: Op) -> Op:
    # -(y log σ(z) + (1 - y) log(1 - σ(z))) = softplus(z) - z y
    return R.mean(R.softplus(z) - z * R.astype(y, np.float32))


_CROSS_ENTROPIES: dict[str, Callable[[Op, Op], Op]] = {
    "softmax": _categorical,
    "sigmoid": _binary,
    "linear": _categorical,
}


def _labels(labels: Array, classes: int) -> Array:
    labels = labels.astype(np.int64)
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ArgumentError(
            "a label is not one of the model's classes",
            expected=f"0 to {classes - 1}",
            received=f"{labels.min()} to {labels.max()}",
            hint=f"the model's last layer has {classes} units",
        )
    return labels


def _shaped(y: object, output_shape: Shape) -> Array | Op:
    targets = y if isinstance(y, Op) else as_array(y)
    if targets.ndim == 1 and output_shape == (1,):
        return targets.reshape((targets.shape[0], 1))  # (n,) against (n, 1) would broadcast to (n, n)
    if tuple(targets.shape[1:]) != output_shape or targets.ndim == 0:
        raise ShapeError(
            "the targets do not have the shape of the model's output",
            expected=("samples", *output_shape),
            received=tuple(targets.shape),
            hint="the last layer's size must be that of one target",
        )
    return targets
