"""Four providers behind lines of 20 Mbit/s and 50 ms: `LocalSGD(4, 100, transfer="int8")` against float32 in each step.

`python -m benchmarks network`; see `benchmarks.lines` for what it needs. The coordinator is outside. A convolutional
network of 66 thousand weights is trained on pictures of 16×16 with batches of 64 for each provider, all of one thread; 100
steps take some seconds, since the providers share this machine's cores. Measured is between two moments at which the
coordinator has taken in steps, after the data has been shipped and the chunks have grown:
- bytes: what the four lines carried both ways, with all headers, divided by the steps of a worker. For `DataParallel(4)`,
  which exchanges each step, the lines are fast ones, and only its second chunk counts: on slow lines, or when it has seen
  that four providers on few cores gain nothing, the coordinator leaves such steps to one provider, and the bytes of an
  exchange depend on neither;
- computing: every 50 ms each provider's worker is looked at: the share of looks in which a thread of it runs or could
  run. (Four workers share this machine's cores, so CPU time would say what the machine has, not what the lines leave.)
- loss: of a perceptron on data with noise, on samples held out, after the same number of samples trained on, in one
  process: what the strategy does to the result does not depend on where it runs. `LocalSGD` has its default outer optimizer.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

import ravop as R
from benchmarks import training
from benchmarks.laboratory import Process, cancel, empty, measured, serving
from benchmarks.lines import HUB_ADDRESS, lines, missing
from benchmarks.report import Row
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import Activation, Conv2D, Dense, Flatten, Layer, MaxPooling2D
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
BATCHES = 4 * SYNC_EVERY
"""Of each worker in an epoch: 26 MB that each provider fetches once, in ten seconds."""
EPOCHS = 1_000
LOCAL = LocalSGD(WORKERS, SYNC_EVERY, transfer="int8")
EACH_STEP = DataParallel(WORKERS)
LOOK_SECONDS = 0.05
SHAPE = 1, 16, 16


@dataclass(frozen=True)
class Found:
    steps: float
    """Of a worker."""
    seconds: float
    carried: tuple[int, ...]
    """Bytes, by line."""
    computing: float
    """Share of the time."""

    @property
    def bytes_a_step(self) -> float:
        if 2 * min(self.carried) < max(self.carried):
            raise RuntimeError(f"not all providers took part: their lines carried {self.carried} bytes")
        return sum(self.carried) / self.steps


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
        volunteers = [
            lab.provider(token, line.namespace, "--threads", "1", prefix=line.prefix) for line in found
        ]
        graph = define(strategy, batches)
        R.activate()
        R.execute()
        looks = Looks([_worker(process) for process in volunteers])
        looking = threading.Thread(target=looks.run)
        carried: list[list[int]] = []

        def at(end: int) -> None:
            carried.append([line.carried() for line in found])
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
        grown = tuple(after - before for before, after in zip(*carried, strict=True))
        return Found(steps, span.seconds, grown, looks.share)


def _worker(provider: Process) -> int:
    """The process that computes."""
    return int(max(provider.children(), key=lambda child: child.memory_info().rss).pid)


def define(strategy: Strategy, batches: int) -> R.Graph:
    graph = R.Graph(name="slow lines")
    model = NeuralNetwork(Adam(), CrossEntropy, metrics=())
    for layer in _network():
        model.add(layer)
    random = np.random.default_rng(0)
    count = WORKERS * BATCH * batches
    x = random.normal(size=(count, *SHAPE)).astype(np.float32)
    model.fit(
        x, random.integers(0, training.CLASSES, count), n_epochs=EPOCHS, batch_size=_batch(strategy, BATCH),
        strategy=strategy,
    )  # fmt: skip
    return graph


def _network() -> list[Layer]:
    """66 thousand weights, and 45 million floating-point operations a sample and step."""
    half = partial(MaxPooling2D, (2, 2), stride=2)
    return [
        Conv2D(32, (3, 3), input_shape=SHAPE), Activation("relu"), Conv2D(64, (3, 3)), Activation("relu"), half(),
        Conv2D(64, (3, 3)), Activation("relu"), half(), Flatten(), Dense(training.CLASSES), Activation("softmax"),
    ]  # fmt: skip


def _batch(strategy: Strategy, each: int) -> int:
    """`batch_size` such that each worker gets so many samples a step."""
    return each if isinstance(strategy, LocalSGD) else each * WORKERS


# ── what it does to the result ──────────────────────────────────────────────────────────────────────────────
SAMPLES, HELD_OUT, FEATURES, LOSS_BATCH, LOSS_EPOCHS = 51_200, 25_600, 16, 16, 20
LEARNING_RATE = 0.003
"""Of Adam; the float32 training in each step ends lower with it than with 0.001."""
NOISE = 0.2
"""Of the labels are random: so the loss ends where no training gets below."""


def final_loss(strategy: Strategy) -> float:
    """Over samples that were not trained on, after the training. Before it, it is log 4 = 1.39."""
    R.Graph(name="final loss")
    random = np.random.default_rng(1)
    x = random.normal(size=(SAMPLES + HELD_OUT, FEATURES)).astype(np.float32)
    labels = np.argmax(np.tanh(x @ random.normal(size=(FEATURES, 8))) @ random.normal(size=(8, 4)), axis=1)
    wrong = random.random(len(x)) < NOISE
    labels[wrong] = random.integers(0, 4, int(wrong.sum()))
    model = NeuralNetwork(Adam(learning_rate=LEARNING_RATE), CrossEntropy, metrics=())
    for layer in (Dense(64, input_shape=(FEATURES,)), Activation("relu"), Dense(4), Activation("softmax")):
        model.add(layer)
    model.fit(
        x[:SAMPLES], labels[:SAMPLES], n_epochs=LOSS_EPOCHS, batch_size=_batch(strategy, LOSS_BATCH), strategy=strategy
    )  # fmt: skip
    model.test_on_batch(x[SAMPLES:], labels[SAMPLES:]).persist_op("final")
    return float(R.run_local()["final"])


def rows() -> list[Row]:
    lacking = missing()
    if lacking:
        return [Row("four providers at 20 Mbit/s and 50 ms", "not measured", "report", lacking)]
    local = run(LOCAL, BATCHES, warm_up=45.0, seconds=60.0)
    each = run(EACH_STEP, 8, 0.0, 0.0, *FAST)
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
