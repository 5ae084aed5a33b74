"""Every layer through one battery: shapes, dtype, values and gradients against PyTorch, config and pickle."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import ravop as R
from ravdl.neural_networks.initializers import generator_for
from ravdl.neural_networks.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPooling2D,
    Moment,
    layer_from,
)

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    make: Callable[[], Layer]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    torch: Callable[[torch.Tensor, Tensors, bool], torch.Tensor]
    """(x, weights, training) → output; may move the running statistics among the weights."""


def pooled(pads: tuple[int, int, int, int], size: Any, stride: Any) -> Callable[..., torch.Tensor]:
    """Pads are (left, right, top, bottom), as PyTorch's."""
    return lambda x, w, training: F.max_pool2d(F.pad(x, pads, value=-math.inf), size, stride)


def convolved(pads: tuple[int, int, int, int] = (0, 0, 0, 0), **kwargs: Any) -> Callable[..., torch.Tensor]:
    return lambda x, w, training: F.conv2d(F.pad(x, pads), w["W"], w.get("w0"), **kwargs)


def normalised(momentum: float, epsilon: float) -> Callable[..., torch.Tensor]:
    return lambda x, w, training: F.batch_norm(
        x, w["running_mean"], w["running_var"], w["gamma"], w["beta"], training, 1 - momentum, epsilon
    )


CASES = {
    "dense": Case(lambda: Dense(5), (7,), (5,), lambda x, w, t: x @ w["W"] + w["w0"]),
    "dense without bias": Case(lambda: Dense(5, use_bias=False), (7,), (5,), lambda x, w, t: x @ w["W"]),
    "conv same": Case(lambda: Conv2D(4, (3, 3)), (3, 6, 5), (4, 6, 5), convolved(padding="same")),
    "conv same, even filter": Case(lambda: Conv2D(4, (2, 4)), (3, 6, 5), (4, 6, 5), convolved((1, 2, 0, 1))),
    "conv same, stride 2": Case(
        lambda: Conv2D(4, 3, stride=2), (3, 6, 5), (4, 3, 3), convolved((1, 1, 0, 1), stride=2)
    ),
    "conv valid": Case(lambda: Conv2D(4, (2, 3), padding="valid"), (3, 6, 5), (4, 5, 3), convolved()),
    "conv int padding, strides": Case(
        lambda: Conv2D(4, 3, padding=1, stride=(1, 2)), (3, 6, 5), (4, 6, 3), convolved(padding=1, stride=(1, 2))
    ),
    "conv sides": Case(
        lambda: Conv2D(2, 3, padding=((0, 1), (2, 0)), use_bias=False), (3, 6, 5), (2, 5, 5), convolved((2, 0, 0, 1))
    ),
    "conv groups": Case(lambda: Conv2D(4, 3, padding=1, groups=2), (6, 4, 4), (4, 4, 4), convolved(padding=1, groups=2)),
    "pool default": Case(lambda: MaxPooling2D(), (3, 4, 5), (3, 4, 5), pooled((0, 1, 0, 1), 2, 1)),
    "pool valid": Case(lambda: MaxPooling2D(2, 2, "valid"), (3, 5, 4), (3, 2, 2), pooled((0, 0, 0, 0), 2, 2)),
    "pool same, stride 2": Case(lambda: MaxPooling2D((3, 2), 2), (3, 5, 5), (3, 3, 3), pooled((0, 1, 1, 1), (3, 2), 2)),
    "pool int padding": Case(lambda: MaxPooling2D(3, 2, 1), (3, 5, 6), (3, 3, 3), pooled((1, 1, 1, 1), 3, 2)),
    "flatten": Case(lambda: Flatten(), (3, 4, 2), (24,), lambda x, w, t: x.flatten(1)),
    "relu": Case(lambda: Activation("relu"), (6,), (6,), lambda x, w, t: F.relu(x)),
    "sigmoid": Case(lambda: Activation("sigmoid"), (2, 3, 3), (2, 3, 3), lambda x, w, t: torch.sigmoid(x)),
    "tanh": Case(lambda: Activation("tanh"), (6,), (6,), lambda x, w, t: torch.tanh(x)),
    "softmax": Case(lambda: Activation("softmax"), (6,), (6,), lambda x, w, t: torch.softmax(x, -1)),
    "linear": Case(lambda: Activation("linear"), (6,), (6,), lambda x, w, t: 1 * x),
    "batch norm of rows": Case(lambda: BatchNormalization(0.8), (6,), (6,), normalised(0.8, 1e-5)),
    "batch norm of images": Case(
        lambda: BatchNormalization(0.9, 1e-3), (3, 4, 5), (3, 4, 5), normalised(0.9, 1e-3)
    ),
    "dropout of nothing": Case(lambda: Dropout(0), (6,), (6,), lambda x, w, t: 1 * x),
}  # fmt: skip


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_pytorchs(
    name: str, training: bool, graph: R.Graph, rng: np.random.Generator
) -> None:
    case = CASES[name]
    layer = case.make()
    layer.build("L", case.input_shape)
    assert layer.output_shape == case.output_shape

    x = rng.standard_normal((4, *case.input_shape)).astype(np.float32)
    arrays = {
        spec.name: (0.5 + rng.random(spec.shape)).astype(np.float32) - 0.8 * (spec.name != "running_var")
        for spec in layer.weights()
    }
    cotangent = rng.standard_normal((4, *case.output_shape)).astype(np.float32)

    ops = {key: R.t(value) for key, value in arrays.items()}
    op = R.t(x)
    y, moved = layer.train(op, ops, Moment(0, R.t(0))) if training else (layer.call(op, ops), {})
    assert (y.shape, y.dtype) == ((4, *case.output_shape), np.float32)
    y.persist_op("y")
    wanted = [op, *(ops[spec.name] for spec in layer.weights() if spec.trainable)]
    for number, gradient in enumerate(R.grad(R.sum(y * cotangent), wanted)):
        gradient.persist_op(f"gradient {number}")
    for key, value in moved.items():
        value.persist_op(key)
    results = R.run_local()

    trainable = [spec.name for spec in layer.weights() if spec.trainable]
    tensors = {key: torch.tensor(value, requires_grad=key in trainable) for key, value in arrays.items()}
    tx = torch.tensor(x, requires_grad=True)
    ty = case.torch(tx, tensors, training)
    (ty * torch.tensor(cotangent)).sum().backward()

    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(results["y"], ty.detach().numpy(), **close)
    for number, tensor in enumerate([tx, *(tensors[key] for key in trainable)]):
        np.testing.assert_allclose(results[f"gradient {number}"], tensor.grad.numpy(), **close)
    for key in moved:
        np.testing.assert_allclose(results[key], tensors[key].numpy(), **close)
    assert set(moved) == ({"running_mean", "running_var"} if training and "gamma" in arrays else set())


