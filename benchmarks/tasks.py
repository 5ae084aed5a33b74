"""Trivial tasks per second with two workers: ours durable, beside Dask distributed and Ray, and the coordinator's CPU time.

`python -m benchmarks tasks`. A trivial task adds one to a scalar. Independent: all may run at once. Chained: each needs the
one before. Ours are planned with `unit_seconds=0`, so that every op is a task of its own, and each result is committed to
the database and synced before it counts; Dask and Ray keep theirs in memory. In each round all three systems run, one
after another, each started afresh, warmed up and ended; the figures are medians of the rounds, the ratios medians of the
rounds' ratios. CPU time is what the coordinator's process used (user and system) between `execute` and the end, divided
by the tasks.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import psutil

import ravop as R
from benchmarks.cluster import cluster, seconds_to_run
from benchmarks.report import Row, ratio
from ravop.client.endpoint import data_folder, read_endpoint

INDEPENDENT, CHAINED = 4_000, 2_000
ROUNDS = 5
WARM_UP = (200, 50)


@dataclass(frozen=True)
class Run:
    """So many tasks took so many seconds; `cpu`: of the coordinator, where there is one."""

    tasks: int
    seconds: float
    cpu: float = 0.0

    @property
    def speed(self) -> float:
        return self.tasks / self.seconds


def increment(x: int) -> int:
    return x + 1


def _source() -> R.Op:
    # Something that is no constant, or the planner would give it to every task.
    return R.sum(R.t(np.arange(20_000.0)))


def independent(count: int) -> None:
    """Activate a graph of so many tasks that may all run at once."""
    R.Graph(name="trivial tasks", rules={"unit_seconds": 0.0})
    start = _source()
    for number in range(count):
        (start + 1.0).persist_op(f"y_{number}")
    R.activate()


def chained(count: int) -> None:
    """Activate a graph of so many tasks, each of which needs the one before."""
    R.Graph(name="trivial tasks", rules={"unit_seconds": 0.0})
    value = _source()
    for _ in range(count):
        value = value + 1.0
    value.persist_op("y")
    R.activate()


@contextmanager
def ours() -> Iterator[tuple[Callable[[int], Run], Callable[[int], Run]]]:
    def run(activate: Callable[[int], None], count: int) -> Run:
        activate(count)
        before = _cpu_seconds()
        seconds = seconds_to_run()
        return Run(count, seconds, _cpu_seconds() - before)

    with cluster(providers=2):
        yield partial(run, independent), partial(run, chained)


def _cpu_seconds() -> float:
    """Of the embedded coordinator so far."""
    endpoint = read_endpoint(data_folder())
    assert endpoint is not None
    times = psutil.Process(endpoint.pid).cpu_times()
    return float(times.user + times.system)


@contextmanager
def dask() -> Iterator[tuple[Callable[[int], Run], Callable[[int], Run]]]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as workers,
        Client(workers) as client,
    ):

        def independent(count: int) -> Run:
            start = time.perf_counter()
            client.gather(client.map(increment, range(count), pure=False))
            return Run(count, time.perf_counter() - start)

        def chained(count: int) -> Run:
            start = time.perf_counter()
            value = client.submit(increment, 0, pure=False)
            for _ in range(count - 1):
                value = client.submit(increment, value, pure=False)
            value.result()
            return Run(count, time.perf_counter() - start)

        yield independent, chained


@contextmanager
def ray() -> Iterator[tuple[Callable[[int], Run], Callable[[int], Run]]]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    remote = ray.remote(increment)

    def independent(count: int) -> Run:
        start = time.perf_counter()
        ray.get([remote.remote(number) for number in range(count)])
        return Run(count, time.perf_counter() - start)

    def chained(count: int) -> Run:
        start = time.perf_counter()
        value = remote.remote(0)
        for _ in range(count - 1):
            value = remote.remote(value)
        ray.get(value)
        return Run(count, time.perf_counter() - start)

    try:
        yield independent, chained
    finally:
        ray.shutdown()


SYSTEMS = {"Ravenverse, durable": ours, "Dask distributed": dask, "Ray": ray}
GOALS = {"Dask distributed": 3.0, "Ray": 1.0}
"""How many times as fast ours is to be."""


def measured() -> dict[str, list[tuple[Run, Run]]]:
    """Independent and chained runs of each system, one of each in a round."""
    found: dict[str, list[tuple[Run, Run]]] = {name: [] for name in SYSTEMS}
    for _ in range(ROUNDS):
        for name, system in SYSTEMS.items():
            with system() as kinds:
                for kind, count in zip(kinds, WARM_UP, strict=True):
                    kind(count)
                at_once, in_turn = kinds
                found[name].append((at_once(INDEPENDENT), in_turn(CHAINED)))
    return found


def rows() -> list[Row]:
    found = measured()
    speeds = {
        name: [[run.speed for run in kind] for kind in zip(*runs, strict=True)]
        for name, runs in found.items()
    }
    mine, *others = SYSTEMS
    rows = [
        Row(f"{name}: independent · chained", f"{_median(kinds[0])} · {_median(kinds[1])} tasks/s")
        for name, kinds in speeds.items()
    ]
    for name in others:
        ratios = [ratio(ours, theirs) for ours, theirs in zip(speeds[mine], speeds[name], strict=True)]
        rows.append(
            Row(
                f"ours against {name}: independent · chained",
                " · ".join(f"{middle:.2f}×" for _, middle, _ in ratios),
                f"> {GOALS[name]:.1f}× in both",
                " · ".join(f"{low:.2f} to {high:.2f}" for low, _, high in ratios) + f"; {ROUNDS} rounds",
            )
        )
    cpu = [[1e3 * run.cpu / run.tasks for run in kind] for kind in zip(*found[mine], strict=True)]
    rows.append(
        Row(
            "the coordinator's CPU time for a task: independent · chained",
            " · ".join(f"{statistics.median(kind):.2f} ms" for kind in cpu),
            "≤ 0.5 ms",
            f"runs of {INDEPENDENT:,} and {CHAINED:,} tasks",
        )
    )
    return rows


def _median(speeds: list[float]) -> str:
    return f"{statistics.median(speeds):,.0f}"
