"""`Heads`: what a model is asked for, one loss with its metrics for each output, as a script gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ravdl.neural_networks.layers.arguments import NUMBER
from ravdl.neural_networks.loss import Loss, made_loss
from ravdl.neural_networks.metrics import Metric, made_metrics
from ravdl.neural_networks.network import Network
from ravdl.neural_networks.training import Head
from ravop.errors import ArgumentError

Given = Any
"""One thing for all outputs, a list of one for each, or a dict by the outputs' names."""


class Heads:
    """The losses, metrics and loss weights of a model whose outputs may not be known yet."""

    def __init__(self, loss: Given, metrics: Given, weights: Given) -> None:
        self._loss = _mapped(loss, made_loss)
        self._metrics = metrics if metrics is None else _metrics(metrics)
        self._weights = weights

    def arguments(self) -> dict[str, Given]:
        """What makes equal heads, see `NeuralNetwork`."""
        return {"loss": self._loss, "metrics": self._metrics, "loss_weights": self._weights}

    @property
    def loss(self) -> Loss:
        """Of the first output."""
        found = self._loss
        while not isinstance(found, Loss):
            found = next(iter(found.values())) if isinstance(found, Mapping) else found[0]
        return found

    def of(self, network: Network | None) -> tuple[Head, ...]:
        """One head for each output of the network; None: one whose outputs are not known, which has one.

        Raises `ArgumentError` where there are not as many losses as outputs.
        """
        names = ("output",) if network is None else network.output_names
        losses = _spread(self._loss, names, "losses")
        weights = (
            [1.0] * len(names) if self._weights is None else _spread(self._weights, names, "loss_weights")
        )
        metrics: list[tuple[Metric, ...] | None] = [None] * len(names)
        if isinstance(self._metrics, Mapping):
            metrics = [self._metrics.get(name, ()) for name in names]
            _known(self._metrics, names, "metrics")
        elif self._metrics is not None:
            metrics = [self._metrics] * len(names)
        several = len(names) > 1
        return tuple(
            Head(
                loss,
                made_metrics(loss.metrics) if chosen is None else chosen,
                _weight(weight),
                f"{name}_" if several else "",
            )
            for name, loss, chosen, weight in zip(names, losses, metrics, weights, strict=True)
        )


def _mapped(given: Given, make: Any) -> Any:
    if isinstance(given, Mapping):
        return {name: make(each) for name, each in given.items()}
    if isinstance(given, list | tuple) and given:
        return [make(each) for each in given]
    return make(given)


def _metrics(given: Given) -> Any:
    if isinstance(given, Mapping):
        return {name: made_metrics(each) for name, each in given.items()}
    return made_metrics(given)


def _spread(given: Given, names: Sequence[str], what: str) -> list[Any]:
    """One for each name."""
    if isinstance(given, Mapping):
        _known(given, names, what)
        missing = [name for name in names if name not in given]
        if missing:
            raise ArgumentError(
                f"an output has none of the {what}", expected=", ".join(names), received=", ".join(given)
            )
        return [given[name] for name in names]
    if isinstance(given, list | tuple):
        if len(given) != len(names):
            raise ArgumentError(
                f"the model has {len(names)} outputs",
                expected=f"{what}: one for all, or one for each of {', '.join(names)}",
                received=len(given),
            )
        return list(given)
    return [given] * len(names)


def _known(given: Mapping[str, Any], names: Sequence[str], what: str) -> None:
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ArgumentError(
            f"{what} name an output that is not there", expected=", ".join(names), received=unknown[0]
        )


_LARGEST = float(np.finfo(np.float32).max)


def _weight(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, NUMBER) or not 0 <= value <= _LARGEST:
        raise ArgumentError(
            "a loss weight is out of range", expected="a finite number of at least 0", received=repr(value)
        )
    return float(value)
