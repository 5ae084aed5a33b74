"""Losses of classes: minus the logarithm of the probability that a model gives to the truth.

All compute from logits, what goes into the model's last softmax or sigmoid, where there is one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import ravop as R
from ravdl.neural_networks.forward import Prediction
from ravdl.neural_networks.layers.arguments import Shape, above_zero, fraction
from ravdl.neural_networks.loss import Loss, shaped
from ravop.errors import ArgumentError, ShapeError
from ravop.graph import Op
from ravop.graph.dtypes import as_array, is_float
from ravop.protocol.tensors import Array

EPSILON = 1e-7
"""How near to 0 and 1 probabilities may be that do not come from a softmax or sigmoid."""


class BinaryCrossEntropy(Loss):
    """mean over all elements of -(y log p + (1 - y) log(1 - p)).

    After a sigmoid it is computed from what goes into it, as `torch.nn.BCEWithLogitsLoss`. Other outputs are logits with
    `from_logits`, else probabilities.

    y has the output's shape, of 0 and 1, booleans or probabilities; (samples,) is taken for an output of shape (samples, 1).

    Args:
        from_logits: outputs that end in no sigmoid are logits.
        label_smoothing: s from 0 to below 1; y becomes y (1 - s) + s / 2.
    """

    metrics = ("accuracy",)

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0) -> None:
        self.from_logits = bool(from_logits)
        self.label_smoothing = fraction(label_smoothing, "label_smoothing")

    def check_logits(self) -> None:
        _check_probabilities(self, self.from_logits, "sigmoid")

    def elements(self, prediction: Prediction, y: Op) -> Op:
        truth = _smoothed(y, self.label_smoothing, 2)
        if prediction.activation == "sigmoid" or self.from_logits:
            return _from_logit(_logits(prediction, "sigmoid"), truth)
        p = R.clip(prediction.value, EPSILON, 1 - EPSILON)
        return -(truth * R.natlog(p) + (1.0 - truth) * R.natlog(1.0 - p))


def _check_probabilities(loss: Loss, from_logits: bool, activation: str) -> None:
    """Raises `ArgumentError` for a loss of probabilities."""
    if not from_logits:
        kind = type(loss).__name__
        raise ArgumentError(
            f"{kind} takes the outputs for probabilities, and the last layer has no activation",
            expected=f"a model that ends in a {activation}, or {kind}(from_logits=True)",
            received=f"{loss!r} on linear outputs",
            hint=f"add Activation({activation!r}), or activation={activation!r} in the last layer; else from_logits=True",
        )


def _from_logit(z: Op, y: Op) -> Op:
    # -(y log σ(z) + (1 - y) log(1 - σ(z))) = softplus(z) - z y
    return R.softplus(z) - z * y


def _logits(prediction: Prediction, activation: str) -> Op:
    return prediction.raw if prediction.activation == activation else prediction.value


def _smoothed(y: Op, smoothing: float, classes: int) -> Op:
    truth = R.astype(y, np.float32)
    return truth * (1 - smoothing) + smoothing / classes if smoothing else truth


class BinaryFocalCrossEntropy(BinaryCrossEntropy):
    """Binary cross entropy of each element times (1 - q)^gamma, q being the probability given to the truth: y p + (1 - y)
    (1 - p) (Lin et al. 2017); with `balanced` also times alpha where y is 1 and 1 - alpha where it is 0.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float = 0.25,
        balanced: bool = False,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(from_logits, label_smoothing)
        self.gamma = above_zero(gamma, "gamma")
        self.alpha = fraction(alpha, "alpha")
        self.balanced = bool(balanced)

    def elements(self, prediction: Prediction, y: Op) -> Op:
        truth = _smoothed(y, self.label_smoothing, 2)
        logits = self.from_logits and prediction.activation != "sigmoid"
        p = R.sigmoid(prediction.value) if logits else prediction.value
        given = truth * p + (1.0 - truth) * (1.0 - p)
        found = R.pow(1.0 - given, self.gamma) * super().elements(prediction, y)
        return found * (truth * self.alpha + (1.0 - truth) * (1 - self.alpha)) if self.balanced else found


