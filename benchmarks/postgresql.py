"""Trivial durable tasks per second on PostgreSQL: one coordinator, then two on the same database; and who spends the CPU time.

`python -m benchmarks postgresql`. The tasks are those of `benchmarks.tasks`. A PostgreSQL server of its own, with its
settings as they come (every commit waits for the disk), two providers in all: both at one coordinator, or one at each of two.
The requester is at the first coordinator, so with two, half of the tasks are leased, and their results taken in, by a
coordinator that hears of them from the other. CPU time is that of the processes (user and system) between `execute` and the
end, divided by the tasks; the database's is that of all its processes.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import psutil
from postgresql import PostgreSQL, own_postgresql

from benchmarks.cluster import seconds_to_run
from benchmarks.laboratory import Lab, Process, empty, serving
from benchmarks.report import Row
from benchmarks.tasks import CHAINED, INDEPENDENT, WARM_UP, chained, independent

ROUNDS = 5
KINDS: tuple[tuple[Callable[[int], None], int], ...] = ((independent, INDEPENDENT), (chained, CHAINED))
GOAL, GOAL_OF_TWO = 1_500, 1.5


@dataclass(frozen=True)
class Run:
    """Of one graph: tasks and commits per second; CPU milliseconds for each task, of coordinators and database."""

    speed: float
    commits: float
    coordinators: float
    database: float


def rows() -> list[Row]:
    one, two = _measured(1), _measured(2)
    ratios = [_median(two[kind], "speed") / _median(one[kind], "speed") for kind in range(len(KINDS))]
    cores = os.cpu_count() or 1
    needed = [(_median(runs[0], "coordinators") + _median(runs[0], "database")) for runs in (one, two)]
    return [
        Row("one coordinator: independent · chained", _both(one, "speed", "{:,.0f}", " tasks/s"), f"≥ {GOAL:,}"),
        Row("two coordinators: independent · chained", _both(two, "speed", "{:,.0f}", " tasks/s")),
        Row(
            "two against one: independent · chained",
            " · ".join(f"{ratio:.2f}×" for ratio in ratios),
            f"≥ {GOAL_OF_TWO}×, or why not",
            f"{cores} cores for coordinators, database, providers and requester; coordinators and database need "
            f"{needed[0]:.2f} ms of CPU for each independent task with one, {needed[1]:.2f} ms with two",
        ),
        *(
            Row(
                f"CPU for a task, {what}: coordinators · database",
                " · ".join(
                    f"{_median(runs[0], name):.2f} ms" for name in ("coordinators", "database")
                ),
                note="independent tasks",
            )
            for what, runs in (("one coordinator", one), ("two coordinators", two))
        ),
        Row(
            "commits: one coordinator · two",
            " · ".join(f"{_median(runs[0], 'commits'):,.0f} a second" for runs in (one, two)),
            note="independent tasks; a commit has what waits when it begins",
        ),
    ]  # fmt: skip


def _measured(count: int) -> list[list[Run]]:
    """Runs of each kind, with so many coordinators."""
    with _running(count) as (server, processes):
        for (activate, _), tasks in zip(KINDS, WARM_UP, strict=True):
            activate(tasks)
            seconds_to_run()
        rounds = [[_run(kind, tasks, server, processes) for kind, tasks in KINDS] for _ in range(ROUNDS)]
    return [list(runs) for runs in zip(*rounds, strict=True)]


@contextmanager
def _running(count: int) -> Iterator[tuple[PostgreSQL, list[Process]]]:
    with (
        own_postgresql() as server,
        mock.patch.dict(os.environ, {"RAVENVERSE_DATABASE_URL": server.url}),
        empty() as lab,
        serving(lab) as first,
    ):
        coordinators = [first, *(_another(lab) for _ in range(count - 1))]
        urls = [lab.url, *(process.wait_for(r"http://\S+")[0] for process in coordinators[1:])]
        token = lab.token("provider", "benchmark")
        for number in range(2):
            lab.provider(token, f"p{number}", url=urls[number % count])
        yield server, coordinators


def _another(lab: Lab) -> Process:
    return lab.module("ravsock", "serve", "--port", "0", "--data", str(lab.data))


def _run(activate: Callable[[int], None], tasks: int, server: PostgreSQL, processes: list[Process]) -> Run:
    activate(tasks)
    before = _spent(server, processes)
    seconds = seconds_to_run()
    coordinators, database, commits = (
        now - then for now, then in zip(_spent(server, processes), before, strict=True)
    )
    return Run(tasks / seconds, commits / seconds, 1e3 * coordinators / tasks, 1e3 * database / tasks)


def _spent(server: PostgreSQL, processes: list[Process]) -> tuple[float, float, float]:
    """CPU seconds of coordinators and database, and commits."""
    query = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    family = [server.process, *server.process.children()]
    return (
        sum(map(_cpu, (psutil.Process(process.pid) for process in processes))),
        sum(map(_cpu, family)),
        float(server.execute(query)[0][0]),
    )


def _cpu(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _median(runs: list[Run], name: str) -> float:
    return statistics.median(getattr(run, name) for run in runs)


def _both(kinds: list[list[Run]], name: str, form: str, unit: str) -> str:
    return " · ".join(form.format(_median(runs, name)) for runs in kinds) + unit
