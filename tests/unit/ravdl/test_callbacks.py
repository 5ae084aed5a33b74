"""What callbacks make of a run is what a training loop around PyTorch makes of it that decides after each epoch."""

from __future__ import annotations

import copy
import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ravop as R
from ravdl.neural_networks import NeuralNetwork, load_model
from ravdl.neural_networks import callbacks as C
from ravdl.neural_networks.history import History
from ravdl.neural_networks.layers import Activation, Dense
from ravdl.neural_networks.loss_functions import SquareLoss
from ravdl.neural_networks.optimizers import SGD, Adam
from ravdl.neural_networks.schedules import ExponentialDecay
from ravdl.strategies import Average, DataParallel, LocalSGD, Sequential, Strategy
from ravop.errors import ArgumentError, NotComputedError

EPOCHS, BATCH, RATE = 14, 8, 0.05
STRATEGIES: dict[str, Strategy] = {
    "sequential": Sequential(),
    "shards": DataParallel(2),
    "one worker": LocalSGD(1, sync_every=2, outer=Average()),
}


def data(seed: int = 3, samples: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, 4)).astype(np.float32)
    return x, (np.sin(x[:, :2] * 3) + rng.standard_normal((samples, 2))).astype(np.float32)


HELD_OUT = data(8, 12)


def model(optimizer: Any = None) -> NeuralNetwork:
    made = NeuralNetwork(optimizer or SGD(RATE), SquareLoss, seed=5, metrics=[])
    for layer in (Dense(16, input_shape=(4,)), Activation("tanh"), Dense(2)):
        made.add(layer)
    return made


def run(
    made: NeuralNetwork, callbacks: list[C.Callback], **options: Any
) -> tuple[History, Callable[[str], np.ndarray]]:
    R.Graph(name="run")
    given = {
        "n_epochs": EPOCHS,
        "batch_size": BATCH,
        "save_model": True,
        "validation_data": HELD_OUT,
        **options,
    }
    history = made.fit(*data(), callbacks=callbacks, **given)
    fetch = R.run_local().__getitem__
    return history.read_from(fetch), fetch


Judge = Callable[[int, nn.Sequential, torch.optim.Optimizer, float], bool]


def by_pytorch(
    twin: nn.Sequential, judge: Judge, rate: float = RATE
) -> tuple[list[float], list[float], list[float]]:
    """Losses, validation losses and learning rates by epoch, until the judge says to stop."""
    optimizer = torch.optim.SGD(twin.parameters(), rate)
    x, y = map(torch.tensor, data())
    held_x, held_y = map(torch.tensor, HELD_OUT)
    losses, held, rates = [], [], []
    for epoch in range(1, EPOCHS + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        total = 0.0
        for at in range(0, len(x), BATCH):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(twin(x[at : at + BATCH]), y[at : at + BATCH])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x[at : at + BATCH])
        losses.append(total / len(x))
        with torch.no_grad():
            held.append(nn.functional.mse_loss(twin(held_x), held_y).item())
        if judge(epoch, twin, optimizer, held[-1]):
            break
    return losses, held, rates


def arrays(twin: nn.Sequential) -> list[np.ndarray]:
    return [p.detach().numpy().T if p.ndim == 2 else p.detach().numpy() for p in twin.parameters()]


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-5)


class Patience:
    """Early stopping as a loop has it."""

    def __init__(self, patience: int) -> None:
        self.patience, self.best, self.wait = patience, math.inf, 0
        self.weights: nn.Sequential | None = None

    def __call__(self, epoch: int, twin: nn.Sequential, optimizer: Any, value: float) -> bool:
        if value < self.best:
            self.best, self.wait, self.weights = value, 0, copy.deepcopy(twin)
        else:
            self.wait += 1
        return self.wait >= self.patience


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_training_stops_early_as_a_loop_around_pytorch(
    strategy: str, torch_twin: Callable[..., nn.Sequential], tmp_path: Path
) -> None:
    made, plain = model(), model()
    twin = torch_twin(made, 3)
    judge = Patience(3)
    losses, held, _ = by_pytorch(twin, judge)
    assert 4 < len(losses) < EPOCHS  # so there is something to see
    told: list[Any] = []
    callbacks = [
        C.EarlyStopping(patience=3, restore_best_weights=True),
        C.ModelCheckpoint(tmp_path / "best.raven"),
        C.ModelCheckpoint(tmp_path / "last.raven", save_best_only=False),
        C.CSVLogger(tmp_path / "log.csv"),
        C.LambdaCallback(
            on_train_begin=lambda network, history: told.append(network),
            on_epoch_end=lambda epoch, logs: told.append(epoch),
            on_train_end=lambda history: told.append("end"),
        ),
    ]
    history, fetch = run(made, callbacks, strategy=STRATEGIES[strategy])
    np.testing.assert_allclose(history.loss, losses, rtol=1e-4)
    np.testing.assert_allclose(history.val_loss, held, rtol=1e-4)
    raw = fetch(
        "val_loss_epoch_{}"
    )  # epochs left out repeat the last: NaN would look like a training gone wrong
    np.testing.assert_array_equal(raw[len(losses) :], raw[len(losses) - 1])
    assert history.stopped_epoch == len(losses)
    assert f"stopped after epoch {len(losses)}" in repr(history)
    assert history.by_batch().shape == (len(losses), 3)
    assert np.isfinite(history.batch(len(losses), 3))
    with pytest.raises(ArgumentError, match="stopped before this epoch"):
        history.batch(len(losses) + 1, 1)
    assert told == [made, *range(1, len(losses) + 1), "end"]
    assert judge.weights is not None
    same(made.fetch_weights(fetch), arrays(judge.weights))
    same(load_model(tmp_path / "best.raven").get_weights(), arrays(judge.weights))
    same(load_model(tmp_path / "last.raven").get_weights(), made.get_weights())
    rows = list(csv.reader((tmp_path / "log.csv").read_text().splitlines()))
    assert rows[0] == ["epoch", "loss", "val_loss"]
    np.testing.assert_allclose(np.array(rows[1:], float)[:, 1], losses, rtol=1e-4)

    if strategy == "sequential":
        _, fetch = run(plain, [C.EarlyStopping(patience=3)])
        same(plain.fetch_weights(fetch), arrays(twin))


