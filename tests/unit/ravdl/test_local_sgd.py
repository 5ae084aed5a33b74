"""`LocalSGD` against DiLoCo written out with PyTorch, and what rounding differences costs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import Activation, BatchNormalization, Dense, Dropout, Layer, WeightSpec
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam, Optimizer
from ravdl.strategies import Average, DataParallel, LocalSGD, Nesterov, Sequential, Strategy
from ravdl.strategies.compression import BLOCK, TRANSFERS, send
from ravop.errors import ArgumentError, DTypeError

BATCH, EPOCHS = 6, 3


class Descent(Optimizer):
    """Plain gradient descent, which has nothing to remember."""

    slots: ClassVar[tuple[str, ...]] = ()

    def change(self, gradient: R.Op, slots: Any, factors: Any) -> tuple[R.Op, tuple[R.Op, ...]]:
        return gradient * 0.1, ()


def network(*layers: Layer, optimizer: Optimizer | None = None) -> NeuralNetwork:
    made = NeuralNetwork(optimizer or Adam(0.01), CrossEntropy, seed=5)
    for layer in layers or (Dense(12, input_shape=(8,)), Activation("relu"), Dropout(0.2), Dense(4)):
        made.add(layer)
    made.add(Activation("softmax"))
    return made


def data(samples: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((samples, 8)).astype(np.float32)
    return x, x[:, :4].argmax(axis=1)


def fitted(made: NeuralNetwork, strategy: Strategy | str, samples: int, **options: Any) -> Any:
    """→ history, all results, the weights at the end."""
    R.Graph()
    x, y = data(samples)
    options = {"n_epochs": EPOCHS, "batch_size": BATCH, "save_model": True, "strategy": strategy, **options}
    history = made.fit(x, y, **options)
    results = R.run_local()
    return history.read_from(results.__getitem__), results, made.fetch_weights(results.__getitem__)


def assert_close(found: Any, expected: Any, rtol: float = 2e-4, atol: float = 2e-6) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


# ── DiLoCo, literally ───────────────────────────────────────────────────────────────────────────────────────
def diloco(twin: nn.Sequential, how: LocalSGD, samples: int) -> list[float]:
    """Train `twin` in place. → the loss of each step: the mean over the workers, weighted by examples."""
    x, y = (torch.tensor(array) for array in data(samples))
    step = how.workers * BATCH
    outer = (
        torch.optim.SGD(twin.parameters(), lr=1.0)
        if isinstance(how.outer, Average)
        else torch.optim.SGD(
            twin.parameters(), lr=how.outer.learning_rate, momentum=how.outer.momentum, nesterov=True
        )
    )
    replicas = [copy.deepcopy(twin) for _ in range(how.workers)]
    inner = [torch.optim.Adam(replica.parameters(), lr=0.01) for replica in replicas]
    losses = []
    for _ in range(EPOCHS):
        starts = list(range(0, samples, step))
        for first in range(0, len(starts), how.sync_every):
            for replica in replicas:
                replica.load_state_dict(twin.state_dict())
            used = np.zeros(how.workers)
            for start in starts[first : first + how.sync_every]:
                here = x[start : start + step], y[start : start + step]
                total = 0.0
                for worker, (inputs, targets) in enumerate(
                    zip(*(t.tensor_split(how.workers) for t in here), strict=True)
                ):
                    if len(inputs):
                        inner[worker].zero_grad()
                        loss = nn.functional.cross_entropy(replicas[worker](inputs), targets)
                        loss.backward()
                        inner[worker].step()
                        used[worker] += len(inputs)
                        total += loss.item() * len(inputs) / len(here[0])
                    else:  # a worker without samples counts the step all the same
                        for memory in inner[worker].state.values():
                            memory["step"] += 1
                losses.append(total)
            shares = used / used.sum()
            for shared, *own in zip(twin.parameters(), *(r.parameters() for r in replicas), strict=True):
                shared.grad = sum(
                    s * (shared.detach() - w.detach()) for s, w in zip(shares, own, strict=True)
                )
            outer.step()
            for shared, *own in zip(twin.buffers(), *(r.buffers() for r in replicas), strict=True):
                if shared.ndim:
                    shared[:] = sum(s * statistic for s, statistic in zip(shares, own, strict=True))
    return losses


@pytest.mark.parametrize(
    ("how", "samples"),
    [
        (LocalSGD(2, 3), 79),  # six steps and one of seven samples: 3 + 3 + 1
        (LocalSGD(3, 4, Nesterov(0.5, 0.3)), 75),  # four steps and one of three samples: 4 + 1
        (
            LocalSGD(2, 2, Average()),
            61,
        ),  # five steps and one of a single sample: 2 + 2 + 2, with one worker at the end
        (LocalSGD(3, 100), 90),  # one round of five steps
        (LocalSGD(2, 1), 72),
    ],
)
def test_training_is_diloco(how: LocalSGD, samples: int, torch_twin: Any) -> None:
    made = network(
        Dense(12, input_shape=(8,), use_bias=False), BatchNormalization(0.9), Activation("tanh"), Dense(4)
    )
    if samples in (61, 75, 79):  # PyTorch's batch norm refuses single samples
        made = network(Dense(12, input_shape=(8,)), Activation("tanh"), Dense(4))
    twin = torch_twin(made, len(made.layers) - 1)
    history, _, weights = fitted(made, how, samples)
    losses = diloco(twin, how, samples)
    np.testing.assert_allclose(history.by_batch().reshape(-1), losses, rtol=2e-4)
    theirs = []
    for module in twin:
        for tensor in [*module.parameters(), *(b for b in module.buffers() if b.ndim)]:
            value = tensor.detach().numpy()
            theirs.append(value.T if isinstance(module, nn.Linear) else value)
    assert_close(weights, theirs, atol=2e-5)


@pytest.mark.parametrize("samples", [72, 79])
def test_meeting_after_each_step_of_descent_is_training_on_the_whole_batch(samples: int) -> None:
    """A step of gradient descent is linear in the gradient: the mean of the workers' is that of all samples' gradient."""
    layers = lambda: (Dense(12, input_shape=(8,)), Activation("tanh"), Dense(4))  # noqa: E731
    whole = fitted(network(*layers(), optimizer=Descent()), Sequential(), samples, batch_size=2 * BATCH)
    local = fitted(network(*layers(), optimizer=Descent()), LocalSGD(2, 1, Average()), samples)
    assert_close(local[2], whole[2], rtol=1e-4)
    assert_close(local[0].by_batch(), whole[0].by_batch(), rtol=1e-4)


def test_one_worker_alone_trains_as_if_there_was_no_strategy() -> None:
    for shuffle in (False, True):
        options = {"samples": 40, "shuffle": shuffle, "validation_data": data(20)}
        whole = fitted(network(), Sequential(), **options)
        local = fitted(network(), LocalSGD(1, 4, Average()), **options)
        assert_close(local[2], whole[2])
        for key in whole[0].keys:
            np.testing.assert_allclose(local[0][key], whole[0][key], rtol=1e-4)


def test_measures_have_their_usual_names() -> None:
    history, results, _ = fitted(network(), LocalSGD(2, 2), 61, validation_data=data(20))
    assert history.keys == ("loss", "accuracy", "val_loss", "val_accuracy")
    assert history.by_batch().shape == (EPOCHS, 6)
    sizes = np.array([12] * 5 + [1])
    np.testing.assert_allclose(history["loss"], history.by_batch() @ sizes / 61, rtol=1e-5)
    assert results["training_loss_epoch_2_batch_6"] == history.by_batch()[1, 5]


def test_each_worker_shuffles_samples_of_its_own() -> None:
    """Squares that are no sums of each other tell which samples a step used, when nothing is learned."""
    samples, workers = 25, 2
    worth = 2.0 ** np.arange(samples)
    R.Graph()
    made = NeuralNetwork(Adam(1e-30), Sum, seed=3)
    made.add(Dense(1, input_shape=(1,), use_bias=False))
    made.set_weights([np.ones((1, 1))])
    history = made.fit(worth[:, None], worth[:, None], 2, 4, shuffle=True, strategy=LocalSGD(workers, 2))
    found = history.read_from(R.run_local().__getitem__).by_batch() * np.array([8, 8, 8, 1])
    used = [[{i for i in range(samples) if int(value) >> i & 1} for value in epoch] for epoch in found]
    for epoch in used:
        assert set().union(*epoch) == set(range(samples))
        assert [len(step) for step in epoch] == [8, 8, 8, 1]
    assert used[0] != used[1]


class Sum(CrossEntropy):
    """The mean of the inputs themselves."""

    metrics = ()

    def check_model(self, output_shape: Any, activation: str) -> None: ...

    def targets(self, y: object, output_shape: Any, activation: str) -> Any:
        return np.asarray(y, np.float32)

    def call(self, prediction: Any, y: R.Op) -> R.Op:
        return R.mean(y) + 0.0 * R.mean(prediction.value)


# ── going on ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("how", [LocalSGD(2, 3), LocalSGD(3, 2, transfer="int8")], ids=["float32", "int8"])
@pytest.mark.parametrize("saved", [True, False], ids=["another graph", "the same graph"])
def test_a_second_fit_goes_on_where_the_first_ended(how: LocalSGD, saved: bool) -> None:
    _, _, expected = fitted(network(), how, 61)
    R.Graph()
    x, y = data(61)
    made = network()
    made.fit(x, y, 1, BATCH, save_model=True, strategy=how)
    if saved:
        made.fetch_weights(R.run_local().__getitem__)
        R.Graph()
    made.fit(x, y, EPOCHS - 1, BATCH, save_model=True, strategy=how)
    assert_close(made.fetch_weights(R.run_local().__getitem__), expected, atol=1e-5)


def test_strategies_follow_each_other(tmp_path: Path) -> None:
    x, y = data(61)
    made = network()
    for how in (
        LocalSGD(2, 3, transfer="int8"),
        Sequential(),
        LocalSGD(3, 2),
        DataParallel(2),
        LocalSGD(2, 9, Average()),
    ):
        R.Graph()
        made.fit(x, y, 1, BATCH, save_model=True, strategy=how)
        results = R.run_local()
        path = made.get_onnx_model(str(tmp_path / "model"), results.__getitem__)
        kept = [name for name in made._weights.values if name.startswith("strategy.")]
        assert bool(kept) == isinstance(how, LocalSGD)
    R.Graph()
    made.predict(x).persist_op("prediction")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (prediction,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(prediction, R.run_local()["prediction"], rtol=1e-4, atol=1e-6)


# ── rounded differences ─────────────────────────────────────────────────────────────────────────────────────
def test_rounding_is_bounded_and_made_up_for(graph: R.Graph) -> None:
    """An element is off by half a scale at most, a block's largest magnitude / 127, and what it was off is sent later."""
    rng = np.random.default_rng(0)
    sent = [
        (rng.standard_normal((3, 700)) * 10.0 ** rng.integers(-3, 3, (3, 700))).astype(np.float32)
        for _ in range(4)
    ]
    for name in ("int8", "float16"):
        error: R.Op | None = R.zeros((3, 700))
        for number, array in enumerate(sent):
            before = error
            arrived, error = send(TRANSFERS[name], R.t(array), before)
            assert before is not None
            assert error is not None
            before.persist_op(f"{name} before {number}")
            arrived.persist_op(f"{name} arrived {number}")
        error.persist_op(f"{name} lost")
    results = R.run_local()
    for number, array in enumerate(sent):
        wanted = (array + results[f"int8 before {number}"]).reshape(-1)
        off = np.abs(results[f"int8 arrived {number}"].reshape(-1) - wanted)
        for start in range(0, wanted.size, BLOCK):
            block = slice(start, start + BLOCK)
            assert off[block].max() <= np.abs(wanted[block]).max() / 127 * 0.5001
        half = (array + results[f"float16 before {number}"]).astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(results[f"float16 arrived {number}"], half)
    for name in ("int8", "float16"):
        arrived = sum(results[f"{name} arrived {number}"] for number in range(4))
        np.testing.assert_allclose(arrived + results[f"{name} lost"], sum(sent), rtol=1e-4, atol=1e-3)


