"""One training step, and one measurement, as functions of values: no loop, no data set, no names.

What surrounds the step (`ravdl.neural_networks.loop`, or another way of spreading it) gives it a `State` and
a `Batch` and gets the next state and what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import ravop as R
from ravdl.neural_networks.data import Batch
from ravdl.neural_networks.forward import Prediction, predict, predict_in_training
from ravdl.neural_networks.layers import Layer, Moment
from ravdl.neural_networks.loss_functions import Loss
from ravdl.neural_networks.metrics import METRICS
from ravdl.neural_networks.optimizers import Optimizer
from ravop.errors import ArgumentError
from ravop.graph import Op


class State(NamedTuple):
    """All that training changes; a tree that a scan can carry."""

    weights: dict[str, Op]
    """By their names in the model: those that training moves, running statistics among them."""
    slots: dict[str, tuple[Op, ...]]
    """The optimizer's, by trained weight."""
    step: Op
    """int64 scalar: steps done so far."""


Measures = dict[str, Op]
"""`loss` and the metrics by name; float32 scalars."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: everything about a step that is not a tensor."""

    layers: tuple[Layer, ...]
    loss: Loss
    optimizer: Optimizer
    metrics: tuple[str, ...]
    seed: int

    def step(self, state: State, frozen: dict[str, Op], batch: Batch) -> tuple[State, Measures]:
        """One step of gradient descent. `frozen`: the weights that are not in the state."""
        moment = Moment(self.seed, state.step)
        weights = state.weights | frozen
        prediction, moved = predict_in_training(self.layers, weights, batch.x, moment)
        loss = self.loss.call(prediction, batch.y)
        names = list(state.slots)
        gradients = dict(zip(names, R.grad(loss, [state.weights[name] for name in names]), strict=True))
        step = state.step + 1
        with step.graph.label("optimizer"):
            trained, slots = self._descend(state, gradients, step)
        return State(state.weights | moved | trained, slots, step), self._measures(prediction, batch.y, loss)

    def _descend(
        self, state: State, gradients: dict[str, Op], step: Op
    ) -> tuple[dict[str, Op], dict[str, tuple[Op, ...]]]:
        factors = self.optimizer.factors(step)
        weights: dict[str, Op] = {}
        slots: dict[str, tuple[Op, ...]] = {}
        for name, gradient in gradients.items():
            change, slots[name] = self.optimizer.change(gradient, state.slots[name], factors)
            weights[name] = state.weights[name] - change
        return weights, slots

    def measure(self, weights: dict[str, Op], batch: Batch) -> Measures:
        """Loss and metrics in inference mode."""
        prediction = predict(self.layers, weights, batch.x)
        return self._measures(prediction, batch.y, self.loss.call(prediction, batch.y))

    def _measures(self, prediction: Prediction, y: Op, loss: Op) -> Measures:
        return {"loss": loss} | {name: METRICS[name](prediction, y) for name in self.metrics}


def moving(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Names of the weights that training moves. Raises `ArgumentError` when there are none."""
    names = tuple(layer.weight_name(spec) for layer in layers if layer.trainable for spec in layer.weights())
    if not any(trained(layers)):
        raise ArgumentError(
            "there is nothing to train",
            expected="at least one trainable layer with weights",
            received="a model without weights"
            if not any(layer.weights() for layer in layers)
            else "a frozen model",
            hint="call set_trainable(True), or add a layer such as Dense",
        )
    return names


def trained(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Names of the weights that the optimizer moves."""
    return tuple(
        layer.weight_name(spec)
        for layer in layers
        if layer.trainable
        for spec in layer.weights()
        if spec.trainable
    )