def test_a_stopped_run_is_read_epoch_by_epoch_too(torch_twin: Callable[..., nn.Sequential]) -> None:
    made = model()
    history, fetch = run(made, [C.EarlyStopping(patience=3)])
    history.update()
    ended, known = history.stopped_epoch, 2
    assert ended is not None
    again = History("none", "", ("loss", "val_loss"), EPOCHS, 2, True)
    again.may_stop = True

    def so_far(name: str) -> np.ndarray:
        found = name.split("_")[-1]
        if found == "{}" or int(found) > known:
            raise NotComputedError("not there", received=name)
        return fetch(name)

    again.read_from(so_far)
    assert again.update() == 2
    assert again.stopped_epoch is None
    known = EPOCHS
    np.testing.assert_array_equal(again.loss, history.loss)
    assert again.stopped_epoch == ended


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rates_are_reduced_as_pytorch_does(strategy: str, torch_twin: Callable[..., nn.Sequential]) -> None:
    made = model()
    twin = torch_twin(made, 3)
    schedulers: list[Any] = []

    def judge(epoch: int, twin: nn.Sequential, optimizer: torch.optim.Optimizer, value: float) -> bool:
        if not schedulers:
            schedulers.append(
                torch.optim.lr_scheduler.ReduceLROnPlateau(
                    optimizer, factor=0.5, patience=1, threshold=0.001, threshold_mode="abs", min_lr=RATE / 6
                )
            )
        schedulers[0].step(value)
        return False

    _, held, rates = by_pytorch(twin, judge)
    callback = C.ReduceLROnPlateau(factor=0.5, patience=2, min_delta=0.001, min_rate=RATE / 6)
    history, fetch = run(made, [callback], strategy=STRATEGIES[strategy])
    assert len(set(rates)) > 2
    np.testing.assert_allclose(history["learning_rate"], rates, rtol=1e-5)
    np.testing.assert_allclose(history.val_loss, held, rtol=1e-4)
    same(made.fetch_weights(fetch), arrays(twin))


def test_after_a_reduction_nothing_is_counted_for_a_while() -> None:
    """Keras' loop, over a measure that never gets better."""
    history, _ = run(model(), [C.ReduceLROnPlateau("loss", factor=0.5, patience=2, cooldown=2, mode="max")])
    rate, best, wait, cooling, expected = 1.0, -math.inf, 0, 0, []
    for value in history.loss:
        expected.append(rate * RATE)
        if cooling > 0:
            cooling, wait = cooling - 1, 0
        if value > best + 1e-4:
            best, wait = value, 0
        elif cooling == 0:
            wait += 1
            if wait >= 2:
                rate, cooling, wait = rate * 0.5, 2, 0
    np.testing.assert_allclose(history["learning_rate"], expected, rtol=1e-6)
    assert len(set(expected)) > 2


