"""Trivial tasks per second with two workers: ours durable, beside Dask distributed and Ray in the same run.

`python -m benchmarks tasks`. A trivial task adds one to a scalar. Independent: all may run at once. Chained: each needs the
one before. Ours are planned with `unit_seconds=0`, so that every op is a task of its own, and each result is committed to
the database before it counts; Dask and Ray keep theirs in memory.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

import ravop as R
from benchmarks.cluster import cluster, seconds_to_run
from benchmarks.report import Row

INDEPENDENT, CHAINED = 1_000, 300
ROUNDS = 3
Speeds = tuple[float, float]
"""Independent and chained tasks per second."""


def increment(x: int) -> int:
    return x + 1


def measured(independent: Callable[[int], float], chained: Callable[[int], float]) -> Speeds:
    """The median of some rounds, after a warm-up; both take a number of tasks and give seconds."""
    independent(50), chained(20)
    return (
        INDEPENDENT / statistics.median(independent(INDEPENDENT) for _ in range(ROUNDS)),
        CHAINED / statistics.median(chained(CHAINED) for _ in range(ROUNDS)),
    )


def ours() -> Speeds:
    def source() -> R.Op:
        # Something that is no constant, or the planner would give it to every task.
        return R.sum(R.t(np.arange(20_000.0)))

    def seconds(define: Callable[[], None]) -> float:
        R.Graph(name="trivial tasks", rules={"unit_seconds": 0.0})
        define()
        R.activate()
        return seconds_to_run()

    def independent(count: int) -> float:
        def define() -> None:
            start = source()
            for number in range(count):
                (start + 1.0).persist_op(f"y_{number}")

        return seconds(define)

    def chained(count: int) -> float:
        def define() -> None:
            value = source()
            for _ in range(count):
                value = value + 1.0
            value.persist_op("y")

        return seconds(define)

    with cluster(providers=2):
        return measured(independent, chained)


def dask() -> Speeds:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as workers,
        Client(workers) as client,
    ):

        def independent(count: int) -> float:
            start = time.perf_counter()
            client.gather(client.map(increment, range(count), pure=False))
            return time.perf_counter() - start

        def chained(count: int) -> float:
            start = time.perf_counter()
            value = client.submit(increment, 0, pure=False)
            for _ in range(count - 1):
                value = client.submit(increment, value, pure=False)
            value.result()
            return time.perf_counter() - start

        return measured(independent, chained)


def ray() -> Speeds:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    remote = ray.remote(increment)

    def independent(count: int) -> float:
        start = time.perf_counter()
        ray.get([remote.remote(number) for number in range(count)])
        return time.perf_counter() - start

    def chained(count: int) -> float:
        start = time.perf_counter()
        value = remote.remote(0)
        for _ in range(count - 1):
            value = remote.remote(value)
        ray.get(value)
        return time.perf_counter() - start

    try:
        return measured(independent, chained)
    finally:
        ray.shutdown()


def rows() -> list[Row]:
    found = {"Ravenverse, durable": ours(), "Dask distributed": dask(), "Ray": ray()}
    mine = found["Ravenverse, durable"]
    return [
        Row(
            f"{name}: independent · chained", f"{speeds[0]:,.0f} · {speeds[1]:,.0f} tasks/s", "report",
            "" if speeds is mine else f"ours against it: {mine[0] / speeds[0]:.2f}× · {mine[1] / speeds[1]:.2f}×",
        )
        for name, speeds in found.items()
    ]  # fmt: skip
