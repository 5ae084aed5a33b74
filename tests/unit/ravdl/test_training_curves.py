"""With equal initial weights and data, training goes as PyTorch's does, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import Activation, BatchNormalization, Conv2D, Dense, Flatten, MaxPooling2D
from ravdl.neural_networks.loss_functions import CrossEntropy, Loss, SquareLoss
from ravdl.neural_networks.optimizers import Adam, Optimizer, RMSprop

SAMPLES, BATCH, EPOCHS = 73, 16, 10  # four full batches and one of nine: 50 steps
CLASSES = 4

OPTIMIZERS: dict[str, tuple[Callable[[], Optimizer], Callable[[Any], torch.optim.Optimizer]]] = {
    "adam": (Adam, lambda parameters: torch.optim.Adam(parameters, lr=0.001, betas=(0.9, 0.999), eps=1e-8)),
    "rmsprop": (
        lambda: RMSprop(0.002, rho=0.8),
        lambda parameters: torch.optim.RMSprop(parameters, lr=0.002, alpha=0.8, eps=1e-8),
    ),
}

LOSSES: dict[str, tuple[type[Loss], list[str], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "categorical": (CrossEntropy, ["softmax"], nn.functional.cross_entropy),
    "binary": (
        CrossEntropy,
        ["sigmoid"],
        lambda z, y: nn.functional.binary_cross_entropy_with_logits(
            z, nn.functional.one_hot(y, CLASSES).float()
        ),
    ),
    "square": (
        SquareLoss,
        [],
        lambda z, y: nn.functional.mse_loss(z, nn.functional.one_hot(y, CLASSES).float()),
    ),
}


def mlp() -> list[Any]:
    # No bias before a batch norm: its gradient is rounding noise, which Adam would blow up to steps of full size.
    return [
        Dense(24, input_shape=(12,), use_bias=False),
        BatchNormalization(0.9),
        Activation("relu"),
        Dense(16),
        Activation("tanh"),
        Dense(CLASSES),
    ]


def cnn() -> list[Any]:
    return [
        Conv2D(6, (3, 3), input_shape=(2, 8, 8), use_bias=False),
        BatchNormalization(0.9),
        Activation("relu"),
        MaxPooling2D((2, 2), 2, padding="valid"),
        Conv2D(8, 3, padding="valid"),
        Activation("sigmoid"),
        BatchNormalization(0.95),
        Flatten(),
        Dense(CLASSES),
    ]


MODELS = {"mlp": (mlp, (12,)), "cnn": (cnn, (2, 8, 8))}


def data(shape: tuple[int, ...], seed: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((samples, *shape)), rng.integers(0, CLASSES, samples)


def torch_losses(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Any,
    x: torch.Tensor,
    y: torch.Tensor,
    held_out: Any,
) -> Iterator[tuple[list[float], float]]:
    """For each epoch its batches' losses and the loss on the held-out data after it."""
    for _ in range(EPOCHS):
        net.train()
        batches = []
        for start in range(0, len(x), BATCH):
            optimizer.zero_grad()
            value = loss(net(x[start : start + BATCH]), y[start : start + BATCH])
            value.backward()
            optimizer.step()
            batches.append(value.item())
        net.eval()
        with torch.no_grad():
            yield batches, loss(net(held_out[0]), held_out[1]).item()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_fifty_steps_as_pytorch(
    model: str, optimizer: str, loss: str, graph: R.Graph, torch_twin: Callable[..., nn.Sequential]
) -> None:
    make, shape = MODELS[model]
    loss_class, last, torch_loss = LOSSES[loss]
    ours, theirs = OPTIMIZERS[optimizer]
    network = NeuralNetwork(ours(), loss_class, seed=5)
    for layer in make() + [Activation(name) for name in last]:
        network.add(layer)
    twin = torch_twin(network, len(network.layers) - len(last))

    x, labels = data(shape, 1, SAMPLES)
    x_held, labels_held = data(shape, 2, 300)
    one_hot = np.eye(CLASSES)
    y, y_held = (labels, labels_held) if loss == "categorical" else (one_hot[labels], one_hot[labels_held])
    history = network.fit(x, y, EPOCHS, BATCH, save_model=True, validation_data=(x_held, y_held))
    results = R.run_local()
    history.read_from(results.__getitem__)

    float32 = [torch.tensor(a, dtype=torch.float32) for a in (x, x_held)]
    reference = list(
        torch_losses(
            twin,
            theirs(twin.parameters()),
            torch_loss,
            float32[0],
            torch.tensor(labels),
            (float32[1], torch.tensor(labels_held)),
        )
    )
    np.testing.assert_allclose(history.by_batch(), [batches for batches, _ in reference], rtol=1e-4)
    np.testing.assert_allclose(history.val_loss, [value for _, value in reference], rtol=1e-4)

    found = dict(zip(network.weight_names, network.fetch_weights(results.__getitem__), strict=True))
    norms = [m for m in twin if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for number, module in enumerate(norms, 1):
        for ours_name, theirs_value in (
            ("running_mean", module.running_mean),
            ("running_var", module.running_var),
        ):
            value = found[f"BatchNormalization_{number}_{ours_name}"]
            np.testing.assert_allclose(value, theirs_value.numpy(), rtol=1e-4, atol=1e-5)


def test_epoch_means_are_means_over_samples(graph: R.Graph) -> None:
    network = NeuralNetwork(Adam(), CrossEntropy)
    for layer in [*mlp(), Activation("softmax")]:
        network.add(layer)
    x, y = data((12,), 1, SAMPLES)
    history = network.fit(x, y, 3, BATCH)
    history.read_from(R.run_local().__getitem__)
    sizes = np.array([BATCH] * 4 + [SAMPLES - 4 * BATCH])
    for key in ("loss", "accuracy"):
        np.testing.assert_allclose(history[key], history.by_batch(key) @ sizes / SAMPLES, rtol=1e-5)
    counts = history.by_batch("accuracy") * sizes
    np.testing.assert_allclose(counts, counts.round(), atol=1e-4)