def test_each_epoch_has_the_rate_that_is_scheduled(torch_twin: Callable[..., nn.Sequential]) -> None:
    made = model()
    twin = torch_twin(made, 3)
    wanted = lambda epoch: 0.4 if epoch < 3 else 0.4 * math.exp(-0.1 * epoch)  # noqa: E731

    def judge(epoch: int, twin: nn.Sequential, optimizer: torch.optim.Optimizer, value: float) -> bool:
        optimizer.param_groups[0]["lr"] = wanted(epoch + 1)
        return False

    _, held, rates = by_pytorch(twin, judge, wanted(1))
    history, fetch = run(made, [C.LearningRateScheduler(wanted)])
    np.testing.assert_allclose(history["learning_rate"], rates, rtol=1e-5)
    np.testing.assert_allclose(history.val_loss, held, rtol=1e-4)
    same(made.fetch_weights(fetch), arrays(twin))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_training_that_becomes_nan_goes_back_and_says_so(strategy: str) -> None:
    burst = lambda epoch: 0.1 if epoch < 3 else 1e30  # noqa: E731
    made, short = model(), model()
    steering = [C.LearningRateScheduler(burst), C.TerminateOnNaN()]
    history, fetch = run(made, steering, strategy=STRATEGIES[strategy])
    with pytest.warns(RuntimeWarning, match=r"epoch 3: training was stopped, with the state from before"):
        history.update()
    assert history.stopped_epoch == 3
    _, fetch_short = run(short, [C.LearningRateScheduler(burst)], n_epochs=2, strategy=STRATEGIES[strategy])
    same(made.fetch_weights(fetch), short.fetch_weights(fetch_short))


def test_training_goes_on_after_a_stop_and_a_second_run_has_its_own_names() -> None:
    made = model(Adam(0.01))
    R.Graph(name="two")
    options: dict[str, Any] = {"n_epochs": 3, "batch_size": BATCH, "save_model": True}
    first = made.fit(*data(), **options, callbacks=[C.EarlyStopping("loss", patience=0, min_delta=1e9)])
    second = made.fit(*data(), **options, callbacks=[C.EarlyStopping("loss", patience=5)])
    fetch = R.run_local().__getitem__
    assert [first.read_from(fetch).update(), second.read_from(fetch).update()] == [2, 3]
    weights = made.fetch_weights(fetch)
    plain = model(Adam(0.01))
    R.Graph(name="one")
    plain.fit(*data(), **{**options, "n_epochs": 5})
    same(weights, plain.fetch_weights(R.run_local().__getitem__))


class Mean(C.Steering):
    """Somebody's own: the mean of the weights over epochs."""

    def begin(self, weights: dict[str, R.Op]) -> Any:
        return {name: weight * 0 for name, weight in weights.items()}

    def after(self, memory: Any, seen: C.Seen) -> C.Verdict:
        return C.Verdict({name: memory[name] + weight / 3 for name, weight in seen.weights.items()})

    def final(self, memory: Any, weights: Mapping[str, R.Op]) -> dict[str, R.Op]:
        return dict(memory)


def test_a_callback_of_ones_own_is_part_of_the_run(torch_twin: Callable[..., nn.Sequential]) -> None:
    made = model()
    twin = torch_twin(made, 3)
    found: list[list[np.ndarray]] = []

    def judge(epoch: int, twin: nn.Sequential, optimizer: Any, value: float) -> bool:
        found.append([each.copy() for each in arrays(twin)])
        return epoch == 3

    by_pytorch(twin, judge)
    _, fetch = run(made, [Mean()], n_epochs=3)
    same(made.fetch_weights(fetch), [np.mean(each, axis=0) for each in zip(*found, strict=True)])


def test_a_log_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    for append in (False, False, True):
        history, _ = run(model(), [C.CSVLogger(path, ";", append=append)], n_epochs=2, validation_data=None)
        history.update()
    assert [line.split(";")[0] for line in path.read_text().splitlines()] == ["epoch", "1", "2", "1", "2"]


BAD: dict[str, tuple[str, Callable[[], Any]]] = {
    "no such measure": ("not measured", lambda: run(model(), [C.EarlyStopping("acc")])),
    "no validation": (
        "validation_data",
        lambda: run(model(), [C.ModelCheckpoint("m")], validation_data=None),
    ),
    "no list": ("a list", lambda: run(model(), None)),  # type: ignore[arg-type]
    "no function": ("no function", lambda: C.LambdaCallback(3)),  # type: ignore[arg-type]
    "no callback": ("callback", lambda: run(model(), [lambda: None])),  # type: ignore[list-item]
    "mode": ("unknown mode", lambda: C.EarlyStopping(mode="up")),
    "patience": ("patience", lambda: C.EarlyStopping(patience=-1)),
    "factor": ("factor", lambda: C.ReduceLROnPlateau(factor=1.0)),
    "schedule": ("no schedule", lambda: C.LearningRateScheduler(0.1)),  # type: ignore[arg-type]
    "a rate of 0": ("learning rate", lambda: run(model(), [C.LearningRateScheduler(lambda epoch: 0.0)])),
    "two schedules": (
        "is a number",
        lambda: run(model(SGD(ExponentialDecay(0.1, 5, 0.5))), [C.LearningRateScheduler(lambda epoch: 0.1)]),
    ),
    "separator": ("one character", lambda: C.CSVLogger("log", "; ")),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_suit_the_run_is_refused(name: str) -> None:
    words, make = BAD[name]
    with pytest.raises(ArgumentError, match=words):
        make()
