"""Normalizations within each example: over its last axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import ravop as R
from ravdl.neural_networks.layers.activation import axis_after_batch
from ravdl.neural_networks.layers.arguments import Shape, above_zero, flag, whole
from ravdl.neural_networks.layers.layer import Layer, WeightSpec
from ravdl.neural_networks.layers.merging import unit
from ravdl.neural_networks.layers.options import spec
from ravop.graph import Op


class LayerNormalization(Layer):
    """y = gamma (x - mean) / √(variance + epsilon) + beta, with mean and biased variance over the axes from `axis` on
    (Ba, Kiros & Hinton 2016).

    Args:
        axis: the first of the axes, counted with the batch as axis 0; −1 for the last one alone, 1 for a whole example.
        epsilon: above 0.
        center: whether there is beta.
        scale: whether there is gamma.

    Weights: `gamma` and `beta` of the shape of those axes.
    """

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        input_shape: object = None,
    ) -> None:
        super().__init__(input_shape)
        self.axis = whole(axis, "axis")
        self.epsilon = above_zero(epsilon, "epsilon")
        self.center = flag(center, "center")
        self.scale = flag(scale, "scale")

    def shape_after(self, input_shape: Shape) -> Shape:
        axis_after_batch(self.axis, input_shape, type(self).__name__)
        return input_shape

    @property
    def normalized_shape(self) -> Shape:
        """The sizes of the axes that are normalized over."""
        return self.input_shape[axis_after_batch(self.axis, self.input_shape, type(self).__name__) - 1 :]

    def weights(self) -> tuple[WeightSpec, ...]:
        shape = self.normalized_shape
        found = [spec("gamma", shape, "ones")] if self.scale else []
        return (*found, spec("beta", shape, "zeros")) if self.center else tuple(found)

    def parameters(self) -> dict[str, Any]:
        return {"axis": self.axis, "epsilon": self.epsilon, "center": self.center, "scale": self.scale}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        gamma = weights["gamma"] if self.scale else _ones(x, self.normalized_shape)
        inputs = [x, gamma, *([weights["beta"]] if self.center else [])]
        axis = -len(self.normalized_shape)
        return x.graph.apply("LayerNormalization", inputs, {"axis": axis, "epsilon": self.epsilon})[0]


def _ones(x: Op, shape: Shape) -> Op:
    return R.broadcast_to(x.graph.constant(np.ones((1,) * len(shape), x.dtype)), shape)


class RMSNormalization(Layer):
    """y = gamma x / √(mean(x²) + epsilon), with the mean over the axes from `axis` on (Zhang & Sennrich 2019).

    Arguments as `LayerNormalization`'s. Weights: `gamma` of the shape of those axes.
    """

    def __init__(self, axis: int = -1, epsilon: float = 1e-6, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.axis = whole(axis, "axis")
        self.epsilon = above_zero(epsilon, "epsilon")

    def shape_after(self, input_shape: Shape) -> Shape:
        axis_after_batch(self.axis, input_shape, type(self).__name__)
        return input_shape

    @property
    def first(self) -> int:
        """`axis` from the front."""
        return axis_after_batch(self.axis, self.input_shape, type(self).__name__)

    def weights(self) -> tuple[WeightSpec, ...]:
        return (spec("gamma", self.input_shape[self.first - 1 :], "ones"),)

    def parameters(self) -> dict[str, Any]:
        return {"axis": self.axis, "epsilon": self.epsilon}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        axes = tuple(range(self.first, x.ndim))
        size = R.sqrt(R.mean(x * x, axis=axes, keepdims=True) + self.epsilon)
        return x / size * weights["gamma"]


class UnitNormalization(Layer):
    """x divided by its length along `axis`, counted with the batch as axis 0, so that it becomes 1."""

    def __init__(self, axis: int = -1, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.axis = whole(axis, "axis")

    def shape_after(self, input_shape: Shape) -> Shape:
        axis_after_batch(self.axis, input_shape, type(self).__name__)
        return input_shape

    def parameters(self) -> dict[str, Any]:
        return {"axis": self.axis}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return unit(x, self.axis)
