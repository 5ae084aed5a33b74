"""Four providers behind lines of 20 Mbit/s and 50 ms: `LocalSGD(4, 100, transfer="int8")` against float32 in each step.

`python -m benchmarks network`; see `benchmarks.lines` for what it needs. The coordinator is outside. The network is "CNN
3×32×32" of `benchmarks.training` with batches of 64 for each provider. Measured is between two moments at which the
coordinator has taken in steps, after the data has been shipped:
- bytes: what the four lines carried both ways, with all headers, divided by the steps of a worker. For `DataParallel(4)`,
  which exchanges each step, the lines are fast ones: on slow lines the coordinator leaves such steps to one provider, and
  the bytes of an exchange do not depend on the line;
- computing: every 50 ms each provider's worker is looked at: the share of looks in which a thread of it runs or could
  run. (Four workers share this machine's cores, so CPU time would say what the machine has, not what the lines leave.)
- loss: of a perceptron on data with noise, after the same number of samples, in one process: what the strategy does
  to the result does not depend on where it runs.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import ravop as R
from benchmarks import training
from benchmarks.laboratory import Process, cancel, empty, measured, serving
from benchmarks.lines import HUB_ADDRESS, lines, missing
from benchmarks.report import Row
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import Activation, Dense
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam
from ravdl.strategies import DataParallel, LocalSGD, Strategy

WORKERS = 4
BITS, DELAY = 20e6, 0.05
FAST = 1e9, 0.001
"""A line on which the coordinator lets providers exchange each step."""
BATCH = 64
"""Of each worker."""
SYNC_EVERY = 100
EPOCHS = 1_000
LOCAL = LocalSGD(WORKERS, SYNC_EVERY, transfer="int8")
EACH_STEP = DataParallel(WORKERS)
LOOK_SECONDS = 0.05
NETWORK = training.NETWORKS["CNN 3×32×32, batch 64"]


@dataclass(frozen=True)
class Found:
    steps: float
    """Of a worker."""
    seconds: float
    carried: int
    """Bytes."""
    computing: float
    """Share of the time."""

    @property
    def bytes_a_step(self) -> float:
        return self.carried / self.steps


@dataclass
class Looks:
    """How often workers were looked at, and how often one of their threads could run."""

    workers: list[int]
    looks: int = 0
    busy: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.done.wait(LOOK_SECONDS):
            self.looks += len(self.workers)
            self.busy += sum(map(_runs, self.workers))

    @property
    def share(self) -> float:
        return self.busy / max(1, self.looks)


def _runs(pid: int) -> bool:
    """Whether a thread of the process runs or waits for a core alone."""
    for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            if thread.read_text().rpartition(")")[2].split()[0] == "R":
                return True
        except OSError:  # it has ended
            continue
    return False


def run(
    strategy: Strategy, batches: int, warm_up: float, seconds: float, bits: float = BITS, delay: float = DELAY
) -> Found:
    """Train with the strategy over the lines; `batches`: of each worker in an epoch."""
    with empty(HUB_ADDRESS) as lab, lines(lab, WORKERS, bits, delay) as found, serving(lab):
        token = lab.token("provider", "volunteers")
        volunteers = [lab.provider(token, line.namespace, prefix=line.prefix) for line in found]
        graph = define(strategy, batches)
        R.activate()
        R.execute()
        looks = Looks([_worker(process) for process in volunteers])
        looking = threading.Thread(target=looks.run)
        carried: list[int] = []

        def at(end: int) -> None:
            carried.append(sum(line.carried() for line in found))
            if end:
                looks.done.set()
            else:
                looking.start()

        try:
            span = measured(graph, warm_up, seconds, at)
        finally:
            looks.done.set()
        cancel(graph)
        looking.join()
        steps = span.share * EPOCHS * batches
        return Found(steps, span.seconds, carried[1] - carried[0], looks.share)


def _worker(provider: Process) -> int:
    """The process that computes."""
    return int(max(provider.children(), key=lambda child: child.memory_info().rss).pid)


def define(strategy: Strategy, batches: int) -> R.Graph:
    graph = R.Graph(name="slow lines")
    model = NeuralNetwork(Adam(), CrossEntropy, metrics=())
    for layer in (*NETWORK.ours(), Activation("softmax")):
        model.add(layer)
    random = np.random.default_rng(0)
    count = WORKERS * BATCH * batches
    x = random.normal(size=(count, *NETWORK.shape)).astype(np.float32)
    model.fit(
        x, random.integers(0, training.CLASSES, count), n_epochs=EPOCHS, batch_size=_batch(strategy, BATCH),
        strategy=strategy,
    )  # fmt: skip
    return graph


def _batch(strategy: Strategy, each: int) -> int:
    """`batch_size` such that each worker gets so many samples a step."""
    return each if isinstance(strategy, LocalSGD) else each * WORKERS


# ── what it does to the result ──────────────────────────────────────────────────────────────────────────────
SAMPLES, FEATURES, LOSS_BATCH, LOSS_EPOCHS = 25_600, 32, 16, 10
NOISE = 0.2
"""Of the labels are random: so the loss ends where no training gets below."""


def final_loss(strategy: Strategy) -> float:
    """Over all samples, after the training."""
    R.Graph(name="final loss")
    random = np.random.default_rng(1)
    x = random.normal(size=(SAMPLES, FEATURES)).astype(np.float32)
    labels = np.argmax(np.tanh(x @ random.normal(size=(FEATURES, 16))) @ random.normal(size=(16, 4)), axis=1)
    wrong = random.random(SAMPLES) < NOISE
    labels[wrong] = random.integers(0, 4, int(wrong.sum()))
    model = NeuralNetwork(Adam(learning_rate=0.001), CrossEntropy, metrics=())
    for layer in (Dense(64, input_shape=(FEATURES,)), Activation("relu"), Dense(4), Activation("softmax")):
        model.add(layer)
    model.fit(x, labels, n_epochs=LOSS_EPOCHS, batch_size=_batch(strategy, LOSS_BATCH), strategy=strategy)
    model.test_on_batch(x, labels).persist_op("final")
    return float(R.run_local()["final"])


def rows() -> list[Row]:
    lacking = missing()
    if lacking:
        return [Row("four providers at 20 Mbit/s and 50 ms", "not measured", "report", lacking)]
    local = run(LOCAL, batches=SYNC_EVERY, warm_up=1.0, seconds=60.0)
    each = run(EACH_STEP, 8, 1.0, 30.0, *FAST)
    losses = [final_loss(strategy) for strategy in (LOCAL, EACH_STEP)]
    what = f"LocalSGD({WORKERS}, {SYNC_EVERY}, int8) against float32 each step, {WORKERS} providers at 20 Mbit/s and 50 ms"
    return [
        Row(
            f"{what}: bytes a step", f"1/{each.bytes_a_step / local.bytes_a_step:,.0f}", "≤ 1/100",
            f"{local.bytes_a_step:,.0f} against {each.bytes_a_step:,.0f}; over {local.steps:.0f} and {each.steps:.0f} steps",
        ),
        Row(
            "share of the time spent computing", f"{local.computing:.0%}", "≥ 90 %",
            f"a step {local.seconds / local.steps * 1e3:,.0f} ms; float32 each step would carry a worker's bytes in "
            f"{8 * each.bytes_a_step / WORKERS / 2 / BITS * 1e3:,.0f} ms or more",
        ),
        Row(
            "final loss after the same samples", f"{losses[0] / losses[1] - 1:+.2%}", "within 1 %",
            f"{losses[0]:.4f} against {losses[1]:.4f}",
        ),
    ]  # fmt: skip
