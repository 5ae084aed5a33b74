"""From inputs to predictions: a network's calls one after another, in training and in inference. Used by the model and
its training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np

import ravop as R
from ravdl.neural_networks.activations import ACTIVATIONS
from ravdl.neural_networks.layers import Layer, Moment
from ravdl.neural_networks.means import shares, weighted
from ravdl.neural_networks.network import Call, Network
from ravop.graph import Graph, Op

V = TypeVar("V")


@dataclass(frozen=True)
class Prediction:
    """One output of a model, before and after its last activation. Losses choose the more stable of the two."""

    raw: Op
    """What goes into the activation that the output ends in; the output itself where there is none."""
    activation: str
    """Name of that activation; `linear` when there is none."""

    @cached_property
    def value(self) -> Op:
        """The model's output."""
        return ACTIVATIONS[self.activation](self.raw)


Predictions = tuple[Prediction, ...]
"""One for each output."""


def predict(network: Network, weights: Mapping[str, Op], xs: Sequence[Op]) -> Predictions:
    """In inference mode. `weights` by their names in the model; `xs` of shapes (batch, *shape)."""

    def outputs(call: Call, given: Sequence[Op]) -> Sequence[Op]:
        return call.layer.call_all(_taken(call.layer, given), _own(call.layer, weights))

    def raw(call: Call, given: Sequence[Op]) -> Op:
        return call.layer.call_raw(_taken(call.layer, given)[0], _own(call.layer, weights))

    found = _walk(network, _ports(network, xs), _Ways(outputs, raw, _activated, lambda x: x.graph))
    return tuple(Prediction(*each) for each in found)


def predict_in_training(
    network: Network, weights: Mapping[str, Op], xs: Sequence[Op], moment: Moment
) -> tuple[Predictions, dict[str, Op]]:
    """In training mode. → predictions, and the weights that layers moved by themselves (running statistics).

    A frozen layer (`layer.trainable = False`) that has weights works as in inference.
    """
    moved: dict[str, Op] = {}

    def outputs(call: Call, given: Sequence[Op]) -> Sequence[Op]:
        layer = call.layer
        given, own = _taken(layer, given), _own(layer, weights, moved)
        if own and not layer.trainable:
            return layer.call_all(given, own)
        found, updates = layer.train_all(given, own, replace(moment, call=call.number))
        moved.update(_renamed(layer, updates))
        return found

    def raw(call: Call, given: Sequence[Op]) -> Op:
        return call.layer.call_raw(_taken(call.layer, given)[0], _own(call.layer, weights))

    found = _walk(network, _ports(network, xs), _Ways(outputs, raw, _activated, lambda x: x.graph))
    return tuple(Prediction(*each) for each in found), moved


def predict_in_shards(
    network: Network,
    weights: Sequence[Mapping[str, Op]],
    xs: Sequence[Sequence[Op]],
    moments: Sequence[Moment],
    mixed: bool,
) -> tuple[list[Predictions], dict[str, Op]]:
    """As `predict_in_training`, for a batch that is cut into shards.

    Args:
        weights: the same values for each shard, as ops of its own.
        xs: the inputs of each shard.
        mixed: layers that mix the examples of a batch do so over all shards; else within each, and what they move is
            averaged over the examples.
    """
    each_shard = range(len(xs))
    parts = shares([of_shard[0].static_shape[0] for of_shard in xs])
    moved: dict[str, Op] = {}

    def outputs(call: Call, given: Sequence[list[Op]]) -> Sequence[list[Op]]:
        layer = call.layer
        own = [_own(layer, of_shard, moved) for of_shard in weights]
        taken = [_taken(layer, [value[i] for value in given]) for i in each_shard]
        if own[0] and not layer.trainable:
            return _by_value([layer.call_all(*pair) for pair in zip(taken, own, strict=True)])
        here = [replace(moment, call=call.number) for moment in moments]
        if mixed and layer.mixes_examples:
            of_shards, updates = layer.train_all_shards(taken, own, here)
            results = _by_value(of_shards)
        else:
            found = [layer.train_all(*of_shard) for of_shard in zip(taken, own, here, strict=True)]
            results = _by_value([ys for ys, _ in found])
            updates = {name: weighted([each[name] for _, each in found], parts) for name in found[0][1]}
        moved.update(_renamed(layer, updates))
        return results

    def raw(call: Call, given: Sequence[list[Op]]) -> list[Op]:
        layer = call.layer
        return [layer.call_raw(_taken(layer, [given[0][i]])[0], _own(layer, weights[i])) for i in each_shard]

    def activated(values: list[Op], name: str) -> list[Op]:
        return [_activated(value, name) for value in values]

    ports = _by_value([_ports(network, of_shard) for of_shard in xs])
    found = _walk(network, ports, _Ways(outputs, raw, activated, lambda values: values[0].graph))
    return [tuple(Prediction(values[i], name) for values, name in found) for i in each_shard], moved


