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
from ravdl.neural_networks.means import shares, weighted
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


def predict_in_shards(
    layers: Sequence[Layer],
    weights: Sequence[Mapping[str, Op]],
    xs: Sequence[Op],
    moments: Sequence[Moment],
    mixed: bool,
) -> tuple[list[Prediction], dict[str, Op]]:
    """As `predict_in_training`, for a batch that is cut into shards.

    Args:
        weights: the same values for each shard, as ops of its own.
        mixed: layers that mix the examples of a batch do so over all shards; else within each, and what they move is
            averaged over the examples.
    """
    xs = [_floats(x) for x in xs]
    parts = shares([x.static_shape[0] for x in xs])
    moved: dict[str, Op] = {}
    for layer in _before_activation(layers):
        own = [_own(layer, of_shard) for of_shard in weights]
        updates: dict[str, Op] = {}
        with xs[0].graph.label(layer.name):
            if own[0] and not layer.trainable:
                xs = [layer.call(*pair) for pair in zip(xs, own, strict=True)]
            elif mixed and layer.mixes_examples:
                xs, updates = layer.train_shards(xs, own, moments)
            else:
                found = [layer.train(*given) for given in zip(xs, own, moments, strict=True)]
                xs = [x for x, _ in found]
                updates = {name: weighted([each[name] for _, each in found], parts) for name in found[0][1]}
        moved |= {f"{layer.name}_{name}": value for name, value in updates.items()}
    activation = last_activation(layers)
    return [Prediction(x, activation) for x in xs], moved


def _before_activation(layers: Sequence[Layer]) -> Sequence[Layer]:
    return layers[:-1] if layers and isinstance(layers[-1], Activation) else layers


def _own(layer: Layer, weights: Mapping[str, Op]) -> dict[str, Op]:
    return {spec.name: weights[layer.weight_name(spec)] for spec in layer.weights()}


def _floats(x: Op) -> Op:
    return x if x.dtype == np.float32 else R.astype(x, np.float32)
