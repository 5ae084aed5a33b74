"""How fast a script defines ops, and how large a training graph is. `python -m benchmarks graphs`."""

from __future__ import annotations

import statistics
import time

import numpy as np

import ravop as R
from benchmarks.report import Row
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import Activation, Dense
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam
from ravop.graph.serde import to_bytes

ROWS, OPS_IN_ROW = 4_000, 6
ROUNDS = 5


def ops_per_second() -> float:
    """Ops of six kinds in turn, each with dtype and shape inferred."""
    R.Graph(name="speed")
    x = R.t(np.ones((8, 16)))
    w = R.t(np.ones((16, 16)))
    start = time.perf_counter()
    for _ in range(ROWS):
        y = R.relu(x @ w)
        x = R.reshape(y + 1.0, (8, 16)) - R.mean(y)
    return ROWS * OPS_IN_ROW / (time.perf_counter() - start)


def training_graph_bytes(epochs: int) -> int:
    """Size of the model that trains a perceptron for so many epochs."""
    graph = R.Graph(name="size")
    model = NeuralNetwork(Adam(), CrossEntropy)
    for layer in (Dense(32, input_shape=(16,)), Activation("relu"), Dense(4), Activation("softmax")):
        model.add(layer)
    data = np.random.default_rng(0)
    model.fit(
        data.random((100, 16)), data.integers(0, 4, 100), n_epochs=epochs, batch_size=32, save_model=True
    )
    return len(to_bytes(graph.model()))


def rows() -> list[Row]:
    speeds = [ops_per_second() for _ in range(ROUNDS)]
    small, large = training_graph_bytes(5), training_graph_bytes(5_000)
    return [
        Row("ops defined per second, shapes inferred", f"{statistics.median(speeds):,.0f}", "≥ 20,000",
            f"best of {ROUNDS}: {max(speeds):,.0f}"),
        Row("training graph of 5,000 epochs against 5", f"{large:,} / {small:,} bytes",
            "equal within 1 %", f"{large / small - 1:+.2%}"),
    ]  # fmt: skip
