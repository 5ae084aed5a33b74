"""Callbacks that move the learning rate: `ReduceLROnPlateau` and `LearningRateScheduler`. Each begins anew in each run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import ravop as R
from ravdl.neural_networks.callbacks.steering import (
    Monitored,
    Seen,
    Steering,
    Verdict,
    Weights,
    counter,
    dictionary,
)
from ravdl.neural_networks.callbacks.stopping import epochs
from ravdl.neural_networks.layers.arguments import above_zero, fraction, not_negative
from ravdl.neural_networks.optimizers.optimizer import Optimizer
from ravop.errors import ArgumentError
from ravop.graph import Op
from ravop.graph.tree import Tree


class ReduceLROnPlateau(Monitored):
    """Multiply the learning rate by `factor` when a measure has not become better for `patience` epochs, as Keras'
    ReduceLROnPlateau (`torch.optim.lr_scheduler.ReduceLROnPlateau`, whose patience is one less).

    Args:
        monitor: a key of the history.
        factor: from 0 to below 1.
        patience: epochs without anything better.
        min_delta: by how much a measure must be better to count as such.
        mode: `"min"`, `"max"`, or `"auto"`: by the name.
        cooldown: epochs after a reduction in which nothing is counted.
        min_rate: the learning rate is not taken below this; only where the optimizer's rate is a number.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        mode: str = "auto",
        cooldown: int = 0,
        min_rate: float = 0.0,
    ) -> None:
        super().__init__(monitor, min_delta, mode)
        self.factor = fraction(factor, "factor")
        self.patience = epochs(patience, "patience")
        self.cooldown = epochs(cooldown, "cooldown")
        self.min_rate = not_negative(min_rate, "min_rate")
        self._least = 0.0

    def prepare(self, optimizer: Optimizer, n_epochs: int) -> None:
        self._least = self.min_rate and self.min_rate / _plain(optimizer, "ReduceLROnPlateau(min_rate=…)")

    def begin(self, weights: Weights) -> Tree:
        factor = R.t(np.array(1, np.float32))
        return {"best": self.worst(), "wait": counter(), "cooling": counter(), "factor": factor}

    def rate(self, memory: Tree, epoch: Op) -> Op | None:
        factor: Op = dictionary(memory)["factor"]
        return factor

    def after(self, memory: Tree, seen: Seen) -> Verdict:
        known, value = dictionary(memory), self.value(seen)
        better = self.better(value, known["best"])
        cooling = R.maximum(known["cooling"] - 1, 0)
        resting = R.logical_or(known["cooling"] > 0, better)
        wait = R.where(resting, 0, known["wait"])
        wait = wait + R.astype(R.logical_not(R.logical_or(cooling > 0, better)), np.int64)
        reduce = R.logical_and(wait >= max(self.patience, 1), R.logical_not(better))
        lower = R.minimum(known["factor"], R.maximum(known["factor"] * self.factor, self._least))
        return Verdict(
            {
                "best": R.where(better, value, known["best"]),
                "wait": R.where(reduce, 0, wait),
                "cooling": R.where(reduce, self.cooldown, cooling),
                "factor": R.where(reduce, lower, known["factor"]),
            }
        )


class LearningRateScheduler(Steering):
    """Another learning rate in each epoch.

    Args:
        schedule: from an epoch, counted from 1, to its learning rate, above 0; called for all epochs when `fit` is. For a
            rate that changes from step to step see `schedules`.
    """

    def __init__(self, schedule: Callable[[int], float]) -> None:
        if not callable(schedule):
            raise ArgumentError(
                "this is no schedule", expected="a function of the epoch", received=repr(schedule)
            )
        self.schedule = schedule
        self._table = np.ones(1, np.float32)

    def prepare(self, optimizer: Optimizer, n_epochs: int) -> None:
        base = _plain(optimizer, "LearningRateScheduler")
        rates = [above_zero(self.schedule(epoch), "a learning rate") for epoch in range(1, n_epochs + 1)]
        self._table = np.array([rate / base for rate in rates], np.float32)

    def rate(self, memory: Tree, epoch: Op) -> Op | None:
        return R.gather(R.t(self._table), epoch - 1)


def _plain(optimizer: Optimizer, who: str) -> float:
    """The optimizer's learning rate. Raises `ArgumentError` where it is a schedule."""
    if callable(optimizer.learning_rate):
        raise ArgumentError(
            f"{who} needs an optimizer whose learning rate is a number",
            expected="learning_rate=0.001",
            received=repr(optimizer.learning_rate),
        )
    return optimizer.learning_rate
