"""`Loss`: what every loss is, and a plain function of ops as one. The losses themselves are in `loss_functions`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import ravop as R
from ravdl.neural_networks.forward import Prediction
from ravdl.neural_networks.layers.arguments import Shape
from ravop.errors import ArgumentError, ShapeError
from ravop.graph import Op
from ravop.graph.dtypes import as_array
from ravop.protocol.tensors import Array


class Loss:
    """Base of all losses. Given to a model as a class or as an object.

    Most losses override `elements` alone.
    """

    metrics: tuple[str, ...] = ()
    """What is measured beside it when the model does not say."""

    def config(self) -> dict[str, Any]:
        """The constructor's arguments: `type(loss)(**loss.config())` is its equal."""
        return dict(vars(self))

    def check_model(self, output_shape: Shape, activation: str) -> None:
        """Raises `ArgumentError` or `ShapeError` for a model that the loss cannot train."""

    def check_logits(self) -> None:
        """Asked where the model's output surely has not gone through an activation. Raises `ArgumentError` for a loss that
        takes outputs for probabilities.
        """

    def targets(self, y: object, output_shape: Shape, activation: str) -> Array | Op:
        """`y` in the form in which `call` takes it. Raises `ShapeError`, `ArgumentError`, `DTypeError`."""
        return shaped(y, output_shape)

    def elements(self, prediction: Prediction, y: Op) -> Op:
        """The loss of each element or example, float32 of shape (batch, …)."""
        raise NotImplementedError

    def call(self, prediction: Prediction, y: Op) -> Op:
        """The mean loss over a batch, a float32 scalar."""
        return R.mean(self.elements(prediction, y))

    def weighted(self, prediction: Prediction, y: Op, weights: Op) -> Op:
        """The mean over a batch of each example's loss times its weight, as Keras defines it: divided by the number of
        examples, not by the sum of the weights.

        `weights`: (batch,), or (batch, time) for losses that have an element for each step, and so on. Raises `ShapeError`.
        """
        each = self.elements(prediction, y)
        if each.shape[: weights.ndim] != weights.shape:
            raise ShapeError(
                "the weights do not fit the losses that they weigh",
                expected=f"(samples,) or further axes of {each.shape}",
                received=weights.shape,
            )
        if each.ndim > weights.ndim:
            each = R.mean(each, axis=tuple(range(weights.ndim, each.ndim)))
        return R.mean(each * weights)

    @property
    def weighs(self) -> bool:
        """Whether examples can have weights."""
        return type(self).elements is not Loss.elements

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.config().items())})"


class FunctionLoss(Loss):
    """A function `loss(y_true, y_pred)` of ops as a loss; what it gives is averaged where it is no scalar.

    y may have any shape that begins with the samples; floats become float32.
    """

    def __init__(self, function: Callable[[Op, Op], Op]) -> None:
        self.function = function

    def targets(self, y: object, output_shape: Shape, activation: str) -> Array | Op:
        found = y if isinstance(y, Op) else as_array(y)
        if found.ndim == 1 and output_shape == (1,):
            return found.reshape((found.shape[0], 1))
        if found.ndim == 0:
            raise ShapeError("the targets are one number", expected="(samples, …)", received=())
        return found.astype(np.float32) if found.dtype == np.float64 else found

    def elements(self, prediction: Prediction, y: Op) -> Op:
        found = self._result(prediction, y)
        if not found.ndim:
            raise ArgumentError(
                "examples cannot be weighed in a loss that gives one number",
                expected="a function that gives the loss of each example, (batch, …)",
                received=f"{self.function!r}, which gives a scalar",
            )
        return found

    def call(self, prediction: Prediction, y: Op) -> Op:
        found = self._result(prediction, y)
        return R.mean(found) if found.ndim else found

    def _result(self, prediction: Prediction, y: Op) -> Op:
        found = self.function(y, prediction.value)
        if not isinstance(found, Op):
            raise ArgumentError(
                "a loss function gives an op", expected="loss(y_true, y_pred) → Op", received=repr(found)
            )
        return found if found.dtype == np.float32 else R.astype(found, np.float32)


def made_loss(loss: object) -> Loss:
    """A loss from its class, an object, or a function. Raises `ArgumentError`."""
    if isinstance(loss, type) and issubclass(loss, Loss):
        return loss()
    if isinstance(loss, Loss):
        return loss
    foreign = str(getattr(loss, "__module__", "")).partition(".")[0] in ("torch", "keras", "tensorflow")
    if callable(loss) and not isinstance(loss, type) and not foreign:
        return FunctionLoss(loss)
    raise ArgumentError(
        "this is no loss",
        expected="such as CrossEntropy, Huber(delta=2.0), or a function loss(y_true, y_pred) of ops",
        received=repr(loss),
        hint="take one of loss_functions: what computes arrays cannot be traced" if foreign else "",
    )


def shaped(y: object, output_shape: Shape) -> Array | Op:
    """`y` when it has the shape of the model's output; (samples,) is taken for an output of shape (samples, 1).

    Raises `ShapeError`.
    """
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
