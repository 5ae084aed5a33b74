"""What the coordinator and a provider cost: the same training through them and in the engine alone, and the first result.

`python -m benchmarks overhead`. One provider with one thread; a run of 20 s or more.
"""

from __future__ import annotations

import time

import numpy as np
from sklearn.datasets import load_digits

import ravop as R
from benchmarks.cluster import cluster, seconds_to_run
from benchmarks.report import Row
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPooling2D,
)
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam
from ravdl.strategies import Sequential, Strategy
from ravop.graph import Graph

SECONDS = 22.0
ROUNDS = 3
BATCH = 32
SEQUENTIAL = Sequential()


def define(epochs: int, strategy: Strategy = SEQUENTIAL) -> Graph:
    """The digits CNN's training as the current graph."""
    graph = R.Graph(name="digits")
    digits = load_digits()
    model = NeuralNetwork(Adam(), CrossEntropy)
    for layer in (
        Conv2D(16, (3, 3), input_shape=(1, 8, 8)), BatchNormalization(), Activation("relu"), MaxPooling2D((2, 2), stride=2),
        Conv2D(32, (3, 3)), BatchNormalization(), Activation("relu"), MaxPooling2D((2, 2), stride=2), Flatten(), Dense(256),
        Activation("relu"), Dropout(0.4), Dense(10), Activation("softmax"),
    ):  # fmt: skip
        model.add(layer)
    images = (digits.images[:, None] / 16).astype(np.float32)
    model.fit(images, digits.target, n_epochs=epochs, batch_size=BATCH, save_model=True, strategy=strategy)
    return graph


def local_seconds() -> float:
    start = time.perf_counter()
    R.run_local()
    return time.perf_counter() - start


def first_loss_seconds(graph: Graph) -> float:
    """From before `activate` until the first loss can be fetched."""
    start = time.perf_counter()
    R.activate()
    R.execute()
    while True:
        try:
            R.fetch("training_loss_epoch_1_batch_1", graph)
            return time.perf_counter() - start
        except R.errors.NotComputedError:
            time.sleep(0.002)


def rows() -> list[Row]:
    define(2)
    local_seconds()
    define(10)
    epochs = max(10, round(10 * SECONDS / local_seconds()))
    ratios, through = [], []
    with cluster(providers=1):
        for _ in range(ROUNDS):
            define(epochs)
            alone = local_seconds()
            define(epochs)
            R.activate()
            through.append(seconds_to_run())
            ratios.append(through[-1] / alone)
        firsts = []
        for _ in range(ROUNDS):
            graph = define(20)
            firsts.append(first_loss_seconds(graph))
            R.track_progress()
    ratios.sort()
    middle = ROUNDS // 2
    return [
        Row(
            f"digits CNN, {epochs} epochs, coordinator and one provider against the engine alone",
            f"{ratios[middle] - 1:+.1%} time", "≤ +10 %",
            f"{ratios[0] - 1:+.1%} to {ratios[-1] - 1:+.1%}; runs of {min(through):.0f} s or more",
        ),
        Row("from activate to the first persisted loss, digits CNN, warm cluster", f"{sorted(firsts)[middle]:.2f} s", "report"),
    ]  # fmt: skip
