"""Callbacks: how a script follows a training run.

A run may be computed elsewhere, long after `fit` returned, and by several machines at a time. So callbacks do
not run inside it: `on_train_begin` is called by `fit`, when the run is defined, and the others when its
results are read, that is, by whatever reads the `History` (`history["loss"]`, `history.update()`), each epoch
once and in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ravdl.neural_networks.history import History
    from ravdl.neural_networks.model import NeuralNetwork


class Callback:
    """Override what is of interest."""

    def on_train_begin(self, model: NeuralNetwork, history: History) -> None:
        """`fit` has defined the run; nothing is computed yet."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """The epoch, counted from 1, is computed and was read. `logs`: `loss`, `val_loss` and metrics, means
        over samples.
        """

    def on_train_end(self, history: History) -> None:
        """The last epoch was read."""
