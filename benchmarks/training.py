"""A training step in the engine against the same step in PyTorch eager, one thread each. `python -m benchmarks.training`.

A step is forward, backward and Adam. Ours is `NeuralNetwork.fit`, steps inside one `Scan` of one session; theirs is a
Python loop with fused Adam. Both are measured in turn, and the figure is the ratio of the medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import click
import numpy as np
import torch
from torch import nn

import ravop as R
from benchmarks.report import Row, paired, ratio, table
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPooling2D,
)
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam
from ravop.engine import Session
from ravop.graph.serde import to_bytes
from ravop.protocol.tensors import Array

ROUNDS = 15
CLASSES = 10


@dataclass(frozen=True)
class Network:
    """The same network twice, and how much faster ours is to be."""

    batch: int
    shape: tuple[int, ...]
    """Of one sample."""
    ours: Callable[[], list[Layer]]
    """Up to the logits."""
    theirs: Callable[[], list[nn.Module]]
    goal: float
    steps: int
    """In one measurement, so that it takes about a fifth of a second."""


def _dense(sizes: tuple[int, ...]) -> tuple[Callable[[], list[Layer]], Callable[[], list[nn.Module]]]:
    """A perceptron with ReLU between its layers."""
    pairs = list(pairwise(sizes))

    def ours() -> list[Layer]:
        layers = [layer for a, b in pairs for layer in (Dense(b, input_shape=(a,)), Activation("relu"))]
        return layers[:-1]

    def theirs() -> list[nn.Module]:
        return [layer for a, b in pairs for layer in (nn.Linear(a, b), nn.ReLU())][:-1]

    return ours, theirs


def _digits_ours() -> list[Layer]:
    return [
        Conv2D(16, (3, 3), input_shape=(1, 8, 8)), BatchNormalization(), Activation("relu"), MaxPooling2D((2, 2), stride=2),
        Conv2D(32, (3, 3)), BatchNormalization(), Activation("relu"), MaxPooling2D((2, 2), stride=2), Flatten(), Dense(256),
        Activation("relu"), Dropout(0.4), Dense(CLASSES),
    ]  # fmt: skip


def _digits_theirs() -> list[nn.Module]:
    return [
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 256), nn.ReLU(), nn.Dropout(0.4),
        nn.Linear(256, CLASSES),
    ]  # fmt: skip


def _images_ours() -> list[Layer]:
    return [
        Conv2D(32, (3, 3), input_shape=(3, 32, 32)), Activation("relu"), MaxPooling2D((2, 2), stride=2), Conv2D(64, (3, 3)),
        Activation("relu"), MaxPooling2D((2, 2), stride=2), Flatten(), Dense(128), Activation("relu"), Dense(CLASSES),
    ]  # fmt: skip


def _images_theirs() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4096, 128), nn.ReLU(), nn.Linear(128, CLASSES),
    ]  # fmt: skip


NETWORKS = {
    "digits MLP 64-128-64-10, batch 32": Network(32, (64,), *_dense((64, 128, 64, CLASSES)), 2.5, 1000),
    "digits CNN, batch 32": Network(32, (1, 8, 8), _digits_ours, _digits_theirs, 1.3, 100),
    "digits CNN, batch 64": Network(64, (1, 8, 8), _digits_ours, _digits_theirs, 1.3, 60),
    "MLP 784-1024-1024-10, batch 128": Network(128, (784,), *_dense((784, 1024, 1024, CLASSES)), 0.95, 50),
    "CNN 3×32×32, batch 64": Network(64, (3, 32, 32), _images_ours, _images_theirs, 0.8, 5),
}


def data(network: Network) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    count = network.batch * network.steps
    return rng.normal(size=(count, *network.shape)).astype(np.float32), rng.integers(0, CLASSES, count)


def ours(network: Network) -> tuple[bytes, dict[str, Array]]:
    """The training graph as a model, and its inputs."""
    graph = R.Graph(name="benchmark")
    model = NeuralNetwork(Adam(), CrossEntropy, metrics=())
    for layer in (*network.ours(), Activation("softmax")):
        model.add(layer)
    x, y = data(network)
    model.fit(x, y, n_epochs=1, batch_size=network.batch, save_model=True)
    return to_bytes(graph.model()), graph.inputs


def theirs(network: Network) -> Callable[[], None]:
    model = nn.Sequential(*network.theirs()).train()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    loss_function = nn.CrossEntropyLoss()
    x, y = (torch.from_numpy(array) for array in data(network))
    batches = list(zip(x.split(network.batch), y.split(network.batch), strict=True))

    def run() -> None:
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss_function(model(inputs), targets).backward()
            optimizer.step()

    return run


def compare(network: Network, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of a step, PyTorch's and ours, measured in turn."""
    model, inputs = ours(network)
    session, their_run = Session(model), theirs(network)

    def timed(run: Callable[[], object]) -> float:
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) / network.steps

    session.run(inputs)
    their_run()
    return paired(lambda: timed(their_run), lambda: timed(lambda: session.run(inputs)), rounds)


def rows(names: Sequence[str] = (), rounds: int = ROUNDS) -> list[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = []
    for name in names or NETWORKS:
        network = NETWORKS[name]
        their_seconds, our_seconds = compare(network, rounds)
        low, middle, high = ratio(their_seconds, our_seconds)
        mine, torchs = (statistics.median(found) * 1e6 for found in (our_seconds, their_seconds))
        a_step = f"a step {mine:,.0f} µs, PyTorch {torchs:,.0f} µs"
        found.append(
            Row(name, f"{middle:.2f}× as fast", f"≥ {network.goal}×", f"{low:.2f} to {high:.2f}; {a_step}")
        )
    torch.set_num_threads(threads)
    return found


@click.command()
@click.argument("names", nargs=-1)
@click.option("--rounds", default=ROUNDS, show_default=True, help="Measurements of each.")
def main(names: tuple[str, ...], rounds: int) -> None:
    """Compare the networks whose names hold one of NAMES, by default all."""
    chosen = [name for name in NETWORKS if not names or any(part in name for part in names)]
    click.echo(table(rows(chosen, rounds)))


if __name__ == "__main__":
    main()