# ── one walk, over ops or over the shards of each ─────────────────────────────────────────────────
@dataclass(frozen=True)
class _Ways(Generic[V]):
    """How a walk computes: a value is an op, or one for each shard."""

    outputs: Callable[[Call, Sequence[V]], Sequence[V]]
    raw: Callable[[Call, Sequence[V]], V]
    activated: Callable[[V, str], V]
    graph: Callable[[V], Graph]


def _walk(network: Network, inputs: Sequence[V], ways: _Ways[V]) -> list[tuple[V, str]]:
    """The outputs before their last activations, and the names of these. An activation is applied here only where
    another layer takes what it gives.
    """
    values = list(inputs)
    raws: dict[int, tuple[V, str]] = {}
    for call in network.calls:
        given = [values[number] for number in call.inputs]
        result = call.outputs[0]
        with ways.graph(values[0]).label(call.layer.name):
            if result in network.endings:
                name = call.layer.last_activation
                raw = ways.raw(call, given)
                raws[result] = raw, name
                values.append(ways.activated(raw, name) if result in network.read else raw)
            else:
                values += ways.outputs(call, given)
    return [raws.get(number, (values[number], "linear")) for number in network.outputs]


def _activated(x: Op, name: str) -> Op:
    return ACTIVATIONS[name](x)


def _by_value(shards: Sequence[Sequence[Op]]) -> list[list[Op]]:
    """From the values of each shard to the shards of each value."""
    return [list(shards_of_value) for shards_of_value in zip(*shards, strict=True)]


def _own(layer: Layer, weights: Mapping[str, Op], moved: Mapping[str, Op] | None = None) -> dict[str, Op]:
    """The layer's weights; those that an earlier call of it moved in this step as they are now."""
    names = {spec.name: layer.weight_name(spec) for spec in layer.weights()}
    return {name: (moved or {}).get(flat, weights[flat]) for name, flat in names.items()}


def _renamed(layer: Layer, updates: Mapping[str, Op]) -> dict[str, Op]:
    """New values of weights by their names in the model, without those that are frozen."""
    names = {spec.name: layer.weight_name(spec) for spec in layer.weights()}
    return {names[name]: value for name, value in updates.items() if name not in layer.frozen}


def _ports(network: Network, xs: Sequence[Op]) -> list[Op]:
    """The inputs in the dtypes that the network declares."""
    return [_as(x, port.dtype) for x, port in zip(xs, network.inputs, strict=True)]


def _taken(layer: Layer, given: Sequence[Op]) -> list[Op]:
    if layer.takes_integers or layer.takes_anything:
        return list(given)
    return [_as(x, np.dtype(np.float32)) for x in given]


def _as(x: Op, dtype: np.dtype[np.generic]) -> Op:
    return x if x.dtype == dtype else R.astype(x, dtype)
