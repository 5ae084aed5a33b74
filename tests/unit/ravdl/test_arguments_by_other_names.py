"""What users of Keras and PyTorch write first: other argument names, arithmetic on symbols, losses of logits."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ravop as R
from ravdl.neural_networks import Input, Lambda, NeuralNetwork, from_torch
from ravdl.neural_networks.callbacks import ModelCheckpoint
from ravdl.neural_networks.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout, MaxPooling2D
from ravdl.neural_networks.loss_functions import (
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    SparseCategoricalCrossEntropy,
    SquareLoss,
)
from ravdl.neural_networks.optimizers import SGD, Adam
from ravop.errors import ArgumentError, UnsupportedOnnxError

X = np.ones((4, 3), np.float32)
SETS: Any = {}


def small(loss: Any = SquareLoss, *last: Any) -> NeuralNetwork:
    model = NeuralNetwork(Adam(), loss)
    for layer in last or (Dense(2, input_shape=(3,)),):
        model.add(layer)
    return model


# ── other names ───────────────────────────────────────────────────────────────────────────────────
NAMES: dict[str, tuple[Callable[..., Any], str, str]] = {
    "units": (lambda: Dense(units=3, **SETS), "Dense", "n_units"),
    "filters": (lambda: Conv2D(filters=4, kernel_size=3, **SETS), "Conv2D", "n_filters"),
    "kernel_size": (lambda: Conv2D(4, kernel_size=3, **SETS), "Conv2D", "filter_shape"),
    "strides": (lambda: Conv2D(4, 3, strides=2, **SETS), "Conv2D", "stride"),
    "pool_size": (lambda: MaxPooling2D(pool_size=2, **SETS), "MaxPooling2D", "pool_shape"),
    "rate": (lambda: Dropout(rate=0.5, **SETS), "Dropout", "p"),
    "eps": (lambda: BatchNormalization(eps=1e-3, **SETS), "BatchNormalization", "epsilon"),
    "lr": (lambda: Adam(lr=0.1, **SETS), "Adam", "learning_rate"),
    "betas": (lambda: Adam(betas=(0.9, 0.99), **SETS), "Adam", "b1, b2"),
    "beta_1": (lambda: Adam(beta_1=0.9, **SETS), "Adam", "b1"),
    "epochs": (lambda: small().fit(X, X[:, :2], epochs=2, batch_size=2, **SETS), "fit", "n_epochs"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_another_library_is_told_its_counterpart(name: str, graph: R.Graph) -> None:
    make, owner, ours = NAMES[name]
    with pytest.raises(ArgumentError, match=rf"{owner} has no argument '\w+'") as caught:
        make()
    problem = caught.value.problem
    assert f"{name} is called {ours} here" in problem.hint
    assert problem.expected.startswith(f"{owner}(")
    assert ours.split(", ")[0] in problem.expected
    assert Path(__file__).name in problem.source


def test_a_missing_argument_and_one_that_nobody_has_are_told_with_those_that_there_are() -> None:
    with pytest.raises(ArgumentError, match="Conv2D: missing a required argument: 'filter_shape'"):
        Conv2D(4)  # type: ignore[call-arg]
    with pytest.raises(ArgumentError, match="Dense has no argument 'colour'") as caught:
        Dense(4, colour="red", **SETS)
    assert "use_bias" in caught.value.problem.expected


@pytest.mark.parametrize(
    "compute", [lambda a: a + 1, lambda a: X * a, lambda a: a @ a, lambda a: -a, lambda a: a[0]]
)
def test_symbols_are_not_computed_with(compute: Callable[[Any], Any]) -> None:
    with pytest.raises(ArgumentError, match="not computed with") as caught:
        compute(Input((3,)))
    assert "Lambda" in caught.value.problem.hint
    assert "Add()" in caught.value.problem.hint


# ── losses of probabilities ───────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("loss", [CategoricalCrossEntropy, SparseCategoricalCrossEntropy, BinaryCrossEntropy])
def test_a_loss_of_probabilities_refuses_a_last_layer_without_activation(loss: Any, graph: R.Graph) -> None:
    y = (
        np.array([0, 1, 1, 0])
        if loss is SparseCategoricalCrossEntropy
        else np.eye(2, dtype=np.float32)[[0, 1, 1, 0]]
    )
    with pytest.raises(ArgumentError, match="for probabilities") as caught:
        small(loss).fit(X, y, 1, 2)
    assert "from_logits=True" in caught.value.problem.hint
    small(loss(from_logits=True)).fit(X, y, 1, 2)
    ends = "sigmoid" if loss is BinaryCrossEntropy else "softmax"
    small(loss, Dense(2, input_shape=(3,)), Activation(ends)).fit(X, y, 1, 2)
    small(loss, Dense(2, input_shape=(3,)), Lambda(R.sigmoid)).fit(X, y, 1, 2)  # what it gives is not known


# ── weights that are not kept ─────────────────────────────────────────────────────────────────────
def test_fit_notes_once_that_weights_are_not_kept(graph: R.Graph, tmp_path: Path) -> None:
    def about() -> list[str]:
        return [note for note in graph.notes if "not kept" in note]

    data = (X, X[:, :2])
    small().fit(*data, 1, 2, save_model=True)
    small().fit(*data, 1, 2, validation_data=data, callbacks=[ModelCheckpoint(tmp_path / "best.raven")])
    assert about() == []
    for _ in range(2):
        small().fit(*data, 1, 2)
    (note,) = about()
    assert "save_model=True" in note


# ── PyTorch's exporter ────────────────────────────────────────────────────────────────────────────
class Exponential(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.matrix_exp(x)


def test_an_exporter_that_fails_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnsupportedOnnxError, match="cannot export Exponential"):
        from_torch(Exponential(), torch.zeros(2, 3, 3), SGD(), SquareLoss, exporter="legacy")
    ctypes.CDLL(None).fflush(None)  # what C++ wrote
    shown = capfd.readouterr()
    assert shown.out + shown.err == ""
