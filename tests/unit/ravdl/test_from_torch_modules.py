"""What modules bring with them: both exporters, ties, frozen parts, buffers, dropout, several inputs; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ravop as R
from ravdl.neural_networks import NeuralNetwork, from_torch, load_model
from ravdl.neural_networks.layers import Dense
from ravdl.neural_networks.load_onnx_model import load_onnx
from ravdl.neural_networks.loss_functions import SparseCategoricalCrossEntropy, SquareLoss
from ravdl.neural_networks.optimizers import Adam
from ravdl.strategies import DataParallel, Sequential
from ravop.errors import ArgumentError, RavenError, UnsupportedOnnxError

X = np.random.default_rng(3).normal(size=(8, 6)).astype(np.float32)
Y = np.random.default_rng(4).integers(0, 3, 8)


class Mixed(nn.Module):
    """A body that is no row of layers here, with a buffer, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.SiLU())
        self.register_buffer("shift", torch.arange(8.0) / 10)
        self.drop = nn.Dropout(0.25)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(self.features(x)) + self.shift)


def brought(module: nn.Module, inputs: Any = X, exporter: str = "legacy") -> NeuralNetwork:
    loss = SparseCategoricalCrossEntropy(from_logits=True)
    return from_torch(module, inputs, Adam(0.01), loss, metrics=[], exporter=exporter)


def trained(model: NeuralNetwork, x: Any = X) -> dict[str, np.ndarray[Any, Any]]:
    """The state after two steps."""
    R.Graph(name="fit")
    model.fit(x, Y, n_epochs=2, batch_size=8, save_model=True)
    found = model.to_torch_state_dict(R.run_local().__getitem__)
    return {name: value.numpy() for name, value in found.items()}


def moved(module: nn.Module, state: dict[str, Any]) -> set[str]:
    return {
        name for name, value in module.state_dict().items() if not np.array_equal(value.numpy(), state[name])
    }


@pytest.fixture(scope="module")
def mixed() -> Mixed:
    torch.manual_seed(1)
    return Mixed().eval()


def test_names_freezing_and_a_new_head(mixed: Mixed, tmp_path: Path) -> None:
    model = brought(mixed)
    assert [type(layer).__name__ for layer in model.layers] == ["Onnx", "Dense"]
    model.summary()
    everything = set(mixed.state_dict())
    state = trained(model)
    assert moved(mixed, state) == everything - {"shift"}

    model = brought(mixed)
    model.set_trainable(False, names=["features.*"])
    model.save(tmp_path / "frozen")
    for each in (model, load_model(tmp_path / "frozen")):
        assert moved(mixed, trained(each)) == {"fc.weight", "fc.bias"}
    with pytest.raises(ArgumentError, match=r"features.0.weight"):
        model.set_trainable(True, names=["feature.*"])
    model.set_trainable(True, names=["features.0.*"])
    assert {"features.0.weight", "features.0.bias"} <= moved(mixed, trained(model))

    model = brought(mixed)
    model.replace_head(Dense(5))
    assert model.output_shape == (5,)
    assert set(trained(model)) == everything - {"fc.weight", "fc.bias"}
    with pytest.raises(ArgumentError, match="no head"):
        brought(nn.Sequential(nn.Linear(6, 3), nn.SiLU())).replace_head(Dense(2))


def test_what_was_trained_goes_on_from_a_file_and_to_onnx(mixed: Mixed, tmp_path: Path) -> None:
    model = brought(mixed)
    trained(model)
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    path = model.get_onnx_model(str(tmp_path / "model"))
    other = load_onnx(path, Adam(), SquareLoss)
    assert {"features.0.weight", "features.1.running_mean"} <= set(other.weight_names)
    torch_module = Mixed().eval()
    torch_module.load_state_dict(again.to_torch_state_dict(), strict=True)
    assert int(again.to_torch_state_dict()["features.1.num_batches_tracked"]) == 2
    R.Graph(name="predict")
    for name, each in {"model": model, "again": again, "other": other}.items():
        each.predict(X).persist_op(name)
    found = R.run_local()
    with torch.no_grad():
        expected = torch_module(torch.from_numpy(X)).numpy()
    for value in found.values():
        np.testing.assert_allclose(value, expected, atol=1e-5)


def test_dropout_draws_the_same_each_time_and_over_shards(mixed: Mixed) -> None:
    losses = []
    for strategy in ("sequential", "data_parallel"):
        R.Graph(name=strategy)
        chosen = Sequential() if strategy == "sequential" else DataParallel(shards=2)
        brought(mixed).fit(X, Y, n_epochs=3, batch_size=8, strategy=chosen)
        found = R.run_local()
        losses.append([float(found[f"training_loss_epoch_{e}_batch_1"]) for e in (1, 2, 3)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.held = nn.Parameter(torch.ones(4), requires_grad=False)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, words: Tensor, scale: Tensor) -> Tensor:
        return self.head(self.embed(words).mean(1) * self.held * scale)


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
def test_ties_and_what_needs_no_gradient_stay(exporter: str) -> None:
    module = Tied().eval()
    words = np.random.default_rng(5).integers(0, 6, (8, 3))
    inputs = {"words": words, "scale": X[:, :1]}
    model = brought(module, {name: torch.from_numpy(value) for name, value in inputs.items()}, exporter)
    assert [port.name for port in model.network.inputs] == ["words", "scale"]
    assert model.network.inputs[0].dtype == np.int64
    state = trained(model, inputs)
    assert moved(module, state) == {"embed.weight", "head.weight"}
    np.testing.assert_array_equal(state["embed.weight"], state["head.weight"])
    module.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x - 1


class Scalar(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


class Text(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return x * 2, "two"


REFUSED: dict[str, tuple[Any, Any, type[RavenError], str]] = {
    "no module": (lambda x: x, X, ArgumentError, "torch.nn.Module"),
    "too many inputs": (nn.Linear(6, 2), (X, X), ArgumentError, "too many positional arguments"),
    "another name": (nn.Linear(6, 2), {"y": X}, ArgumentError, "forward(input"),
    "other sizes": (nn.Linear(5, 2), X, ArgumentError, "fails on the example inputs"),
    "no tensor": (nn.Linear(6, 2), "x", ArgumentError, "no tensor"),
    "no samples": (nn.Linear(6, 2), X[:0], ArgumentError, "at least one"),
    "output without batch": (Scalar(), X, ArgumentError, "first axis of an output"),
    "text": (Text(), X, ArgumentError, "str"),
    "branches on values": (Branches(), X, UnsupportedOnnxError, "Branches"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_brought_is_told(case: str) -> None:
    module, inputs, kind, words = REFUSED[case]
    with pytest.raises(kind) as caught:
        brought(module, inputs, "auto")
    assert words in str(caught.value)
    assert "test_from_torch_modules.py" in str(caught.value)
    assert len(str(caught.value)) < 3000


def test_without_pytorch_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ArgumentError, match="pip install"):
        from_torch(object(), X, Adam(), SquareLoss)
