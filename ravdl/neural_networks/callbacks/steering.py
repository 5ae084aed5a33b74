"""`Steering`: callbacks that are part of the run. What they remember is carried from epoch to epoch, their decisions are ops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

import ravop as R
from ravdl.neural_networks.callbacks.callback import Callback
from ravdl.neural_networks.layers.arguments import not_negative
from ravdl.neural_networks.optimizers.optimizer import Optimizer
from ravop.errors import ArgumentError
from ravop.graph import Op
from ravop.graph.tree import Tree

Weights = dict[str, Op]


class Seen(NamedTuple):
    """An epoch that was computed, as ops."""

    epoch: Op
    """int64 scalar, 1 for the run's first."""
    logs: Mapping[str, Op]
    """What was measured, float32 scalars: `loss`, `val_loss`, …"""
    weights: Weights
    """Those that training moves, after the epoch."""


class Verdict(NamedTuple):
    """What a callback makes of an epoch."""

    memory: Tree
    stop: Op | None = None
    """Whether to stop, a boolean scalar."""
    undo: Op | None = None
    """Whether to go back to the state before the epoch."""


class Steering(Callback):
    """Base of callbacks that are traced into the run. Override what is of interest."""

    stops: ClassVar[bool] = False
    """Whether its verdicts tell when to stop."""
    undoes: ClassVar[bool] = False
    """Whether they tell when to go back."""
    place: str = ""
    """What the persisted names of `kept` begin with; `fit` says it."""

    def prepare(self, optimizer: Optimizer, n_epochs: int) -> None:
        """`fit` is called. Raises `ArgumentError` where this does not suit the run."""

    def begin(self, weights: Weights) -> Tree:
        """What is remembered before the first epoch: a tree of ops, whose form, shapes and dtypes stay."""
        return None

    def rate(self, memory: Tree, epoch: Op) -> Op | None:
        """What the learning rate is multiplied by in this epoch (int64 scalar, from 1): a float32 scalar."""
        return None

    def after(self, memory: Tree, seen: Seen) -> Verdict:
        """The verdict on an epoch."""
        return Verdict(memory)

    def final(self, memory: Tree, weights: Weights) -> Weights:
        """The weights that the model has after the run."""
        return weights

    def kept(self, memory: Tree, weights: Weights) -> Weights:
        """What is persisted beside: ops by name. `weights`: all of the model's, as `final` left them."""
        return {}


RISING = ("accuracy", "auc", "precision", "recall", "f1", "r2", "iou", "similarity", "correlation")
"""Parts of the names of measures of which more is better."""
MODES = ("auto", "min", "max")


class Monitored(Steering):
    """Base of those that follow a measure, and remember the best one.

    Args:
        monitor: `"val_loss"`, `"loss"`, `"val_accuracy"`, …: a key of the history.
        min_delta: by how much a measure must be better to count as such.
        mode: `"min"`, `"max"`, or `"auto"`: by the name.
    """

    def __init__(self, monitor: str, min_delta: float, mode: str) -> None:
        if mode not in MODES:
            raise ArgumentError("unknown mode", expected=", ".join(MODES), received=repr(mode))
        self.monitor = str(monitor)
        self.min_delta = not_negative(min_delta, "min_delta")
        rising = mode == "max" or (mode == "auto" and any(word in self.monitor for word in RISING))
        self._sign = -1.0 if rising else 1.0

    def worst(self) -> Op:
        """What everything is better than."""
        return R.t(np.array(self._sign * np.inf, np.float32))

    def value(self, seen: Seen) -> Op:
        """The measure. Raises `ArgumentError` where there is no such one."""
        if self.monitor not in seen.logs:
            missing = self.monitor.startswith("val_") and not any(key.startswith("val_") for key in seen.logs)
            raise ArgumentError(
                f"{type(self).__name__} monitors what is not measured",
                expected=", ".join(seen.logs),
                received=self.monitor,
                hint="give fit validation_data" if missing else "",
            )
        return seen.logs[self.monitor]

    def better(self, value: Op, best: Op) -> Op:
        """Whether a measure is better than the best so far; NaN never is."""
        gain = self._sign * self.min_delta
        return R.less(value, best - gain) if self._sign > 0 else R.greater(value, best - gain)


def chosen(which: Op, yes: Mapping[str, Op], no: Mapping[str, Op]) -> Weights:
    """Those of the one or of the other."""
    return {name: R.where(which, yes[name], no[name]) for name in yes}


def counter() -> Op:
    return R.t(np.array(0, np.int64))


def dictionary(memory: Tree) -> dict[str, Any]:
    """A memory that is a dict."""
    assert isinstance(memory, dict)
    return memory
