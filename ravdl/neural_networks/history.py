"""`History`: what a training run measures, fetched when it is read and remembered from then on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

import ravop as R
from ravdl.neural_networks.callbacks import Callback, Steering
from ravdl.neural_networks.loop import Trained
from ravdl.neural_networks.weights import Fetch
from ravop.errors import (
    ArgumentError,
    GraphCancelledError,
    GraphFailedError,
    NotComputedError,
    UnknownNameError,
)
from ravop.graph import Graph
from ravop.protocol.tensors import Array

TRAINING, VALIDATION = "training_", "val_"
RAN = "training_ran_epoch_{}"
"""Of a run that callbacks may stop: 1 for an epoch that was run, 0 for one after the end."""
UNFINISHED = (NotComputedError, GraphCancelledError, GraphFailedError)
"""What fetching a value raises that is not there, yet or for good."""


def prefix_in(graph: Graph) -> str:
    """What the names of the next run in this graph begin with: nothing, then `fit_2_`, and so on."""
    count, prefix = 1, ""
    while f"{prefix}{TRAINING}loss_epoch_{{}}" in graph.persisted:
        count += 1
        prefix = f"fit_{count}_"
    return prefix


def stored(key: str) -> str:
    """The persisted name of a measure: `loss` is `training_loss`, `val_loss` stays."""
    return key if key.startswith(VALIDATION) else TRAINING + key


def persist(graph: Graph, trained: Trained[Any], prefix: str) -> tuple[str, ...]:
    """Keep the run's measures under names that count epochs and batches from 1. → the measures' keys.

    Each batch's `training_loss_epoch_{}_batch_{}`, the means over an epoch's samples `training_loss_epoch_{}`
    and `val_loss_epoch_{}`; the same with a metric for `loss`.
    """
    for key, values in trained.batches.items():
        series = f"{prefix}{stored(key)}_epoch_{{}}_batch_"
        if trained.last:  # first, because the other series' pattern fits its names too
            trained.last[key].persist_each(f"{series}{values.static_shape[1] + 1}", first=(1,))
        values.persist_each(series + "{}", first=(1, 1))
    for key, values in trained.epochs.items():
        values.persist_each(f"{prefix}{stored(key)}_epoch_{{}}", first=(1,))
        graph.report(key, trained.batches.get(key, values))
    if trained.ran is not None:
        trained.ran.persist_each(f"{prefix}{RAN}", first=(1,))
    return tuple(trained.epochs)


class History:
    """The course of one `fit`: `history["loss"]`, `history["accuracy"]`, `history["val_loss"]`, … by epoch.

    Nothing is fetched before it is read. While the run goes on, and when it was cancelled or failed, reading
    gives the epochs computed so far.

    Attributes:
        epochs: of the run.
        batches: in one epoch, the smaller last one included.
        keys: what is measured.
        stopped_epoch: the last epoch of a run that a callback stopped, as far as that is read; else None.
    """

    may_stop: bool = False
    stopped_epoch: int | None = None

    def __init__(
        self,
        graph_id: str,
        prefix: str,
        keys: tuple[str, ...],
        epochs: int,
        full_batches: int,
        last_batch: bool,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.graph_id = graph_id
        self.keys = keys
        self.epochs = epochs
        self.batches = full_batches + last_batch
        self._prefix = prefix
        self._last_batch = last_batch
        self._callbacks = tuple(callbacks)
        self._logs: list[dict[str, float]] = []
        self._fetch: Fetch | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fetch": None, "_callbacks": ()}

    def __repr__(self) -> str:
        end = "" if self.stopped_epoch is None else f", stopped after epoch {self.stopped_epoch}"
        read = f"{len(self._logs)} of {self.epochs} epochs read{end}"
        return f"<History of graph {self.graph_id}: {', '.join(self.keys)}; {read}>"

    def read_from(self, fetch: Fetch) -> History:
        """Read from elsewhere than the coordinator, such as `ravop.run_local().__getitem__`. → itself."""
        self._fetch = fetch
        return self

    def __getitem__(self, key: str) -> Array:
        """A measure by epoch, float32, as far as it is computed.

        Raises `UnknownNameError`, and what fetching raises.
        """
        if key not in self.keys:
            raise UnknownNameError("this was not measured", expected=", ".join(self.keys), received=repr(key))
        self.update()
        return np.array([log[key] for log in self._logs], np.float32)

    @property
    def loss(self) -> Array:
        return self["loss"]

    @property
    def val_loss(self) -> Array:
        return self["val_loss"]

    @property
    def accuracy(self) -> Array:
        return self["accuracy"]

    @property
    def val_accuracy(self) -> Array:
        return self["val_accuracy"]

    def batch(self, epoch: int, batch: int, key: str = "loss") -> float:
        """One batch's measure; both counted from 1. Raises `ArgumentError`, `NotComputedError`."""
        if not (1 <= epoch <= self.epochs and 1 <= batch <= self.batches):
            raise ArgumentError(
                "there is no such batch",
                expected=f"epoch 1 to {self.epochs}, batch 1 to {self.batches}",
                received=f"{epoch}, {batch}",
            )
        if self.may_stop and not float(self._value(RAN.format(epoch))):
            raise ArgumentError(
                "training was stopped before this epoch", expected="an earlier epoch", received=epoch
            )
        return float(self._value(f"{stored(key)}_epoch_{epoch}_batch_{batch}"))

    def by_batch(self, key: str = "loss") -> Array:
        """A measure of every batch, (epochs, batches), until a callback stopped training. Raises `NotComputedError` until the
        run is done.
        """
        ran = int(self._value(RAN).sum()) if self.may_stop else self.epochs
        series = stored(key) + "_epoch_{}_batch_"
        full = self._value(series + "{}")[:ran]
        if not self._last_batch:
            return full
        return np.concatenate([full, self._value(f"{series}{self.batches}")[:ran, None]], axis=1)

    def update(self) -> int:
        """Read the epochs computed since the last time, and tell the callbacks. → how many are known now."""
        known = len(self._logs)
        if known < self.epochs and self.stopped_epoch is None:
            for epoch, log in enumerate(self._new(known), known + 1):
                self._logs.append(log)
                self._warn(epoch, log)
                for callback in self._callbacks:
                    callback.on_epoch_end(epoch, log)
            if len(self._logs) == self.epochs or self.stopped_epoch is not None:
                for callback in self._callbacks:
                    callback.on_train_end(self)
        return len(self._logs)

    def _new(self, known: int) -> list[dict[str, float]]:
        """All epochs after the first `known`: in one go when the run is done, else one by one."""
        try:
            ran = self._value(RAN) if self.may_stop else np.ones(self.epochs)
            columns = [self._value(stored(key) + "_epoch_{}")[known : int(ran.sum())] for key in self.keys]
            if not ran.all():
                self.stopped_epoch = int(ran.sum())
            return [dict(zip(self.keys, map(float, row), strict=True)) for row in zip(*columns, strict=True)]
        except UNFINISHED:
            pass
        found: list[dict[str, float]] = []
        try:
            for epoch in range(known + 1, self.epochs + 1):
                if self.may_stop and not float(self._value(RAN.format(epoch))):
                    self.stopped_epoch = epoch - 1
                    break
                found.append({key: float(self._value(f"{stored(key)}_epoch_{epoch}")) for key in self.keys})
        except UNFINISHED:
            pass
        return found

    def _warn(self, epoch: int, log: dict[str, float]) -> None:
        """Tell once that training went wrong."""
        if math.isfinite(log["loss"]) or not all(math.isfinite(each["loss"]) for each in self._logs[:-1]):
            return
        undone = any(isinstance(callback, Steering) and callback.undoes for callback in self._callbacks)
        end = (
            "training was stopped, with the state from before that epoch"
            if undone
            else "a smaller learning rate, clipping (global_clip_norm=1.0) or TerminateOnNaN() may help"
        )
        warnings.warn(f"the loss is {log['loss']} in epoch {epoch}: {end}", RuntimeWarning, stacklevel=4)

    def value(self, name: str) -> Array:
        """What the run persists as this name, after the prefix of its names. Raises what fetching raises."""
        return self._value(name)

    def _value(self, name: str) -> Array:
        fetch = self._fetch or coordinator(self.graph_id)
        return np.asarray(fetch(self._prefix + name))


def coordinator(graph_id: str) -> Fetch:
    """Fetching from the coordinator that `ravop.initialize` connected to."""
    return lambda name: R.fetch(name, graph=graph_id)
