"""Whatever a graph looks like, its results from providers are those of one session in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from coordinators import serving

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.callbacks import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
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
from ravdl.neural_networks.optimizers import Adam, AdamW
from ravdl.neural_networks.schedules import CosineDecay
from ravdl.strategies import DataParallel, LocalSGD, Strategy
from ravop.protocol import messages as m

RNG = np.random.default_rng(11)
SMALL = RNG.normal(size=(4, 4)).astype(np.float32)
LARGE = RNG.normal(size=(300, 300)).astype(np.float32)


def wide() -> None:
    x = R.t(LARGE)
    branches = [R.tanh(x @ (LARGE * scale)) for scale in np.linspace(0.01, 0.1, 9)]
    for number, branch in enumerate(branches):
        branch.persist_op(f"branch_{number}")
    R.mean(R.stack(*branches), axis=0).persist_op("mean")


def nested_scans() -> None:
    weights = R.t(SMALL)

    def inner(c: R.Op, x: R.Op) -> tuple[R.Op, R.Op]:
        c = R.tanh(c @ weights + x)
        return c, R.sum(c)

    def outer(c: R.Op, xs: R.Op) -> tuple[R.Op, R.Op]:
        c, sums = R.scan(inner, c, xs)
        return c * 0.5, sums

    last, table = R.scan(outer, R.t(SMALL), RNG.normal(size=(5, 7, 4)).astype(np.float32))
    table.persist_each("sum_{}_{}", first=(1, 1)).persist_op("table")
    (last + 1).persist_op("last")


def scans_side_by_side() -> None:
    def walk(scale: float) -> R.Op:
        return R.scan(lambda c, x: (c * scale + x, c), R.t(0.0), np.arange(30, dtype=np.float32))[1]

    left, right = walk(0.5), walk(-0.9)
    (left * right).persist_op("product")
    R.scan(lambda c, x: (c + x, None), R.t(0.0), left - right)[0].persist_op("sum")


def random_numbers() -> None:
    def step(c: R.Op, _: None) -> tuple[R.Op, R.Op]:
        noise = R.random_normal(size=(3,))
        return c + noise, R.bernoulli(0.3, size=(5,))

    total, flips = R.scan(step, R.t([0.0, 0.0, 0.0]), length=4)
    total.persist_op("total")
    flips.persist_op("flips")
    R.random_uniform(size=(100, 100)).persist_op("uniform")


def gradients_through_a_loop() -> None:
    start = R.t(SMALL)
    last, _ = R.scan(
        lambda c, x: (R.tanh(c @ c + x), None), start, RNG.normal(size=(6, 4)).astype(np.float32)
    )
    loss = R.mean(R.square(last)).persist_op("loss")
    R.grad(loss, start).persist_op("gradient")


def functions_and_dtypes() -> None:
    twice = R.function(lambda x: (x * 2, R.sum(x)))
    doubled, total = twice(R.t(np.arange(6, dtype=np.float64).reshape(2, 3), "float64"))
    doubled.persist_op("float64")
    twice(R.t([1, 2, 3]))[0].persist_op("int64")
    (total > 3).persist_op("bool")
    R.astype(total, "float16").persist_op("float16")
    R.t(np.arange(5, dtype=np.uint8), "uint8").persist_op("uint8")


def branches_and_loops_with_an_end() -> None:
    x = R.t(SMALL)
    chosen = R.cond(R.sum(x) > 100, lambda x: x * 2, lambda x: R.tanh(x) + R.random_uniform(), x)
    chosen.persist_op("chosen")
    halved = R.while_loop(lambda c: R.max(R.abs(c)) > 0.1, lambda c: c * 0.5 @ SMALL * 0.3, chosen)
    halved.persist_op("halved")
    R.map(lambda row: R.while_loop(lambda c: c < 9, lambda c: c * 2, R.sum(R.square(row)) + 1), x).persist_op(
        "map"
    )


def matrices_and_learners() -> None:
    x = R.t(SMALL)
    whole = R.matmul(x, x.T) + R.eye(4)
    R.solve(whole, x).persist_op("solution")
    R.svd(x, compute_uv=False).persist_op("singular values")
    R.grad(R.slogdet(whole)[1], x).persist_op("gradient")
    R.logistic_regression(x, [0, 1, 1, 0]).predict_proba(x).persist_op("probabilities")
    R.kmeans(x, 2).labels.persist_op("clusters")


def lengths_that_are_computed() -> None:
    x = R.t(RNG.normal(size=(50, 3)).astype(np.float32))
    chosen = x[R.sum(x, axis=1) > 0]
    chosen.persist_op("chosen")
    R.sum(chosen, axis=0).persist_op("sum")
    R.unique(R.round(x[:, 0])).persist_op("unique")


def nothing_and_infinity() -> None:
    R.t(np.zeros((0, 3), np.float32)).persist_op("empty")
    odd = R.t([np.nan, np.inf, -np.inf, 0.0])
    (odd * 2).persist_op("odd")
    R.scan(lambda c, x: (c + x, c), R.t(np.nan), odd)[1].persist_op("through a loop")


def training(strategy: Strategy | str = "auto") -> None:
    network = NeuralNetwork(Adam(), CrossEntropy, seed=2, metrics=["accuracy"])
    for layer in (
        Conv2D(4, 3, input_shape=(1, 8, 8)), BatchNormalization(), Activation("relu"), MaxPooling2D(2, 2), Dropout(0.2),
        Flatten(), Dense(3), Activation("softmax"),
    ):  # fmt: skip
        network.add(layer)
    x, y = RNG.normal(size=(70, 1, 8, 8)).astype(np.float32), RNG.integers(0, 3, 70)
    held_out = x[:20], y[:20]
    network.fit(x, y, 3, 16, save_model=True, shuffle=True, validation_data=held_out, strategy=strategy)
    network.predict(x).persist_op("prediction")


def training_in_shards() -> None:
    training(DataParallel(2))


def training_side_by_side() -> None:
    training(LocalSGD(2, 1, transfer="int8"))


def training_that_stops(strategy: Strategy | str = "auto") -> None:
    optimizer = AdamW(CosineDecay(0.01, 50), accumulate=2, global_clip_norm=0.5)
    network = NeuralNetwork(optimizer, CrossEntropy, seed=2)
    for layer in (Dense(8, input_shape=(6,)), Dense(3), Activation("softmax")):
        network.add(layer)
    callbacks = [
        EarlyStopping("loss", patience=2, min_delta=1e9, restore_best_weights=True),
        ReduceLROnPlateau("loss", patience=1, min_delta=1e9),
        ModelCheckpoint("never written", "loss"),
    ]
    x, y = RNG.normal(size=(40, 6)).astype(np.float32), RNG.integers(0, 3, 40)
    network.fit(x, y, 6, 16, save_model=True, strategy=strategy, callbacks=callbacks)


def training_in_shards_that_stops() -> None:
    training_that_stops(DataParallel(2))


GRAPHS: list[Callable[[], None]] = [
    wide, nested_scans, scans_side_by_side, random_numbers, gradients_through_a_loop, functions_and_dtypes,
    branches_and_loops_with_an_end, lengths_that_are_computed, nothing_and_infinity,
    matrices_and_learners, training, training_in_shards, training_side_by_side,
    training_that_stops, training_in_shards_that_stops,
]  # fmt: skip


CASES = [(define, 1.0) for define in GRAPHS] + [(define, 0.0) for define in GRAPHS[:-6]]
"""With the seconds that a subgraph should be worth: as usual, and cut at every op (of the last that is thousands)."""


@pytest.mark.parametrize(
    ("define", "unit_seconds"), CASES, ids=lambda value: getattr(value, "__name__", value)
)
async def test_distributed_results_are_those_of_one_session(
    define: Callable[[], None], unit_seconds: float, tmp_path: Path
) -> None:
    graph = R.Graph(name=define.__name__, seed=5, rules={"unit_seconds": unit_seconds})
    define()
    local = R.run_local(graph)
    async with (
        serving(tmp_path) as served,
        served.requester() as alice,
        served.provider("one", gflops=1e-3) as one,
        served.provider("two", gflops=1e-3) as two,
    ):
        one.keep_working()
        two.keep_working()
        graph_id = await alice.run(graph)
        ended = await alice.until(lambda info: info.state in ("done", "failed"))
        assert ended.state == "done", ended.problem
        names = list(graph.persisted)
        for name, value in zip(names, await alice.fetch(graph_id, *names), strict=True):
            wanted = local[name]
            assert (value.dtype, value.shape) == (wanted.dtype, wanted.shape), name
            np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5, err_msg=name)
        if define is nested_scans:
            fetched = await alice.call(m.Fetch(graph_id=graph_id, names=("sum_6_1",)))
            assert fetched.values[0].problem.code == "unknown_name"
            (element,) = await alice.fetch(graph_id, "sum_5_7")
            np.testing.assert_allclose(element, local["sum_5_7"], rtol=1e-4)
