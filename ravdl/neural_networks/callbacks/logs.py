"""Callbacks that tell: `CSVLogger` and `LambdaCallback`. They hear of an epoch when it is read."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from ravdl.neural_networks.callbacks.callback import Callback
from ravdl.neural_networks.layers.arguments import file_path, flag
from ravop.errors import ArgumentError

if TYPE_CHECKING:
    from ravdl.neural_networks.history import History
    from ravdl.neural_networks.model import NeuralNetwork


class CSVLogger(Callback):
    """A line for each epoch in a file: its number, and what was measured by name.

    Args:
        path: of the file, which is begun with the first epoch that is read.
        separator: between columns, one character.
        append: whether lines are added to a file that is there; its first line is taken to name the same columns.
    """

    def __init__(self, path: str | PathLike[str], separator: str = ",", append: bool = False) -> None:
        if not isinstance(separator, str) or len(separator) != 1:
            raise ArgumentError("separator is one character", expected="','", received=repr(separator))
        self.path = file_path(path)
        self.separator = separator
        self.append = flag(append, "append")
        self._begun = False

    def on_train_begin(self, model: NeuralNetwork, history: History) -> None:
        self._begun = self.append and self.path.exists() and self.path.stat().st_size > 0

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        mode = "a" if self._begun or self.append else "w"
        with self.path.open(mode, encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=self.separator, lineterminator="\n")
            if not self._begun:
                writer.writerow(["epoch", *logs])
            writer.writerow([epoch, *logs.values()])
        self._begun = True


class LambdaCallback(Callback):
    """A callback of functions, each called as the method of its name, see `Callback`."""

    def __init__(
        self,
        on_train_begin: Callable[[NeuralNetwork, History], Any] | None = None,
        on_epoch_end: Callable[[int, Mapping[str, float]], Any] | None = None,
        on_train_end: Callable[[History], Any] | None = None,
    ) -> None:
        for given in (on_train_begin, on_epoch_end, on_train_end):
            if given is not None and not callable(given):
                raise ArgumentError(
                    "this is no function", expected="functions, or None", received=repr(given)
                )
        self._begin, self._epoch, self._end = on_train_begin, on_epoch_end, on_train_end

    def on_train_begin(self, model: NeuralNetwork, history: History) -> None:
        if self._begin is not None:
            self._begin(model, history)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        if self._epoch is not None:
            self._epoch(epoch, logs)

    def on_train_end(self, history: History) -> None:
        if self._end is not None:
            self._end(history)
