"""One training on one and on two providers, and PyTorch DDP beside it; samples a second. `python -m benchmarks parallel`.

The network is "CNN 3×32×32" of `benchmarks.training`, batch 128, fused Adam or ours; every process has one thread. One
provider with `Sequential`; two with `DataParallel(2)`, which cut each batch; two with `LocalSGD(2)`, each with batches
of 128 of its own; PyTorch in one process, and DDP over gloo in two with half the batch each. All run in turn, in
several rounds; figures are medians, ratios medians of the rounds' ratios.

Ours is measured between two moments at which the coordinator has taken in steps, at least 20 seconds apart and after a
warm-up, so that starting and shipping the data are left out; then the graph is cancelled. PyTorch is measured over 150 steps
between barriers, after a warm-up. The ceiling is what the machine allows: two processes, each with the
bare engine and half the batch, side by side, against one process with the whole batch.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed
from processes import free_port
from torch import nn

import ravop as R
from benchmarks import training
from benchmarks.laboratory import cancel, laboratory, measured
from benchmarks.report import Row, ratio
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import Activation
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam
from ravdl.strategies import DataParallel, LocalSGD, Sequential, Strategy
from ravop.engine import Session

BATCH = 128
BATCHES = 192
"""In an epoch: about ten seconds of one core, 300 MB."""
EPOCHS = 1_000
"""More than are ever reached."""
SYNC_EVERY = 24
ROUNDS = 3
WARM_UP, SECONDS = 5.0, 20.0
NETWORK = training.NETWORKS["CNN 3×32×32, batch 64"]
STEPS = 150
"""Of PyTorch and the bare engine: about 20 seconds of one core."""
LONGEST = 300.0


def data(batches: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    count = BATCH * batches
    return rng.normal(size=(count, *NETWORK.shape)).astype(np.float32), rng.integers(
        0, training.CLASSES, count
    )


# ── ours ────────────────────────────────────────────────────────────────────────────────────────────────────
def ours(providers: int, strategy: Strategy) -> float:
    """Samples a second."""
    with laboratory() as (lab, _):
        token = lab.token("provider", "volunteers")
        for number in range(providers):
            lab.provider(token, f"p{number}", "--threads", "1")
        graph = define(strategy)
        R.activate()
        R.execute()
        span = measured(graph, WARM_UP, SECONDS)
        cancel(graph)
        return span.share * EPOCHS * BATCHES * BATCH / span.seconds


def define(strategy: Strategy) -> R.Graph:
    graph = R.Graph(name="parallel training")
    model = NeuralNetwork(Adam(), CrossEntropy, metrics=())
    for layer in (*NETWORK.ours(), Activation("softmax")):
        model.add(layer)
    x, y = data(BATCHES)
    model.fit(x, y, n_epochs=EPOCHS, batch_size=BATCH, save_model=True, strategy=strategy)
    return graph


# ── PyTorch ─────────────────────────────────────────────────────────────────────────────────────────────────
def theirs(processes: int) -> float:
    """Samples a second of all processes together."""
    return _together(_train, processes)


def _train(rank: int, processes: int, port: int, ready: Any, answers: Any) -> None:
    torch.set_num_threads(1)
    model: nn.Module = nn.Sequential(*NETWORK.theirs()).train()
    if processes > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        torch.distributed.init_process_group("gloo", rank=rank, world_size=processes)
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    loss_function = nn.CrossEntropyLoss()
    size = BATCH // processes
    x, y = (torch.from_numpy(array[rank * len(array) // processes :]) for array in data(BATCHES))
    batches = list(zip(x.split(size), y.split(size), strict=True))[:BATCHES]

    def steps(count: int) -> None:
        for number in range(count):
            inputs, targets = batches[number % len(batches)]
            optimizer.zero_grad()
            loss_function(model(inputs), targets).backward()
            optimizer.step()

    answers.put(_rate(steps, ready, size))


# ── the machine ─────────────────────────────────────────────────────────────────────────────────────────────
def engine(processes: int) -> float:
    """Samples a second of the bare engine in so many processes that share the batch but exchange nothing."""
    return _together(_run_engine, processes)


def _run_engine(rank: int, processes: int, port: int, ready: Any, answers: Any) -> None:
    size = BATCH // processes
    model, inputs = training.ours(dataclasses.replace(NETWORK, batch=size, steps=1))
    session = Session(model)

    def steps(count: int) -> None:
        for _ in range(count):
            session.run(inputs)

    answers.put(_rate(steps, ready, size))


def _rate(steps: Callable[[int], None], ready: Any, size: int) -> float:
    """Samples a second of this process; all processes do the same number of steps at the same time."""
    steps(3)
    ready.wait(LONGEST)
    start = time.perf_counter()
    steps(STEPS)
    ready.wait(LONGEST)
    return STEPS * size / (time.perf_counter() - start)


def _together(work: Callable[..., None], processes: int) -> float:
    """The sum of what the processes answer."""
    context = multiprocessing.get_context("spawn")
    ready, answers, port = context.Barrier(processes), context.Queue(), free_port()
    started = [
        context.Process(target=work, args=(rank, processes, port, ready, answers), daemon=True)
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    try:
        return float(sum(answers.get(timeout=LONGEST) for _ in started))
    finally:
        for process in started:
            process.kill()
            process.join()


# ── together ────────────────────────────────────────────────────────────────────────────────────────────────
ONE, SHARDS, LOCAL = (
    "one provider, Sequential",
    "two providers, DataParallel(2)",
    f"two providers, LocalSGD(2, {SYNC_EVERY})",
)
TORCH, DDP = "PyTorch, one process", "PyTorch DDP, two processes"
ENGINE, ENGINES = "the engine alone, one process", "the engine alone, two processes with half the batch"
MEASURES: dict[str, Callable[[], float]] = {
    ONE: lambda: ours(1, Sequential()),
    SHARDS: lambda: ours(2, DataParallel(2)),
    DDP: lambda: theirs(2),
    LOCAL: lambda: ours(2, LocalSGD(2, SYNC_EVERY)),
    TORCH: lambda: theirs(1),
    ENGINE: lambda: engine(1),
    ENGINES: lambda: engine(2),
}
RATIOS = [
    (SHARDS, ONE, "≥ 1.7×"), (LOCAL, ONE, "≥ 1.9×"), (SHARDS, DDP, "≥ 1.0×"), (LOCAL, DDP, "≥ 1.0×"),
    (ONE, TORCH, "report"), (DDP, TORCH, "report"), (ENGINES, ENGINE, "the machine's ceiling"),
]  # fmt: skip


def rows() -> list[Row]:
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for _ in range(ROUNDS):
        for name, measure in MEASURES.items():
            found[name].append(measure())
    rows = [
        Row(
            f"CNN 3×32×32, batch {BATCH}: {name}", f"{statistics.median(rates):,.0f} samples/s", "report",
            f"{min(rates):,.0f} to {max(rates):,.0f}",
        )
        for name, rates in found.items()
    ]  # fmt: skip
    for one, other, goal in RATIOS:
        low, middle, high = ratio(found[one], found[other])
        rows.append(
            Row(
                f"{one}, against {other}",
                f"{middle:.2f}×",
                goal,
                f"{low:.2f} to {high:.2f} in {ROUNDS} rounds",
            )
        )
    return rows
