"""Every loss and its gradient against PyTorch, weighted or not, and each example's own value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import ravop as R
from ravdl.neural_networks import Input, NeuralNetwork
from ravdl.neural_networks.forward import Prediction
from ravdl.neural_networks.layers import Activation, Dense
from ravdl.neural_networks.loss import FunctionLoss
from ravdl.neural_networks.loss_functions import (
    LOSSES,
    BinaryCrossEntropy,
    BinaryFocalCrossEntropy,
    CategoricalCrossEntropy,
    CategoricalFocalCrossEntropy,
    CategoricalHinge,
    CosineSimilarity,
    CrossEntropy,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    SparseCategoricalCrossEntropy,
    SquaredHinge,
    SquareLoss,
)
from ravdl.neural_networks.optimizers import Adam
from ravdl.strategies import DataParallel
from ravop.errors import ArgumentError, ShapeError

RNG = np.random.default_rng(3)
N, T, C = 5, 4, 3
FLAT = RNG.standard_normal((N, C)).astype(np.float32)
SERIES = RNG.standard_normal((N, T, C)).astype(np.float32)
IMAGES = RNG.standard_normal((N, C, 2, 2)).astype(np.float32)
NUMBERS = RNG.standard_normal((N, C)).astype(np.float32)
ROWS = np.exp(NUMBERS) / np.exp(NUMBERS).sum(axis=1, keepdims=True)
YES = RNG.integers(0, 2, (N, C))
WEIGHTS = np.array([0.5, 2, 0, 1, 3], np.float32)
LABELS = RNG.integers(0, C, N)
STEPS = RNG.integers(0, C, (N, T))
PIXELS = RNG.integers(0, C, (N, 2, 2))

Each = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(raw output, targets) → the loss of each element or example."""


@dataclass(frozen=True)
class Case:
    loss: Loss
    activation: str
    raw: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]
    torch: Each


def elementwise(function: Any, **options: Any) -> Each:
    return lambda z, y: function(z, y.float(), reduction="none", **options)