def test_what_is_rounded_travels_as_bytes(graph: R.Graph) -> None:
    packed = TRANSFERS["int8"].pack(R.t(np.ones(5000, np.float32)))
    assert [(op.dtype, op.static_shape) for op in packed] == [(np.int8, (5, 1024)), (np.float32, (5, 1))]
    assert TRANSFERS["float16"].pack(R.t([1.0]))[0].dtype == np.float16


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_a_diverged_training_shows(graph: R.Graph, transfer: str) -> None:
    x, y = data(24)
    x[3, 3] = np.nan
    made = network()
    made.fit(x, y, 1, BATCH, save_model=True, strategy=LocalSGD(2, 1, transfer=transfer))
    weights = made.fetch_weights(R.run_local().__getitem__)
    assert np.isnan(weights[0]).any()


def test_digits_are_learned_as_well_with_bytes() -> None:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] / 16).astype(np.float32), y[order]
    losses = {}
    for transfer in TRANSFERS:
        R.Graph()
        made = network(Dense(32, input_shape=(64,)), Activation("relu"), Dense(10), optimizer=Adam(0.003))
        how = LocalSGD(2, 10, transfer=transfer)
        history = made.fit(x[:1500], y[:1500], 10, 32, validation_data=(x[1500:], y[1500:]), strategy=how)
        history.read_from(R.run_local().__getitem__)
        losses[transfer] = history.loss[-1], history.val_loss[-1]
        assert history.val_accuracy[-1] > 0.92
    for transfer in ("float16", "int8"):
        np.testing.assert_allclose(losses[transfer], losses["float32"], rtol=0.01)


