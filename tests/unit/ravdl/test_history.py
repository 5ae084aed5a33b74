"""`History` fetches what it is asked for, when it is asked, and tells callbacks about each epoch once."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.callbacks import Callback
from ravdl.neural_networks.history import History
from ravdl.neural_networks.layers import Activation, Dense
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam
from ravop.errors import (
    ArgumentError,
    GraphCancelledError,
    GraphFailedError,
    GraphStateError,
    NotComputedError,
    RavenError,
    UnknownNameError,
)


class Log(Callback):
    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_train_begin(self, model: NeuralNetwork, history: History) -> None:
        self.events.append("begin")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        self.events.append((epoch, dict(logs)))

    def on_train_end(self, history: History) -> None:
        self.events.append("end")


class Running:
    """A run of which so many epochs are computed."""

    def __init__(self, results: Mapping[str, np.ndarray], epochs: int) -> None:
        self.results, self.done, self.epochs = results, 0, epochs
        self.asked: list[str] = []
        self.missing: type[RavenError] = NotComputedError

    def __call__(self, name: str) -> np.ndarray:
        self.asked.append(name)
        number = (
            name.removeprefix("training_loss_epoch_").removeprefix("training_accuracy_epoch_").split("_")[0]
        )
        if (self.epochs if number == "{}" else int(number)) > self.done:
            raise self.missing("not there", received=name)
        return self.results[name]


@pytest.fixture
def run(graph: R.Graph, rng: np.random.Generator) -> tuple[History, Running, Log]:
    log = Log()
    model = NeuralNetwork(Adam(), CrossEntropy)
    model.add(Dense(3, input_shape=(4,)))
    model.add(Activation("softmax"))
    x = rng.standard_normal((22, 4))
    history = model.fit(x, rng.integers(0, 3, 22), 4, 5, callbacks=[log])
    running = Running(R.run_local(), 4)
    return history.read_from(running), running, log


def test_nothing_is_fetched_before_it_is_read(run: tuple[History, Running, Log]) -> None:
    history, running, log = run
    assert (history.epochs, history.batches, history.keys) == (4, 5, ("loss", "accuracy"))
    assert running.asked == []
    assert log.events == ["begin"]


def test_reading_gives_the_epochs_so_far_and_tells_callbacks_once(run: tuple[History, Running, Log]) -> None:
    history, running, log = run
    assert history.loss.shape == (0,)
    running.done = 2
    expected = [running.results[f"training_loss_epoch_{e}"] for e in (1, 2, 3, 4)]
    np.testing.assert_array_equal(history["loss"], expected[:2])
    assert [event[0] for event in log.events[1:]] == [1, 2]
    running.done = 4
    assert history.update() == 4
    running.asked.clear()
    np.testing.assert_array_equal(history["loss"], expected)
    np.testing.assert_array_equal(
        history.accuracy, [running.results[f"training_accuracy_epoch_{e}"] for e in (1, 2, 3, 4)]
    )
    assert running.asked == []  # known already
    assert [event[0] for event in log.events[1:-1]] == [1, 2, 3, 4]
    assert log.events[-1] == "end"
    assert log.events[2][1] == {
        key: pytest.approx(float(running.results[f"training_{key}_epoch_2"])) for key in ("loss", "accuracy")
    }


def test_a_run_that_was_not_activated_says_so(graph: R.Graph, rng: np.random.Generator) -> None:
    model = NeuralNetwork(Adam(), CrossEntropy)
    model.add(Dense(3, input_shape=(4,)))
    history = model.fit(rng.standard_normal((6, 4)), rng.integers(0, 3, 6), 1, 3)
    with pytest.raises(GraphStateError, match=r"not activated(?s:.*)call ravop\.activate"):
        _ = history["loss"]


@pytest.mark.parametrize("end", [GraphCancelledError, GraphFailedError])
def test_of_a_run_that_ended_early_the_epochs_computed_are_read(
    run: tuple[History, Running, Log], end: type[RavenError]
) -> None:
    history, running, log = run
    running.done, running.missing = 3, end
    assert history.loss.shape == (3,)
    assert history.batch(3, 1) == running.results["training_loss_epoch_3_batch_1"]
    assert log.events[-1] != "end"
    with pytest.raises(end):
        history.batch(4, 1)


def test_a_history_shows_what_it_measures(run: tuple[History, Running, Log]) -> None:
    history, running, _ = run
    running.done = 2
    history.update()
    assert repr(history).endswith(": loss, accuracy; 2 of 4 epochs read>")


def test_a_finished_run_is_read_in_one_go(run: tuple[History, Running, Log]) -> None:
    history, running, _ = run
    running.done = 4
    assert history.loss.shape == (4,)
    assert running.asked == ["training_loss_epoch_{}", "training_accuracy_epoch_{}"]


def test_batches_are_read_by_number(run: tuple[History, Running, Log]) -> None:
    history, running, _ = run
    running.done = 3
    assert history.batch(2, 5) == running.results["training_loss_epoch_2_batch_5"]
    with pytest.raises(NotComputedError):
        history.batch(4, 1)
    for wrong in ((0, 1), (5, 1), (1, 0), (1, 6)):
        with pytest.raises(ArgumentError, match="batch 1 to 5"):
            history.batch(*wrong)
    with pytest.raises(NotComputedError):
        history.by_batch()
    running.done = 4
    assert history.by_batch().shape == (4, 5)
    assert history.by_batch()[1, 4] == history.batch(2, 5)


def test_what_was_not_measured_is_named(run: tuple[History, Running, Log]) -> None:
    with pytest.raises(UnknownNameError, match="loss, accuracy"):
        run[0].val_loss


def test_a_pickled_history_reads_from_the_coordinator(
    run: tuple[History, Running, Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    history, running, _ = run
    back = pickle.loads(pickle.dumps(history))
    running.done = 4
    graphs = set()

    def fetch(name: str, graph: str) -> np.ndarray:
        graphs.add(graph)
        return running(name)

    monkeypatch.setattr(R, "fetch", fetch)
    np.testing.assert_array_equal(back.loss, history.loss)
    assert graphs == {history.graph_id}
