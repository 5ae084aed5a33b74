"""200 kills during one training, and freezes and cut connections between them. `python -m benchmarks chaos`.

Four providers and the coordinator are killed with SIGKILL at random (seeded) moments and started again at once;
disturbances are 0.7 seconds apart on average. In between, workers are killed, processes frozen for up to two seconds,
and all connections of the providers cut in a relay. When 200 kills are done, the rest of the training runs undisturbed.
Values that the coordinator showed during the disturbances are compared with those of the end, the database is read for
steps and tasks, and the weights are compared with those of the same training in one session of this process.
"""

from __future__ import annotations

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
from ravdl.strategies import DataParallel, Sequential, Strategy

KILLS_WANTED = 200
PAUSE = 0.7
PROVIDERS = 4
SEED = 7
LONGEST_REST = 900.0
EPOCHS = 1_000
STEPS_AN_EPOCH = 56
TOLERANCE = 1e-3
WEIGHTS = ("Conv2D_1_W", "Dense_1_W", "Dense_2_W", "Dense_2_w0")


@dataclass(frozen=True)
class Outcome:
    kills: int
    others: int
    seconds: float
    difference: float
    """The largest of the weights, against the undisturbed run, in units of their largest value."""
    lost: int
    twice: int
    problems: tuple[str, ...]


def run(define: Callable[[], R.Graph], seed: int, wanted: int) -> Outcome:
    define()
    expected = R.run_local()
    with laboratory() as (lab, coordinator), relaying(lab.url) as relay:
        chaos = Chaos(lab, relay, coordinator, PROVIDERS, seed)
        graph = define()
        R.activate()
        R.execute()
        start = time.perf_counter()
        watched = Watched(graph.id)
        chaos.run(
            watched,
            wanted,
            PAUSE,
            KILLS,
            lambda step: f"training_loss_epoch_{1 + (step - 1) // STEPS_AN_EPOCH}",
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
            kills, sum(chaos.done.values()) - kills, seconds,
            max(float(np.abs(values[n] - expected[n]).max() / np.abs(expected[n]).max()) for n in WEIGHTS),
            lost=max(0, info.steps_total - found.steps) + found.left,
            twice=max(0, found.credited - found.commits) + max(0, found.steps - info.steps_total),
            problems=tuple(problems),
        )  # fmt: skip


def rows() -> list[Row]:
    found = []
    for name, strategy, exact in (
        ("Sequential", Sequential(), True),
        ("DataParallel(2)", DataParallel(2), False),
    ):
        outcome = run(lambda strategy=strategy: define(strategy), SEED, KILLS_WANTED)
        equal = outcome.difference == 0 if exact else outcome.difference <= TOLERANCE
        weights = "equal" if outcome.difference == 0 else f"within {outcome.difference:.1e}"
        found.append(
            Row(
                f"{outcome.kills} kills during one training, {name}: weights · tasks lost · counted twice",
                f"{weights} · {outcome.lost} · {outcome.twice}",
                "equal · 0 · 0" if exact else f"within {TOLERANCE:g} · 0 · 0",
                f"{outcome.others} freezes and cuts besides; {outcome.seconds:.0f} s; "
                + ("; ".join(outcome.problems) or ("all checks hold" if equal else "the weights differ")),
            )
        )
    return found


def define(strategy: Strategy, epochs: int = EPOCHS) -> R.Graph:
    """The digits CNN's training, two minutes of one core."""
    return overhead.define(epochs, strategy)
