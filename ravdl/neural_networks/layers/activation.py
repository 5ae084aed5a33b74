"""Activation functions as layers: `Activation` by name, and those that have arguments of their own, or weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ravop as R
from ravdl.neural_networks.activations import ACTIVATIONS, activation_named
from ravdl.neural_networks.initializers import InitializerLike, initializer_named
from ravdl.neural_networks.layers.arguments import Shape, above_zero, not_negative, number, whole
from ravdl.neural_networks.layers.layer import Layer, WeightSpec
from ravdl.neural_networks.layers.options import Activated, Regularizer, checked_regularizer, spec
from ravop.errors import ArgumentError, ShapeError
from ravop.graph import Op


class Activation(Activated):
    """Apply the activation called `name`, one of `activations.ACTIVATIONS`; softmax is over the last axis.

    As the last layer of a model that is trained with `CrossEntropy`, softmax and sigmoid are computed
    together with the loss, from the values before them, so that no logarithm of a rounded zero is taken.
    """

    def __init__(self, name: str, input_shape: object = None) -> None:
        self.activation = activation_named(name)
        super().__init__(self.activation, input_shape)

    def parameters(self) -> dict[str, Any]:
        return {"name": self.activation}

    def call_raw(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return x


class ReLU(Layer):
    """max(x, 0) with, below `threshold`, negative_slope · (x − threshold), and at most `max_value` (as Keras's).

    Args:
        max_value: at least 0; None for no limit.
        negative_slope: at least 0.
        threshold: at least 0; from it on, x is passed.
    """

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        input_shape: object = None,
    ) -> None:
        super().__init__(input_shape)
        self.max_value = None if max_value is None else not_negative(max_value, "max_value")
        self.negative_slope = not_negative(negative_slope, "negative_slope")
        self.threshold = not_negative(threshold, "threshold")

    def parameters(self) -> dict[str, Any]:
        return {
            "max_value": self.max_value,
            "negative_slope": self.negative_slope,
            "threshold": self.threshold,
        }

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        y = R.relu(x) if self.threshold == 0 else x * R.astype(x >= self.threshold, x.dtype)
        if self.max_value is not None:
            y = R.minimum(y, self.max_value)
        return y - R.relu(self.threshold - x) * self.negative_slope if self.negative_slope else y


class LeakyReLU(Layer):
    """x, below 0 negative_slope · x (Maas et al. 2013). The default slope is Keras's."""

    def __init__(self, negative_slope: float = 0.3, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.negative_slope = not_negative(negative_slope, "negative_slope")

    def parameters(self) -> dict[str, Any]:
        return {"negative_slope": self.negative_slope}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return R.leaky_relu(x, self.negative_slope)


class PReLU(Layer):
    """x, below 0 alpha · x, with a learned alpha (He et al. 2015).

    Args:
        initializer: of alpha; `"zeros"` as in Keras.
        shared_axes: axes along which there is one alpha, counted from 1 as the batch is axis 0: `(2, 3)` for one alpha
            for each channel of an image.
        regularizer: from alpha to what is added to the loss.

    Weights: `alpha` of the input's shape, with size 1 along shared axes.
    """

    def __init__(
        self,
        initializer: InitializerLike = "zeros",
        shared_axes: tuple[int, ...] = (),
        regularizer: Regularizer | None = None,
        input_shape: object = None,
    ) -> None:
        super().__init__(input_shape)
        self.initializer = initializer_named(initializer)
        given = shared_axes if isinstance(shared_axes, list | tuple) else (shared_axes,)
        self.shared_axes = tuple(whole(axis, "shared_axes") for axis in given)
        self.regularizer = checked_regularizer(regularizer)

    def shape_after(self, input_shape: Shape) -> Shape:
        if any(not 1 <= axis <= len(input_shape) for axis in self.shared_axes):
            raise ShapeError(
                "PReLU shares its weight along axes that are not there",
                expected=f"axes from 1 to {len(input_shape)}",
                received=self.shared_axes,
            )
        return input_shape

    def weights(self) -> tuple[WeightSpec, ...]:
        shape = tuple(1 if n in self.shared_axes else size for n, size in enumerate(self.input_shape, 1))
        return (spec("alpha", shape, self.initializer, self.regularizer),)

    def parameters(self) -> dict[str, Any]:
        return {
            "initializer": self.initializer,
            "shared_axes": self.shared_axes,
            "regularizer": self.regularizer,
        }

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return R.prelu(x, weights["alpha"])


class ELU(Layer):
    """x, below 0 alpha · (exp(x) − 1) (Clevert et al. 2016)."""

    def __init__(self, alpha: float = 1.0, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.alpha = number(alpha, "alpha")

    def parameters(self) -> dict[str, Any]:
        return {"alpha": self.alpha}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return R.elu(x, self.alpha)


class ThresholdedReLU(Layer):
    """x where it is above theta, else 0 (Konda et al. 2015)."""

    def __init__(self, theta: float = 1.0, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.theta = above_zero(theta, "theta")

    def parameters(self) -> dict[str, Any]:
        return {"theta": self.theta}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return R.threshold(x, self.theta)


class GLU(Layer):
    """Gated linear units: the first half of the elements along `axis`, times the sigmoid of the second half
    (Dauphin et al. 2017). The axis, counted with the batch as axis 0, has an even size; the output half of it.
    """

    def __init__(self, axis: int = -1, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.axis = whole(axis, "axis")

    def shape_after(self, input_shape: Shape) -> Shape:
        axis = axis_after_batch(self.axis, input_shape, "GLU") - 1
        if input_shape[axis] % 2:
            raise ShapeError(
                "GLU cuts its input in halves",
                expected=f"an even size along axis {self.axis}",
                received=input_shape,
            )
        return (*input_shape[:axis], input_shape[axis] // 2, *input_shape[axis + 1 :])

    def parameters(self) -> dict[str, Any]:
        return {"axis": self.axis}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        # R.glu needs to know the batch, which an exported model does not.
        axis = axis_after_batch(self.axis, self.input_shape, "GLU")
        before = (slice(None),) * axis
        half = self.output_shape[axis - 1]
        return x[(*before, slice(half))] * R.sigmoid(x[(*before, slice(half, None))])


class Softmax(Layer):
    """exp(x) / Σ exp(x) along `axis`, counted with the batch as axis 0: `Softmax(axis=1)` over the channels of images.

    Over the last axis, at the end of a model, losses compute with what goes into it, as with `Activation("softmax")`.
    """

    def __init__(self, axis: int = -1, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.axis = whole(axis, "axis")
        if self.axis == 0:
            raise ArgumentError("axis 0 is the batch's", expected="another axis", received=axis)

    def shape_after(self, input_shape: Shape) -> Shape:
        axis = axis_after_batch(self.axis, input_shape, "Softmax")
        self.last_activation = "softmax" if axis == len(input_shape) else "linear"
        return input_shape

    def parameters(self) -> dict[str, Any]:
        return {"axis": self.axis}

    def call_raw(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return x

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return R.softmax(x, axis=self.axis) if self.last_activation == "linear" else ACTIVATIONS["softmax"](x)


def axis_after_batch(axis: int, shape: Shape, layer: str) -> int:
    """`axis`, counted with the batch as axis 0, from the front. Raises `ShapeError` where samples have none such."""
    rank = len(shape)
    found = axis + rank + 1 if axis < 0 else axis
    if not 1 <= found <= rank:
        raise ShapeError(
            f"{layer}'s axis is not there",
            expected=f"1 to {rank}, or -{rank} to -1",
            received=f"axis {axis}, for samples of shape {shape}",
        )
    return found
