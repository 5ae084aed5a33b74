"""`ModelCheckpoint`: the weights of the best epoch, kept by the run and written to a file when they are read."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

import ravop as R
from ravdl.neural_networks.callbacks.steering import Monitored, Seen, Verdict, Weights, chosen, dictionary
from ravdl.neural_networks.layers.arguments import file_path, flag
from ravop.graph.tree import Tree

if TYPE_CHECKING:
    from ravdl.neural_networks.history import History
    from ravdl.neural_networks.model import NeuralNetwork


class ModelCheckpoint(Monitored):
    """Write the model with the weights of its best epoch, or of the last, as `load_model` reads it.

    The weights are kept at the coordinator; the file is written by whoever reads the run's last epoch from its history. The
    optimizer's memory is not in it.

    Args:
        path: of the file.
        monitor: a key of the history.
        save_best_only: whether the best epoch is written, else the last.
        min_delta, mode: see `EarlyStopping`.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = True,
        mode: str = "auto",
        min_delta: float = 0.0,
    ) -> None:
        super().__init__(monitor, min_delta, mode)
        self.path = file_path(path)
        self.save_best_only = flag(save_best_only, "save_best_only")
        self._model: NeuralNetwork | None = None

    def begin(self, weights: Weights) -> Tree:
        return {"best": self.worst(), "weights": dict(weights)} if self.save_best_only else None

    def after(self, memory: Tree, seen: Seen) -> Verdict:
        if not self.save_best_only:
            return Verdict(memory)
        known, value = dictionary(memory), self.value(seen)
        better = self.better(value, known["best"])
        best = R.where(better, value, known["best"])
        return Verdict({"best": best, "weights": chosen(better, seen.weights, known["weights"])})

    def kept(self, memory: Tree, weights: Weights) -> Weights:
        return {**weights, **dictionary(memory)["weights"]} if self.save_best_only else weights

    def on_train_begin(self, model: NeuralNetwork, history: History) -> None:
        self._model = model

    def on_train_end(self, history: History) -> None:
        assert self._model is not None
        names = self._model.weight_names
        self._model.write(self.path, {name: history.value(self.place + name) for name in names})