@pytest.mark.parametrize("name", CASES)
def test_config_and_pickle_make_the_same_layer(name: str) -> None:
    layer = CASES[name].make()
    twin = layer_from(type(layer).__name__, layer.config())
    layer.build("L", CASES[name].input_shape)
    twin.build("L", CASES[name].input_shape)
    back = pickle.loads(pickle.dumps(layer))
    for other in (twin, back):
        assert other.config() == layer.config()
        assert other.output_shape == layer.output_shape
        for a, b in zip(other.weights(), layer.weights(), strict=True):
            assert (a.name, a.shape, a.trainable) == (b.name, b.shape, b.trainable)
            first, second = (spec.initializer(spec.shape, generator_for(3, "L")) for spec in (a, b))
            np.testing.assert_array_equal(first, second)


def dropped(graph: R.Graph, p: float, seed: int, step: int, name: str = "Dropout_1") -> np.ndarray:
    layer = Dropout(p)
    layer.build(name, (500,))
    y, _ = layer.train(R.ones((200, 500)), {}, Moment(seed, R.t(step)))
    y.persist_op(f"{p} {seed} {step} {name}")
    return y


def test_dropout_keeps_the_mean_and_drops_the_share(graph: R.Graph) -> None:
    for p in (0.2, 0.9):
        dropped(graph, p, 1, 1)
    results = R.run_local()
    for p in (0.2, 0.9):
        y = results[f"{p} 1 1 Dropout_1"]
        np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - p)], rtol=1e-6)
        assert abs((y == 0).mean() - p) < 0.005
        # Neither rows nor columns are favoured: binomial, five deviations.
        assert abs((y == 0).mean(axis=0) - p).max() < 5 * math.sqrt(p * (1 - p) / 200)
        assert abs((y == 0).mean(axis=1) - p).max() < 5 * math.sqrt(p * (1 - p) / 500)


def test_dropout_masks_depend_on_seed_step_and_layer_alone(graph: R.Graph) -> None:
    keys = [(1, 1, "Dropout_1"), (1, 2, "Dropout_1"), (2, 1, "Dropout_1"), (1, 1, "Dropout_2")]
    for key in keys:
        dropped(graph, 0.5, *key)
    results = R.run_local()
    masks = [results[f"0.5 {seed} {step} {name}"] > 0 for seed, step, name in keys]
    for i, mask in enumerate(masks):
        for other in masks[:i]:
            assert abs((mask == other).mean() - 0.5) < 0.01

    R.Graph(seed=99)
    R.random_uniform(size=(3,)).persist_op("something before it")
    dropped(graph, 0.5, 1, 1)
    np.testing.assert_array_equal(R.run_local()["0.5 1 1 Dropout_1"] > 0, masks[0])


def test_dropout_passes_gradients_of_what_it_kept(graph: R.Graph) -> None:
    layer = Dropout(0.5)
    layer.build("Dropout_1", (50,))
    x = R.ones((20, 50)) * 1.0
    y, _ = layer.train(x, {}, Moment(1, R.t(1)))
    y.persist_op("y")
    R.grad(R.sum(y), x).persist_op("gradient")
    results = R.run_local()
    np.testing.assert_array_equal(results["gradient"], results["y"])


def test_initializers_have_the_variance_of_their_papers() -> None:
    layer = Dense(300, initializer="he_normal")
    layer.build("Dense_1", (200,))
    he = layer.weights()[0].initializer((200, 300), generator_for(0, "a"))
    assert he.dtype == np.float32
    assert abs(he.var() / (2 / 200) - 1) < 0.02
    convolution = Conv2D(40, 5)
    convolution.build("Conv2D_1", (30, 8, 8))
    spec = convolution.weights()[0]
    glorot = spec.initializer(spec.shape, generator_for(0, "a"))
    assert abs(glorot.var() / (2 / (30 * 25 + 40 * 25)) - 1) < 0.02
    assert abs(glorot).max() <= math.sqrt(6 / (30 * 25 + 40 * 25))
    assert not np.array_equal(he, layer.weights()[0].initializer((200, 300), generator_for(1, "a")))
