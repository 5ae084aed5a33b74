"""Which weights of a network training leaves alone: `set_trainable`, by names with wildcards."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ravdl.neural_networks.layers.layer import Layer
from ravdl.neural_networks.network import Network
from ravop.errors import ArgumentError, did_you_mean


def set_trainable(network: Network, trainable: bool, names: Sequence[str] | None) -> None:
    """See `NeuralNetwork.set_trainable`. A layer all of whose weights are named is frozen itself."""
    if names is None:
        for layer in network.layers:
            layer.trainable = trainable
            layer.frozen = frozenset()
        return
    patterns = [names] if isinstance(names, str) else list(names)
    aliases: dict[str, list[str]] = {}
    for origin in network.origins:
        aliases.setdefault(origin.weight, []).append(origin.name)
    chosen = {layer: _chosen(layer, patterns, aliases) for layer in network.layers}
    _check(network, patterns, aliases)
    for layer, weights in chosen.items():
        if not weights:
            continue
        every = {spec.name for spec in layer.weights()}
        before = layer.frozen if layer.trainable else frozenset(every)
        after = before - weights if trainable else before | weights
        layer.trainable = after != every
        layer.frozen = frozenset() if after == every else frozenset(after)


def _chosen(layer: Layer, patterns: Sequence[str], aliases: dict[str, list[str]]) -> frozenset[str]:
    """Of the layer's weights, by their names within it."""
    if _fits(layer.name, patterns):
        return frozenset(spec.name for spec in layer.weights())
    return frozenset(
        spec.name
        for spec in layer.weights()
        if any(_fits(name, patterns) for name in _names(layer.weight_name(spec), aliases))
    )


def _names(weight: str, aliases: dict[str, list[str]]) -> list[str]:
    return [weight, *aliases.get(weight, [])]


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check(network: Network, patterns: Sequence[str], aliases: dict[str, list[str]]) -> None:
    known = [layer.name for layer in network.layers]
    known += [name for weight in network.weights() for name in _names(weight, aliases)]
    for pattern in patterns:
        if not isinstance(pattern, str) or not any(fnmatchcase(name, pattern) for name in known):
            raise ArgumentError(
                "no layer and no weight has this name",
                expected=", ".join(known[:60]) + (", …" if len(known) > 60 else ""),
                received=repr(pattern),
                hint=did_you_mean(str(pattern), known),
            )
