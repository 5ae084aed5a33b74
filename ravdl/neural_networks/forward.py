"""From inputs to predictions: a model's layers in a row, in training and in inference. Used by the model and
its training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import ravop as R
from ravdl.neural_networks.activations import ACTIVATIONS
from ravdl.neural_networks.layers import Activation, Layer, Moment
from ravop.graph import Op


@dataclass(frozen=True)
class Prediction:
    """What a model gives, before and after its last activation. Losses choose the more stable of the two."""

    raw: Op
    """What goes into the last layer when that is an `Activation`, else the last layer's output."""
    activation: str
    """Name of that activation; `linear` when there is none."""

    @property
    def value(self) -> Op:
        """The model's output."""
        return ACTIVATIONS[self.activation](self.raw)


def last_activation(layers: Sequence[Layer]) -> str:
    """Name of the activation that the model ends in, `linear` when it ends in another layer."""
    return layers[-1].activation if layers and isinstance(layers[-1], Activation) else "linear"


def predict(layers: Sequence[Layer], weights: Mapping[str, Op], x: Op) -> Prediction:
    """In inference mode. `weights` by their names in the model; `x` of shape (batch, *input_shape)."""
    x = _floats(x)
    for layer in _before_activation(layers):
        with x.graph.label(layer.name):
            x = layer.call(x, _own(layer, weights))
    return Prediction(x, last_activation(layers))


def predict_in_training(
    layers: Sequence[Layer], weights: Mapping[str, Op], x: Op, moment: Moment
) -> tuple[Prediction, dict[str, Op]]:
    """In training mode. → prediction, and the weights that layers moved by themselves (running statistics).

    A frozen layer (`layer.trainable = False`) that has weights works as in inference.
    """
    x = _floats(x)
    moved: dict[str, Op] = {}
    for layer in _before_activation(layers):
        own = _own(layer, weights)
        with x.graph.label(layer.name):
            if own and not layer.trainable:
                x = layer.call(x, own)
            else:
                x, updates = layer.train(x, own, moment)
                moved |= {f"{layer.name}_{name}": value for name, value in updates.items()}
    return Prediction(x, last_activation(layers)), moved


def _before_activation(layers: Sequence[Layer]) -> Sequence[Layer]:
    return layers[:-1] if layers and isinstance(layers[-1], Activation) else layers


def _own(layer: Layer, weights: Mapping[str, Op]) -> dict[str, Op]:
    return {spec.name: weights[layer.weight_name(spec)] for spec in layer.weights()}


def _floats(x: Op) -> Op:
    return x if x.dtype == np.float32 else R.astype(x, np.float32)
