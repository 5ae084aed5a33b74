"""How long a killed or frozen provider, a killed coordinator, and a slow provider hold a run up. `python -m benchmarks recovery`.

Killed and frozen: three providers, one of which computes a chunk of a training loop; it is killed with SIGKILL, or it
and its worker are stopped with SIGSTOP; from then until the coordinator lists another provider as busy, asked every
5 ms. Coordinator: it is killed in the middle of the loop and started again at once; from the kill until it tells of a
task more than before (the rest of the chunk that was running is part of it). Each several times; medians.

Slow: eight providers compute layers of equal products, each layer of `WIDTH` tasks that need the layer before; one
provider and its worker are stopped nine tenths of the time (SIGSTOP and SIGCONT, every 100 ms), which makes it ten
times slower, whatever share of a core the others leave it. The tasks are short and the providers have one thread, so
that eight of them on few cores still all get their turn. A step is a layer; the time of one is that between its end
and the end of the one before, as the requester sees them when it asks every 10 ms. The same without the slow one, for
comparison.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise

import numpy as np
import psutil
from workloads import training

import ravop as R
from benchmarks.laboratory import Lab, Process, busy, info, laboratory, providers, until
from benchmarks.report import Row

ROUNDS = 5
STEPS = 20_000
"""Of the training that is interrupted: longer than anything here waits."""
SETTLED = 200
"""Steps until chunks have grown."""
SLOW_PROVIDERS = 8
LAYERS, WIDTH = 100, 16
ROWS, SIZE, DEPTH = 16, 512, 40
"""Of the products: a task is about 10 ms of one core."""
UNIT_SECONDS = 0.01
PERIOD, SHARE = 0.1, 0.1
"""Seconds, and how much of them the slow provider may run."""


@contextmanager
def running(count: int) -> Iterator[tuple[Lab, Process, dict[str, Process], R.Graph]]:
    """A training in full swing."""
    with laboratory() as (lab, coordinator):
        token = lab.token("provider", "volunteers")
        volunteers = {name: lab.provider(token, name) for name in (f"p{n}" for n in range(count))}
        graph = training(STEPS)
        R.activate()
        R.execute()
        until(lambda: info(graph).steps_done >= SETTLED)
        yield lab, coordinator, volunteers, graph


def elsewhere(disturb: Callable[[Process], None]) -> float:
    """Seconds from the disturbance of the provider that computes until another one does."""
    with running(3) as (_, _, volunteers, _):
        until(lambda: len(busy()) == 1)
        (name,) = busy()
        start = time.perf_counter()
        disturb(volunteers[name])
        until(lambda: bool(busy() - {name}))
        return time.perf_counter() - start


def restarted() -> float:
    """Seconds from the coordinator's death until it has taken in a result again."""
    with running(2) as (lab, coordinator, _, graph):
        before = info(graph).tasks_done
        start = time.perf_counter()
        coordinator.kill()
        lab.coordinator()
        until(lambda: info(graph).tasks_done > before)
        return time.perf_counter() - start


def lattice(layers: int) -> R.Graph:
    """Layers of products; each of a layer's tasks reads two of the layer before. Persists `layer_{n}`."""
    graph = R.Graph(name="layers", rules={"unit_seconds": UNIT_SECONDS})
    random = np.random.default_rng(0)
    w = R.t((random.normal(size=(SIZE, SIZE)) / SIZE**0.5).astype(np.float32))

    def work(x: R.Op) -> R.Op:
        x, _ = R.scan(lambda c, _: (R.tanh(R.matmul(c, w)), None), x, length=DEPTH)
        return x

    row = [work(R.t(random.normal(size=(ROWS, SIZE)).astype(np.float32))) for _ in range(WIDTH)]
    for number in range(layers):
        total = row[0]
        for one in row[1:]:
            total = total + one
        mean = total / float(WIDTH)
        R.sum(mean).persist_op(f"layer_{number}")
        row = [work(mean + float(place)) for place in range(WIDTH)]
    return graph


@contextmanager
def slowed(process: Process) -> Iterator[None]:
    """Runs a tenth of the time."""
    done = threading.Event()

    def work() -> None:
        try:
            while not done.is_set():
                process.freeze()
                done.wait(PERIOD * (1 - SHARE))
                process.thaw()
                done.wait(PERIOD * SHARE)
        except psutil.NoSuchProcess:
            pass

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def step_seconds(slow: bool) -> tuple[list[float], int, int]:
    """Of each layer but the first ones; and how many tasks the first provider did, and all did together."""
    with laboratory() as (lab, _):
        token = lab.token("provider", "volunteers")
        volunteers = [lab.provider(token, f"p{number}") for number in range(SLOW_PROVIDERS)]
        lattice(5)
        R.activate()
        R.execute()
        R.track_progress()
        graph = lattice(LAYERS)
        R.activate()
        with slowed(volunteers[0]) if slow else nullcontext():
            R.execute()
            ends: dict[str, float] = {}

            def look() -> bool:
                found = info(graph)
                now = time.perf_counter()
                for one in found.persisted:
                    if one.done:
                        ends.setdefault(one.name, now)
                return found.state != "executing"

            until(look, pause=0.01, longest=600)
        times = sorted(ends.values())
        done = {one.name: one.tasks_done for one in providers()}
        return [b - a for a, b in pairwise(times)][2:], done["p0"], sum(done.values())


def rows() -> list[Row]:
    found = [
        _row(
            "provider killed: another one computes", "≤ 1 s", [elsewhere(Process.kill) for _ in range(ROUNDS)]
        ),
        _row(
            "provider frozen: another one computes",
            "≤ 15 s",
            [elsewhere(Process.freeze) for _ in range(ROUNDS)],
        ),
        _row(
            "coordinator killed and started again: a result is taken in",
            "≤ 5 s",
            [restarted() for _ in range(ROUNDS)],
        ),
    ]
    for what, slow, goal in (
        ("eight equal providers: 99th percentile of step time against the median", False, "report"),
        ("one of eight ten times slower: the same", True, "≤ 2×"),
    ):
        seconds, first, tasks = step_seconds(slow)
        median, late = statistics.median(seconds), float(np.percentile(seconds, 99))
        found.append(
            Row(
                what,
                f"{late / median:.1f}×",
                goal,
                f"{median * 1e3:,.0f} and {late * 1e3:,.0f} ms, {len(seconds)} steps; "
                f"{first} of {tasks} tasks on the first provider",
            )
        )
    return found


def _row(what: str, goal: str, seconds: list[float]) -> Row:
    return Row(
        f"{what} after", f"{statistics.median(seconds):.2f} s", goal,
        f"{min(seconds):.2f} to {max(seconds):.2f} s in {len(seconds)} rounds",
    )  # fmt: skip