# ── what does not fit ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalSGD(0, 5), "workers must be a positive integer"),
        (lambda: LocalSGD(2, 0), "sync_every must be a positive integer"),
        (lambda: LocalSGD(2, 1.5), "sync_every must be a positive integer"),  # type: ignore[arg-type]
        (lambda: LocalSGD(2, 5, transfer="int4"), "unknown transfer"),
        (lambda: LocalSGD(2, 5, outer="average"), "no outer optimizer"),  # type: ignore[arg-type]
        (lambda: Nesterov(0), "learning_rate is out of range"),
        (lambda: Nesterov(np.inf), "learning_rate is out of range"),
        (lambda: Nesterov("0.7"), "learning_rate is out of range"),  # type: ignore[arg-type]
        (lambda: Nesterov(0.7, 1), "momentum is out of range"),
        (lambda: DataParallel(0), "shards must be a positive integer"),
        (lambda: DataParallel(True), "shards must be a positive integer"),
        (lambda: DataParallel(2, "none"), "unknown batch_norm"),
    ],
)
def test_arguments_are_checked(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize("strategy", ["parallel", LocalSGD, None, 2])
def test_an_unknown_strategy_is_refused(graph: R.Graph, strategy: Any) -> None:
    with pytest.raises(ArgumentError, match="unknown strategy") as caught:
        network().fit(*data(24), 1, BATCH, strategy=strategy)
    assert "test_local_sgd.py" in caught.value.problem.source


def test_workers_without_data_are_refused(graph: R.Graph) -> None:
    with pytest.raises(ArgumentError, match="workers without data"):
        network().fit(*data(23), 1, BATCH, strategy=LocalSGD(4, 1))
    network().fit(*data(24), 1, BATCH, strategy=LocalSGD(4, 1))


class Counted(Dense):
    """Counts its steps, as an integer, and may have weights that are integers."""

    stored_as = np.float32

    def weights(self) -> tuple[WeightSpec, ...]:
        counter = WeightSpec("steps", (), lambda shape, rng: np.array(0, np.int64), trainable=False)
        made = [
            WeightSpec(
                spec.name,
                spec.shape,
                lambda shape, rng, f=spec.initializer: f(shape, rng).astype(self.stored_as),
            )
            for spec in super().weights()
        ]
        return (*made, counter)

    def call(self, x: R.Op, weights: Any) -> R.Op:
        return x @ R.astype(weights["W"], np.float32) + R.astype(weights["w0"], np.float32)

    def train(self, x: R.Op, weights: Any, moment: Any) -> Any:
        return self.call(x, weights), {"steps": weights["steps"] + 1}


def test_integers_that_layers_count_are_averaged(graph: R.Graph) -> None:
    made = network(Counted(4, input_shape=(8,)))
    made.fit(*data(61), 1, BATCH, save_model=True, strategy=LocalSGD(2, 2, transfer="int8"))
    found = dict(zip(made.weight_names, made.fetch_weights(R.run_local().__getitem__), strict=True))
    assert found["Counted_1_steps"] == 6
    assert found["Counted_1_steps"].dtype == np.int64


def test_weights_that_cannot_be_rounded_are_refused(graph: R.Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "stored_as", np.int64)
    made = network(Counted(4, input_shape=(8,)))
    with pytest.raises(DTypeError, match="int8"):
        made.fit(*data(61), 1, BATCH, strategy=LocalSGD(2, 2, transfer="int8"))