class _OverClasses(Loss):
    """Base of the losses over classes along an axis."""

    metrics = ("accuracy",)
    takes_labels = True
    takes_rows = True

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1) -> None:
        self.from_logits = bool(from_logits)
        self.label_smoothing = fraction(label_smoothing, "label_smoothing")
        if isinstance(axis, bool) or not isinstance(axis, int) or axis == 0:
            raise ArgumentError("axis is that of the classes", expected="-1, or 1, 2, …", received=repr(axis))
        self.axis = axis

    def _classes(self, output_shape: Shape) -> int:
        """Where in the output's shape the classes are. Raises `ShapeError`."""
        place = self.axis - 1 if self.axis > 0 else self.axis + len(output_shape)
        if not 0 <= place < len(output_shape) or output_shape[place] < 2:
            raise ShapeError(
                f"{type(self).__name__} over classes needs an output for each class",
                expected="output of shape (classes,), or (time, classes), at least two",
                received=output_shape,
                hint="end the model in Dense(classes), or use Activation('sigmoid') for yes or no",
            )
        return place

    def check_logits(self) -> None:
        _check_probabilities(self, self.from_logits, "softmax")

    def check_model(self, output_shape: Shape, activation: str) -> None:
        place = self._classes(output_shape)
        if activation == "softmax" and place != len(output_shape) - 1:
            raise ArgumentError(
                "the last activation is a softmax over another axis than the loss's",
                expected="axis=-1, or a model that ends in logits, with from_logits=True",
                received=f"axis={self.axis}",
            )

    def targets(self, y: object, output_shape: Shape, activation: str) -> Array | Op:
        place = self._classes(output_shape)
        classes = output_shape[place]
        labels_shape = (*output_shape[:place], *output_shape[place + 1 :])
        found = y if isinstance(y, Op) else as_array(y)
        whole = not is_float(found.dtype)
        if whole and tuple(found.shape[1:]) == (*labels_shape, 1):
            found = found.reshape((found.shape[0], *labels_shape))
        is_rows = found.ndim == 1 + len(output_shape)
        if is_rows and self.takes_rows:
            return shaped(found, output_shape)
        if is_rows or not self.takes_labels or not whole or tuple(found.shape[1:]) != labels_shape:
            raise self._misfit(found, labels_shape, output_shape)
        return found if isinstance(found, Op) else checked_labels(found, classes)

    def _misfit(self, y: Array | Op, labels_shape: Shape, output_shape: Shape) -> ShapeError:
        labels = f"integer labels of shape ({', '.join(map(str, ('samples', *labels_shape)))})"
        rows = f"shape ({', '.join(map(str, ('samples', *output_shape)))})"
        return ShapeError(
            "the targets are neither labels nor probabilities"
            if self.takes_labels and self.takes_rows
            else f"the targets do not suit {type(self).__name__}",
            expected=" or ".join([labels] * self.takes_labels + [rows] * self.takes_rows),
            received=f"{y.dtype}{list(y.shape)}",
            hint="make labels integers: y.astype(int)"
            if self.takes_labels
            else "SparseCategoricalCrossEntropy takes labels",
        )

    def elements(self, prediction: Prediction, y: Op) -> Op:
        log_p = self._log_probabilities(prediction)
        return -R.sum(self._truth(y, log_p) * log_p, axis=-1)

    def call(self, prediction: Prediction, y: Op) -> Op:
        if self.label_smoothing or not self._has_logits(prediction) or self.axis != -1:
            return super().call(prediction, y)
        z = _logits(prediction, "softmax")
        rows = y.ndim == z.ndim
        if z.ndim > 2:
            classes = z.static_shape[-1]
            z, y = R.reshape(z, (-1, classes)), R.reshape(y, (-1, classes) if rows else (-1,))
        return R.softmax_cross_entropy(z, R.astype(y, np.float32) if rows else y)

    def _has_logits(self, prediction: Prediction) -> bool:
        return prediction.activation == "softmax" or self.from_logits

    def _log_probabilities(self, prediction: Prediction) -> Op:
        """Classes last."""
        if self._has_logits(prediction):
            return R.log_softmax(_classes_last(_logits(prediction, "softmax"), self.axis), axis=-1)
        p = _classes_last(prediction.value, self.axis)
        p = p / R.sum(p, axis=-1, keepdims=True)
        return R.natlog(R.clip(p, EPSILON, 1 - EPSILON))

    def _truth(self, y: Op, log_p: Op) -> Op:
        """Rows of probabilities, classes last."""
        classes = log_p.static_shape[-1]
        rows = (
            _classes_last(y, self.axis) if y.ndim == log_p.ndim else R.one_hot(R.astype(y, np.int64), classes)
        )
        return _smoothed(rows, self.label_smoothing, classes)