def classes(activation: Callable[[torch.Tensor], torch.Tensor] = lambda z: z, **options: Any) -> Each:
    """Classes last, as ours are."""

    def each(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        z = activation(z)
        moved = torch.movedim(z, -1, 1)
        truth = torch.movedim(y, -1, 1).float() if y.ndim == z.ndim else y
        return F.cross_entropy(moved, truth, reduction="none", **options)

    return each


def log_of(p: torch.Tensor) -> torch.Tensor:
    return torch.log(torch.clamp(p / p.sum(-1, keepdim=True), 1e-7, 1 - 1e-7))


def focal(gamma: float, alpha: float) -> Each:
    """Lin et al. 2017, equation 5, over rows of probabilities."""

    def each(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        p = torch.softmax(z, -1)
        truth = F.one_hot(y, z.shape[-1]) if y.ndim < z.ndim else y
        return -(alpha * truth * (1 - p) ** gamma * torch.log(p)).sum(-1)

    return each


def binary_focal(gamma: float, alpha: float | None) -> Each:
    def each(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        p = torch.sigmoid(z)
        q = torch.where(y > 0, p, 1 - p)
        share = 1.0 if alpha is None else torch.where(y > 0, alpha, 1 - alpha)
        return -share * (1 - q) ** gamma * torch.log(q)

    return each


def hinge(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.relu(1 - (2.0 * y - 1) * z)


CASES = {
    "square": Case(SquareLoss(), "linear", FLAT, NUMBERS, elementwise(F.mse_loss)),
    "mse of tanh": Case(MeanSquaredError(), "tanh", FLAT, NUMBERS, lambda z, y: (torch.tanh(z) - y) ** 2),
    "mae": Case(MeanAbsoluteError(), "linear", FLAT, NUMBERS, elementwise(F.l1_loss)),
    "huber": Case(Huber(0.7), "linear", 2 * FLAT, NUMBERS, elementwise(F.huber_loss, delta=0.7)),
    "log cosh": Case(LogCosh(), "linear", FLAT, NUMBERS, lambda z, y: torch.log(torch.cosh(z - y))),
    "log cosh far away": Case(LogCosh(), "linear", 1e3 * np.abs(FLAT) + 50, NUMBERS, lambda z, y: abs(z - y) - np.log(2)),
    "poisson": Case(
        Poisson(), "linear", np.abs(FLAT) + 0.1, YES * 3,
        lambda z, y: F.poisson_nll_loss(z, y.float(), log_input=False, eps=1e-7, reduction="none"),
    ),
    "divergence": Case(
        KLDivergence(), "softmax", FLAT, ROWS,
        lambda z, y: F.kl_div(torch.log_softmax(z, -1), y, reduction="none").sum(-1),
    ),
    "divergence of probabilities": Case(
        KLDivergence(), "linear", ROWS[::-1].copy(), ROWS, lambda p, y: F.kl_div(torch.log(p), y, reduction="none").sum(-1)
    ),
    "cosine": Case(CosineSimilarity(), "linear", FLAT, NUMBERS, lambda z, y: -F.cosine_similarity(z, y)),
    "hinge": Case(Hinge(), "linear", FLAT, YES, hinge),
    "hinge of signs": Case(Hinge(), "linear", FLAT, 2 * YES - 1, lambda z, y: torch.relu(1 - y * z)),
    "squared hinge": Case(SquaredHinge(), "linear", FLAT, YES, lambda z, y: hinge(z, y) ** 2),
    "categorical hinge": Case(
        CategoricalHinge(), "linear", FLAT, np.eye(C, dtype=np.float32)[LABELS],
        lambda z, y: torch.relu(1 + ((1 - y) * z).max(-1).values - (y * z).sum(-1)),
    ),
    "binary": Case(BinaryCrossEntropy(), "sigmoid", FLAT, YES, elementwise(F.binary_cross_entropy_with_logits)),
    "binary of logits": Case(BinaryCrossEntropy(True), "linear", FLAT, YES, elementwise(F.binary_cross_entropy_with_logits)),
    "binary of probabilities": Case(BinaryCrossEntropy(), "linear", ROWS, YES, elementwise(F.binary_cross_entropy)),
    "binary, smoothed": Case(
        BinaryCrossEntropy(label_smoothing=0.2), "sigmoid", FLAT, YES,
        lambda z, y: F.binary_cross_entropy_with_logits(z, y * 0.8 + 0.1, reduction="none"),
    ),
    "binary focal": Case(BinaryFocalCrossEntropy(1.5), "sigmoid", FLAT, YES, binary_focal(1.5, None)),
    "binary focal, balanced": Case(
        BinaryFocalCrossEntropy(2.0, 0.3, balanced=True, from_logits=True), "linear", FLAT, YES, binary_focal(2, 0.3)
    ),
    "categorical": Case(CategoricalCrossEntropy(), "softmax", FLAT, ROWS, classes()),
    "categorical, smoothed": Case(
        CategoricalCrossEntropy(label_smoothing=0.1), "softmax", FLAT, ROWS, classes(label_smoothing=0.1)
    ),
    "categorical of logits": Case(CategoricalCrossEntropy(True), "linear", FLAT, ROWS, classes()),
    "categorical of probabilities": Case(
        CategoricalCrossEntropy(), "linear", 2 * ROWS[::-1].copy(), ROWS, lambda p, y: -(y * log_of(p)).sum(-1)
    ),
    "categorical of series": Case(
        CategoricalCrossEntropy(), "softmax", SERIES, np.eye(C, dtype=np.float32)[STEPS], classes()
    ),
    "labels": Case(SparseCategoricalCrossEntropy(), "softmax", FLAT, LABELS, classes()),
    "labels, smoothed": Case(
        SparseCategoricalCrossEntropy(True, 0.1), "linear", FLAT, LABELS, classes(label_smoothing=0.1)
    ),
    "labels of series": Case(SparseCategoricalCrossEntropy(), "softmax", SERIES, STEPS, classes()),
    "labels of pixels": Case(
        SparseCategoricalCrossEntropy(True, axis=1), "linear", IMAGES, PIXELS,
        lambda z, y: F.cross_entropy(z, y, reduction="none"),
    ),
    "rows of pixels": Case(
        CategoricalCrossEntropy(True, axis=1), "linear", IMAGES, np.abs(IMAGES),
        lambda z, y: -(y * torch.log_softmax(z, 1)).sum(1)
    ),
    "cross entropy of series": Case(CrossEntropy(), "linear", SERIES, STEPS, classes()),
    "cross entropy of yes or no": Case(CrossEntropy(), "sigmoid", FLAT, YES, elementwise(F.binary_cross_entropy_with_logits)),
    "categorical focal": Case(CategoricalFocalCrossEntropy(1.5, 0.4), "softmax", FLAT, LABELS, focal(1.5, 0.4)),
    "categorical focal of rows": Case(CategoricalFocalCrossEntropy(), "softmax", FLAT, ROWS, focal(2.0, 0.25)),
    "a function": Case(
        FunctionLoss(lambda y, p: R.abs(y - p) * 2.0), "linear", FLAT, NUMBERS, lambda z, y: 2 * abs(z - y)
    ),
}  # fmt: skip


def test_no_loss_is_missed() -> None:
    assert {type(case.loss).__name__ for case in CASES.values()} - {"FunctionLoss"} == set(LOSSES)


def test_values_and_gradients_are_pytorchs(graph: R.Graph) -> None:
    for name, case in CASES.items():
        op = R.t(case.raw)
        targets = R.t(case.loss.targets(case.y, case.raw.shape[1:], case.activation))
        prediction = Prediction(op, case.activation)
        for kind, value in {
            "mean": case.loss.call(prediction, targets),
            "weighted": case.loss.weighted(prediction, targets, R.t(WEIGHTS)),
        }.items():
            assert (value.shape, value.dtype) == ((), np.float32), name
            value.persist_op(f"{name}: {kind}")
            R.grad(value, op).persist_op(f"{name}: gradient of {kind}")
    results = R.run_local()
    for name, case in CASES.items():
        for kind in ("mean", "weighted"):
            z = torch.tensor(case.raw, requires_grad=True)
            each = case.torch(z, torch.tensor(case.y))
            own = each.reshape(N, -1).mean(1) * (torch.tensor(WEIGHTS) if kind == "weighted" else 1)
            own.mean().backward()
            np.testing.assert_allclose(
                results[f"{name}: {kind}"], own.mean().item(), rtol=2e-5, atol=1e-6, err_msg=name
            )
            np.testing.assert_allclose(
                results[f"{name}: gradient of {kind}"], z.grad, rtol=2e-4, atol=2e-6, err_msg=name
            )


# ── within a training ─────────────────────────────────────────────────────────────────────────────
def row(loss: Any, *layers: Any, **options: Any) -> NeuralNetwork:
    model = NeuralNetwork(Adam(0.01), loss, seed=1, **options)
    for layer in layers or (Dense(C, input_shape=(6,), activation="softmax"),):
        model.add(layer)
    return model


def torch_losses(
    model: NeuralNetwork, x: Any, each: Callable[[torch.Tensor], torch.Tensor], steps: int
) -> list[float]:
    w, b = (torch.tensor(value, requires_grad=True) for value in model.get_weights())
    optimizer = torch.optim.Adam([w, b], lr=0.01)
    found = []
    for _ in range(steps):
        loss = each(torch.tensor(x) @ w + b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_weights_of_samples_and_classes_change_what_is_descended(graph: R.Graph) -> None:
    x = RNG.standard_normal((12, 6)).astype(np.float32)
    y = RNG.integers(0, C, 12)
    weight = RNG.random(12).astype(np.float32)
    of_class = {0: 3.0, 2: 0.5}
    both = weight * np.array([of_class.get(label, 1.0) for label in y], np.float32)
    model, twin = row(CrossEntropy), row(CrossEntropy)
    history = model.fit(x, y, 4, 12, sample_weight=weight, class_weight=of_class)
    rows = twin.fit(x, np.eye(C)[y], 4, 12, sample_weight=weight, class_weight=of_class)
    fetch = R.run_local().__getitem__
    expected = torch_losses(
        row(CrossEntropy),
        x,
        lambda z: (F.cross_entropy(z, torch.tensor(y), reduction="none") * torch.tensor(both)).mean(),
        4,
    )
    np.testing.assert_allclose(history.read_from(fetch).loss, expected, rtol=1e-5)
    np.testing.assert_allclose(rows.read_from(fetch).loss, expected, rtol=1e-5)


def test_padded_steps_may_count_nothing(graph: R.Graph) -> None:
    x = RNG.standard_normal((12, T, 6)).astype(np.float32)
    y = RNG.integers(0, C, (12, T))
    there = (np.arange(T) < RNG.integers(1, T + 1, (12, 1))).astype(np.float32)

    def model() -> NeuralNetwork:
        return row(SparseCategoricalCrossEntropy(), Dense(C, input_shape=(T, 6), activation="softmax"))

    whole = model().fit(x, y, 4, 12, sample_weight=there)
    shards = model().fit(x, y, 4, 12, sample_weight=there, strategy=DataParallel(2))
    fetch = R.run_local().__getitem__
    expected = torch_losses(
        model(),
        x,
        lambda z: (
            F.cross_entropy(z.movedim(-1, 1), torch.tensor(y), reduction="none") * torch.tensor(there)
        ).mean(),
        4,
    )
    np.testing.assert_allclose(whole.read_from(fetch).loss, expected, rtol=1e-5)
    np.testing.assert_allclose(shards.read_from(fetch).loss, expected, rtol=1e-5)


def test_regularizers_are_descended_and_reported(graph: R.Graph) -> None:
    x = RNG.standard_normal((12, 6)).astype(np.float32)
    y = RNG.integers(0, C, 12)

    def model() -> NeuralNetwork:
        penalty = lambda w: R.sum(R.square(w)) * 0.1  # noqa: E731
        return row(CrossEntropy, Dense(C, input_shape=(6,), regularizer=penalty))

    made = model()
    start = torch.tensor(made.get_weights()[0])
    history = made.fit(x, y, 4, 12, validation_data=(x, y))
    frozen = model()
    frozen.layers[0].trainable = False
    frozen.test_on_batch(x, y).persist_op("frozen")
    model().test_on_batch(x, y).persist_op("start")
    results = R.run_local()

    w, b = (torch.tensor(value, requires_grad=True) for value in model().get_weights())
    optimizer = torch.optim.Adam([w, b], lr=0.01)
    expected = []
    for _ in range(5):
        loss = F.cross_entropy(torch.tensor(x) @ w + b, torch.tensor(y)) + 0.1 * (w**2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    history.read_from(results.__getitem__)
    np.testing.assert_allclose(history.loss, expected[:4], rtol=1e-5)
    np.testing.assert_allclose(history.val_loss, expected[1:], rtol=1e-5)
    np.testing.assert_allclose(results["start"], expected[0], rtol=1e-5)
    np.testing.assert_allclose(results["frozen"], expected[0] - 0.1 * (start**2).sum().item(), rtol=1e-5)


def test_a_function_that_gives_one_number_is_a_loss(graph: R.Graph) -> None:
    x = RNG.standard_normal((12, 6)).astype(np.float32)
    y = RNG.standard_normal((12, C))
    model = row(lambda truth, p: R.max(R.abs(truth - p)), Dense(C, input_shape=(6,)))
    twin = row(SquareLoss, Dense(C, input_shape=(6,)))
    history = model.fit(x, y, 3, 12)
    with pytest.raises(ArgumentError, match="cannot be weighed"):
        model.fit(x, y, 3, 12, sample_weight=np.ones(12))
    expected = torch_losses(twin, x, lambda z: abs(torch.tensor(y, dtype=torch.float32) - z).max(), 3)
    np.testing.assert_allclose(history.read_from(R.run_local().__getitem__).loss, expected, rtol=1e-5)


ONES = np.ones((4, 6), np.float32)
SOME = [0, 1, 2, 0]


def fitted(loss: Any, y: Any, *layers: Any, x: Any = ONES, **options: Any) -> object:
    return row(loss, *layers).fit(x, y, 1, 2, **options)


REFUSED: dict[str, tuple[type[Exception], str, Callable[[], object]]] = {
    "labels for rows": (ShapeError, "CategoricalCrossEntropy", lambda: fitted(CategoricalCrossEntropy, SOME)),
    "rows for labels": (ShapeError, "integer labels", lambda: fitted(SparseCategoricalCrossEntropy, np.ones((4, 3)))),
    "a label too large": (ArgumentError, "classes", lambda: fitted(SparseCategoricalCrossEntropy, [0, 1, 2, 3])),
    "softmax over another axis": (
        ArgumentError, "another axis",
        lambda: row(SparseCategoricalCrossEntropy(axis=1), Dense(3, input_shape=(4, 6)), Activation("softmax")).fit(
            np.ones((4, 4, 6)), np.zeros((4, 3), int), 1, 2
        ),
    ),
    "no classes": (ShapeError, "output for each class", lambda: fitted(CrossEntropy, SOME, Dense(1, input_shape=(6,)))),
    "smoothing": (ArgumentError, "label_smoothing", lambda: CategoricalCrossEntropy(label_smoothing=1.5)),
    "axis": (ArgumentError, "axis", lambda: CategoricalCrossEntropy(axis=0)),
    "delta": (ArgumentError, "delta", lambda: Huber(0)),
    "a loss that is none": (ArgumentError, "no loss", lambda: NeuralNetwork(Adam(), 3)),
    "a loss of PyTorch": (ArgumentError, "take one of loss_functions", lambda: NeuralNetwork(Adam(), torch.nn.MSELoss())),
    "a function that gives no op": (ArgumentError, "gives an op", lambda: fitted(lambda y, p: 3.0, np.ones((4, 3)))),
    "one weight too few": (ShapeError, "sample_weight", lambda: fitted(CrossEntropy, SOME, sample_weight=[1, 2, 3])),
    "weights of steps that are not there": (
        ShapeError, "weights", lambda: fitted(CrossEntropy, SOME, sample_weight=np.ones((4, 2)))
    ),
    "a negative weight": (ArgumentError, "weight", lambda: fitted(CrossEntropy, SOME, sample_weight=[1, 2, 3, -1])),
    "weights of classes in series": (
        ArgumentError, "one class a sample",
        lambda: row(CrossEntropy, Dense(3, input_shape=(2, 6))).fit(
            np.ones((4, 2, 6)), np.zeros((4, 2), int), 1, 2, class_weight={0: 2.0}
        ),
    ),
    "weights of classes in a list": (ArgumentError, "dict", lambda: fitted(CrossEntropy, SOME, class_weight=[1, 2])),
    "weights of classes of two outputs": (
        ArgumentError, "one output",
        lambda: NeuralNetwork(Adam(), CrossEntropy, inputs=(x := Input(6)), outputs=[Dense(3)(x), Dense(3)(x)]).fit(
            ONES, [SOME, SOME], 1, 2, class_weight={0: 2.0}
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str, graph: R.Graph) -> None:
    kind, text, wrong = REFUSED[name]
    with pytest.raises(kind, match=text):
        wrong()
