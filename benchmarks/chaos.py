"""200 kills during one training, and freezes and cut connections between them. `python -m benchmarks chaos`.

Four providers and the coordinator are killed with SIGKILL at random (seeded) moments and started again at once;
disturbances are 0.7 seconds apart on average. In between, workers are killed, processes frozen for up to two seconds,
and all connections of the providers cut in a relay. When 200 kills are done, the rest of the training runs undisturbed.
The digits CNN is so small that one provider at a time computes it, whatever its strategy; a larger network, whose chunks
gangs compute, goes through fewer and rarer disturbances after it.
Values that the coordinator showed during the disturbances are compared with those of the end, the database is read for
steps and tasks, and the weights are compared with those of the same training in one session of this process.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from chaos import KILLS, Chaos, Watched, finished, ledger
from relay import relaying

import ravop as R
from benchmarks import overhead
from benchmarks.laboratory import laboratory
from benchmarks.report import Row
from benchmarks.training import NETWORKS, data
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import Activation
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam
from ravdl.strategies import DataParallel, Sequential, Strategy

PROVIDERS = 4
SEED = 7
LONGEST_REST = 900.0
TOLERANCE = 1e-3
WEIGHTS = ("Conv2D_1_W", "Dense_1_W", "Dense_2_W", "Dense_2_w0")
GANGS = "a gang did"
"""What the coordinator's log says of each chunk that a gang has done."""


@dataclass(frozen=True)
class Case:
    """A training, and what it goes through."""

    name: str
    define: Callable[[], R.Graph]
    kills: int
    pause: float
    """Seconds between disturbances, on average."""
    value: Callable[[int], str]
    """What can be fetched when so many steps are done."""
    exact: bool


@dataclass(frozen=True)
class Outcome:
    kills: int
    others: int
    seconds: float
    gangs: int
    """Chunks that gangs did."""
    difference: float
    """The largest of the weights, against the undisturbed run, in units of their largest value."""
    lost: int
    twice: int
    problems: tuple[str, ...]


def run(case: Case) -> Outcome:
    case.define()
    expected = R.run_local()
    with laboratory() as (lab, coordinator), relaying(lab.url) as relay:
        chaos = Chaos(lab, relay, coordinator, PROVIDERS, SEED)
        graph = case.define()
        R.activate()
        R.execute()
        start = time.perf_counter()
        watched = Watched(graph.id)
        chaos.run(
            watched,
            case.kills,
            case.pause,
            KILLS,
            case.value,
        )
        info = finished(watched, LONGEST_REST)
        seconds = time.perf_counter() - start
        found = ledger(lab.data / "ravenverse.db", graph.id)
        values = R.fetch_many([*WEIGHTS, *chaos.seen])
        problems = [f"gap: {gap}" for gap in found.gaps]
        problems += [f"{name} changed" for name, value in chaos.seen.items() if values[name] != value]
        if info.steps_done != info.steps_total or found.left:
            problems.append(f"{found.left} tasks left, {info.steps_done} of {info.steps_total} steps")
        kills = sum(chaos.done[kind] for kind in KILLS)
        return Outcome(
            kills, sum(chaos.done.values()) - kills, seconds, chaos.coordinators_said(GANGS),
            max(float(np.abs(values[n] - expected[n]).max() / np.abs(expected[n]).max()) for n in WEIGHTS),
            lost=max(0, info.steps_total - found.steps) + found.left,
            twice=max(0, found.credited - found.commits) + max(0, found.steps - info.steps_total),
            problems=tuple(problems),
        )  # fmt: skip


def rows() -> list[Row]:
    found = []
    for case in CASES:
        outcome = run(case)
        equal = outcome.difference == 0 if case.exact else outcome.difference <= TOLERANCE
        weights = "equal" if outcome.difference == 0 else f"within {outcome.difference:.1e}"
        found.append(
            Row(
                f"{outcome.kills} kills during one training, {case.name}: weights · tasks lost · counted twice",
                f"{weights} · {outcome.lost} · {outcome.twice}",
                "equal · 0 · 0" if case.exact else f"within {TOLERANCE:g} · 0 · 0",
                f"{outcome.others} freezes and cuts besides; {outcome.seconds:.0f} s; {outcome.gangs} chunks by gangs; "
                + ("; ".join(outcome.problems) or ("all checks hold" if equal else "the weights differ")),
            )
        )
    return found


def digits(strategy: Strategy) -> R.Graph:
    """The digits CNN's training, two minutes of one core."""
    return overhead.define(1_000, strategy)


def images() -> R.Graph:
    """The training of a network that is worth sharing, half a minute of two cores."""
    graph = R.Graph(name="images")
    network = dataclasses.replace(NETWORKS["CNN 3×32×32, batch 64"], batch=128, steps=50)
    model = NeuralNetwork(Adam(), CrossEntropy)
    for layer in (*network.ours(), Activation("softmax")):
        model.add(layer)
    x, y = data(network)
    model.fit(x, y, n_epochs=20, batch_size=network.batch, save_model=True, strategy=DataParallel(2))
    return graph


def _epoch(step: int) -> str:
    return f"training_loss_epoch_{1 + (step - 1) // 56}"


def _batch(step: int) -> str:
    """Its epochs are long, so their means come late."""
    return f"training_loss_epoch_{1 + (step - 1) // 50}_batch_{1 + (step - 1) % 50}"


CASES = (
    Case("digits CNN, Sequential", lambda: digits(Sequential()), 200, 0.7, _epoch, True),
    Case("digits CNN, DataParallel(2)", lambda: digits(DataParallel(2)), 200, 0.7, _epoch, False),
    Case("CNN 3×32×32, DataParallel(2)", images, 12, 2.5, _batch, False),
)
