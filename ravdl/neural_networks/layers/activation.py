"""Activation: an element-wise function, or softmax, as a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ravdl.neural_networks.activations import ACTIVATIONS, activation_named
from ravdl.neural_networks.layers.layer import Layer
from ravop.graph import Op


class Activation(Layer):
    """Apply the activation called `name`: `relu`, `sigmoid`, `tanh`, `softmax` (over the last axis) or
    `linear`.

    As the last layer of a model that is trained with `CrossEntropy`, softmax and sigmoid are computed
    together with the loss, from the values before them, so that no logarithm of a rounded zero is taken.
    """

    def __init__(self, name: str, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.activation = activation_named(name)

    def parameters(self) -> dict[str, Any]:
        return {"name": self.activation}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return ACTIVATIONS[self.activation](x)
