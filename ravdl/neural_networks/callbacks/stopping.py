"""Callbacks that end a run: `EarlyStopping` and `TerminateOnNaN`.

The number of epochs of a graph is fixed, so those after the end are still there, but nothing is computed in them: with
`Sequential()` their steps are left out; with other strategies, whose branches go to several machines, they are computed and
dropped.
"""

from __future__ import annotations

import ravop as R
from ravdl.neural_networks.callbacks.steering import (
    Monitored,
    Seen,
    Steering,
    Verdict,
    Weights,
    chosen,
    counter,
    dictionary,
)
from ravdl.neural_networks.layers.arguments import flag
from ravdl.neural_networks.means import added
from ravop.errors import ArgumentError
from ravop.graph import Op
from ravop.graph.dtypes import is_float
from ravop.graph.tree import Tree


class EarlyStopping(Monitored):
    """Stop when a measure has not become better for `patience` epochs, as Keras' EarlyStopping. `History` then shows the
    epochs until there.

    Args:
        monitor: a key of the history.
        min_delta: by how much a measure must be better to count as such.
        patience: epochs without anything better after which training stops, at least 0.
        mode: `"min"`, `"max"`, or `"auto"`: by the name.
        restore_best_weights: whether the model has the weights of the best epoch in the end, else those of the last.
    """

    stops = True

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        restore_best_weights: bool = False,
    ) -> None:
        super().__init__(monitor, min_delta, mode)
        self.patience = epochs(patience, "patience")
        self.restore_best_weights = flag(restore_best_weights, "restore_best_weights")

    def begin(self, weights: Weights) -> Tree:
        found = {"best": self.worst(), "wait": counter()}
        return {**found, "weights": dict(weights)} if self.restore_best_weights else found

    def after(self, memory: Tree, seen: Seen) -> Verdict:
        known, value = dictionary(memory), self.value(seen)
        better = self.better(value, known["best"])
        wait = R.where(better, 0, known["wait"] + 1)
        tired = R.logical_and(wait >= self.patience, seen.epoch > 1)
        after: dict[str, Tree] = {"best": R.where(better, value, known["best"]), "wait": wait}
        if self.restore_best_weights:
            first = R.logical_or(better, R.equal(seen.epoch, 1))
            after["weights"] = chosen(first, seen.weights, known["weights"])
        return Verdict(after, R.logical_and(tired, R.logical_not(better)))

    def final(self, memory: Tree, weights: Weights) -> Weights:
        return {**weights, **dictionary(memory)["weights"]} if self.restore_best_weights else weights


class TerminateOnNaN(Steering):
    """Stop after an epoch whose loss, or whose weights, are not finite, and go back to the state before that epoch, the
    optimizer's memory included. That epoch is the last of the history.
    """

    stops = True
    undoes = True

    def after(self, memory: Tree, seen: Seen) -> Verdict:
        # 0 times anything that is not finite is NaN.
        floats = [value for value in seen.weights.values() if is_float(value.dtype)]
        sound = R.isfinite(added([seen.logs["loss"] * 0.0, *(R.sum(value * 0.0) for value in floats)]))
        broken: Op = R.logical_not(sound)
        return Verdict(memory, stop=broken, undo=broken)


def epochs(value: object, what: str) -> int:
    """A number of epochs, 0 included. Raises `ArgumentError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ArgumentError(f"{what} is out of range", expected="integers from 0 on", received=repr(value))
    return value
