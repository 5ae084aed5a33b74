"""One training step, and one measurement, as functions of values: no loop, no data set, no names.

What surrounds the step (`ravdl.neural_networks.loop`, or another way of spreading it) gives it a `State` and
a `Batch` and gets the next state and what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import ravop as R
from ravdl.neural_networks.data import Batch
from ravdl.neural_networks.descent import descended
from ravdl.neural_networks.forward import Predictions, predict, predict_in_training
from ravdl.neural_networks.layers import Layer, Moment
from ravdl.neural_networks.loss import Loss
from ravdl.neural_networks.means import added
from ravdl.neural_networks.metrics import Metric
from ravdl.neural_networks.network import Network
from ravdl.neural_networks.optimizers import Optimizer
from ravdl.neural_networks.packing import Pack
from ravop.errors import ArgumentError
from ravop.graph import Op


class State(NamedTuple):
    """All that training changes; a tree that a scan can carry."""

    weights: dict[str, Op]
    """By their names in the model: those that training moves, running statistics among them."""
    slots: dict[str, tuple[Op, ...]]
    """The optimizer's, by the key of the pack of weights."""
    step: Op
    """int64 scalar: steps done so far."""
    rate: Op | None = None
    """What the learning rate is multiplied by, float32 scalar; None where no callback moves it. Begins anew in each run."""


STEP = "training_step"

Measures = dict[str, Op]
"""`loss` and the metrics by name; float32 scalars."""


@dataclass(frozen=True)
class Head:
    """What is asked of one output of a model."""

    loss: Loss
    metrics: tuple[Metric, ...] = ()
    weight: float = 1.0
    """Of its loss in the sum."""
    prefix: str = ""
    """What the names of its measures begin with; empty where there is one output."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: everything about a step that is not a tensor."""

    network: Network
    heads: tuple[Head, ...]
    """One for each output."""
    optimizer: Optimizer
    seed: int
    packs: tuple[Pack, ...]
    """Of all trained weights."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.network.layers

    def state(self, weights: dict[str, Op], known: Callable[[str], Op | None]) -> State:
        """The state before the next step; `known` gives what `tensors` gave, by name, as far as there is any."""
        if not self.packs:
            raise ArgumentError(
                "there is nothing to train",
                expected="at least one trainable layer with weights",
                received=", ".join(layer.name for layer in self.layers),
                hint="call set_trainable(True), or add a layer such as Dense",
            )
        slots = {
            pack.key: tuple(self.packed(pack, slot, known, scale) for slot, scale in self.optimizer.kept)
            for pack in self.packs
        }
        step = known(STEP)
        return State(weights, slots, R.t(np.array(0, np.int64)) if step is None else step)

    def packed(
        self, pack: Pack, what: str, known: Callable[[str], Op | None], scale: float | None = None
    ) -> Op:
        """What is remembered as `what` of each weight of the pack, divided by `scale`; zeros where nothing is known."""
        found = {name: known(f"{name}_{what}") for name in pack.shapes}
        if all(op is None for op in found.values()):
            return R.zeros(pack.shape)
        tensors = {name: R.zeros(pack.shapes[name]) if op is None else op for name, op in found.items()}
        joined = pack.join(tensors)
        return joined if scale is None else joined * (1 / scale)

    def tensors(self, state: State) -> dict[str, Op]:
        """The whole state by flat names: weights, what the optimizer remembers (`Dense_1_W_m`), the step."""
        found = state.weights | {STEP: state.step}
        for pack in self.packs:
            for (slot, scale), values in zip(self.optimizer.kept, state.slots[pack.key], strict=True):
                found |= {f"{name}_{slot}": value for name, value in pack.part(values * scale).items()}
        return found

    def step(
        self, state: State, frozen: dict[str, Op], batch: Batch, moment: Moment | None = None
    ) -> tuple[State, Measures]:
        """One step of gradient descent.

        `frozen`: the weights that are not in the state. `moment`: what is drawn from, where that is not told by the
        state's step alone.
        """
        weights = state.weights | frozen
        predictions, moved = predict_in_training(
            self.network, weights, batch.x, moment or Moment(self.seed, state.step)
        )
        losses = self.losses(predictions, batch)
        loss = self.total(losses, weights)
        names = self.trained
        gradients = dict(zip(names, R.grad(loss, [state.weights[name] for name in names]), strict=True))
        after = self.descend(state, moved, lambda pack: pack.join(gradients))
        return after, self.measures(predictions, batch, losses, loss)

    def losses(self, predictions: Predictions, batch: Batch) -> list[Op]:
        """The loss of each output."""
        return [
            head.loss.weighted(prediction, y, *batch.weight)
            if batch.weight
            else head.loss.call(prediction, y)
            for head, prediction, y in zip(self.heads, predictions, batch.y, strict=True)
        ]

    def total(self, losses: Sequence[Op], weights: Mapping[str, Op]) -> Op:
        """What is descended: the losses by their weights, and what regularizers add for these weights."""
        return self.penalized(self.summed(losses), weights)

    def summed(self, losses: Sequence[Op]) -> Op:
        """The losses of all outputs by their weights."""
        parts = zip(self.heads, losses, strict=True)
        return added([loss if head.weight == 1 else loss * head.weight for head, loss in parts])

    def penalized(self, loss: Op, weights: Mapping[str, Op]) -> Op:
        """The loss and what regularizers add for these weights."""
        for name, spec in self.network.penalized().items():
            assert spec.regularizer is not None
            loss = loss + spec.regularizer(weights[name])
        return loss

    @property
    def trained(self) -> list[str]:
        """Names of the weights that the optimizer moves."""
        return [name for pack in self.packs for name in pack.shapes]

    def descend(self, state: State, moved: dict[str, Op], gradient: Callable[[Pack], Op]) -> State:
        """The state after a step: `gradient` gives that of each pack of weights, `moved` are new values of weights
        that layers move themselves.
        """
        step = state.step + 1
        with step.graph.label("optimizer"):
            gradients = {pack.key: gradient(pack) for pack in self.packs}
            weights, slots = descended(
                self.optimizer, self.packs, gradients, state.weights, state.slots, step, state.rate
            )
        return State(state.weights | moved | weights, slots, step, state.rate)

    def measure(self, weights: dict[str, Op], batch: Batch) -> Measures:
        """Loss and metrics in inference mode."""
        predictions = predict(self.network, weights, batch.x)
        losses = self.losses(predictions, batch)
        return self.measures(predictions, batch, losses, self.total(losses, weights))

    @property
    def measured(self) -> list[str]:
        """The names of what is measured: the loss; of several outputs each one's own; the metrics."""
        own = [f"{head.prefix}loss" for head in self.heads] if len(self.heads) > 1 else []
        return ["loss", *own, *(head.prefix + metric.name for head in self.heads for metric in head.metrics)]

    def measures(self, predictions: Predictions, batch: Batch, losses: Sequence[Op], total: Op) -> Measures:
        """The loss and what is measured beside it, see `measured`."""
        own = losses if len(self.heads) > 1 else ()
        metrics = [
            metric.call(prediction, y)
            for head, prediction, y in zip(self.heads, predictions, batch.y, strict=True)
            for metric in head.metrics
        ]
        return dict(zip(self.measured, [total, *own, *metrics], strict=True))