def _classes_last(x: Op, axis: int) -> Op:
    place = axis % x.ndim
    if place == x.ndim - 1:
        return x
    return R.transpose(x, [*(i for i in range(x.ndim) if i != place), place])


class CategoricalCrossEntropy(_OverClasses):
    """The mean over samples (and time steps or pixels) of -Σ y log p over the classes, as `torch.nn.CrossEntropyLoss`.

    After a softmax it is computed from what goes into it. Other outputs are logits with `from_logits`, else probabilities,
    which are divided by their sum.

    y: probabilities (one-hot rows) in the shape of the model's output.

    Args:
        from_logits: outputs that end in no softmax are logits.
        label_smoothing: s from 0 to below 1; y becomes y (1 - s) + s / classes.
        axis: of the classes in (batch, …); 1 for images (batch, classes, height, width), whose model ends in logits.
    """

    takes_labels = False


class SparseCategoricalCrossEntropy(_OverClasses):
    """`CategoricalCrossEntropy` for y of class labels: integers in the output's shape without the axis of the classes, such
    as (samples,), or (samples, time) for outputs (samples, time, classes).
    """

    takes_rows = False


class CategoricalFocalCrossEntropy(_OverClasses):
    """The mean of -alpha Σ y (1 - p)^gamma log p over the classes (Lin et al. 2017), as in Keras; y as labels or rows."""

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float = 0.25,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
    ) -> None:
        super().__init__(from_logits, label_smoothing, axis)
        self.gamma = above_zero(gamma, "gamma")
        self.alpha = fraction(alpha, "alpha")

    def elements(self, prediction: Prediction, y: Op) -> Op:
        log_p = self._log_probabilities(prediction)
        missing = R.pow(1.0 - R.exp(log_p), self.gamma)
        return -R.sum(self._truth(y, log_p) * missing * log_p, axis=-1) * self.alpha

    def call(self, prediction: Prediction, y: Op) -> Op:
        return R.mean(self.elements(prediction, y))


class CrossEntropy(_OverClasses):
    """The mean of -log(the probability that the model gave to the truth).

    By the model's last activation: after **softmax** the categorical one, mean over samples of -Σ y log
    softmax(z), as `torch.nn.CrossEntropyLoss` of z; after **sigmoid** the binary one, mean over all elements
    of -(y log σ(z) + (1 - y) log(1 - σ(z))), as `torch.nn.BCEWithLogitsLoss`. Both are computed from z, what
    goes into that activation. Outputs of a model that ends in neither are taken as z of a softmax.

    y: integer class labels of shape (samples,), or (samples, time) for outputs (samples, time, classes); or probabilities
        (one-hot rows) in the shape of the model's output.
    """

    def __init__(self) -> None:
        super().__init__(from_logits=True)
        self._binary = BinaryCrossEntropy()

    def config(self) -> dict[str, Any]:
        return {}

    def check_model(self, output_shape: Shape, activation: str) -> None:
        if activation not in ("softmax", "sigmoid", "linear"):
            raise ArgumentError(
                "CrossEntropy does not go with this last activation",
                expected="softmax or sigmoid or linear",
                received=activation,
                hint="end in Activation('softmax') for classes, Activation('sigmoid') for yes or no",
            )
        if activation != "sigmoid":
            super().check_model(output_shape, activation)

    def targets(self, y: object, output_shape: Shape, activation: str) -> Array | Op:
        if activation == "sigmoid":
            return shaped(y, output_shape)
        return super().targets(y, output_shape, activation)

    def elements(self, prediction: Prediction, y: Op) -> Op:
        if prediction.activation == "sigmoid":
            return self._binary.elements(prediction, y)
        return super().elements(prediction, y)

    def call(self, prediction: Prediction, y: Op) -> Op:
        if prediction.activation == "sigmoid":
            return self._binary.call(prediction, y)
        return super().call(prediction, y)


def checked_labels(labels: Array, classes: int) -> Array:
    """int64 labels. Raises `ArgumentError` for one that is no class."""
    labels = labels.astype(np.int64)
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ArgumentError(
            "a label is not one of the model's classes",
            expected=f"0 to {classes - 1}",
            received=f"{labels.min()} to {labels.max()}",
            hint=f"the model's last layer has {classes} units",
        )
    return labels
