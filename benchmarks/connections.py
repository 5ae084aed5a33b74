"""Thousands of providers connected to one coordinator: memory, idle CPU time, acknowledgements, a storm of reconnections,
and where it breaks.

`python -m benchmarks connections`. The providers are simulated (`benchmarks.swarm`, two processes), each with a token of its
own; the coordinator is a real process, on SQLite and on PostgreSQL. Everything runs on one machine, so the swarm takes CPU
time that the coordinator could have had.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from unittest import mock

import msgspec
import psutil
from databases import postgresql_server, schema

import ravop as R
from benchmarks.laboratory import Lab, Process, empty, serving, until
from benchmarks.report import Row
from benchmarks.swarm import Answer
from benchmarks.tasks import independent
from ravop.client.api import session
from ravop.protocol.messages import Graphs, ListGraphs
from ravsock.server.data import open_store

PROVIDERS = 3_000
STEPS = (6_000, 10_000, 14_000)
PROCESSES = 2
IDLE_SECONDS, STEP_SECONDS = 30.0, 20.0
TRICKLE, TRICKLE_SECONDS = 20, 15.0
"""Tasks of the small graphs that are executed one after another, and for how long."""
LONGEST = 180.0
GOALS = {"memory": 500.0, "cpu": 0.3, "ack": 0.1}
BROKEN_SECONDS = 1.0
"""A coordinator that acknowledges later than this is too slow to be of use."""


class Swarms:
    """Simulated providers in processes of their own, and the coordinator that they are connected to."""

    def __init__(self, lab: Lab, coordinator: Process) -> None:
        self._lab = lab
        self.coordinator = coordinator
        self._processes: list[subprocess.Popen[str]] = []
        self.size = 0

    def grow(self, count: int) -> None:
        """So many more. They are connected when `settle` returns."""
        with contextlib.closing(
            open_store(self._lab.data, os.environ.get("RAVENVERSE_DATABASE_URL"))
        ) as store:
            make = partial(store.create_token, "provider", "swarm", time.time())
            tokens = store.run_together([make] * count)
        for number in range(PROCESSES):
            path = self._lab.folder / f"tokens-{len(self._processes)}.json"
            path.write_text(json.dumps(tokens[number::PROCESSES]), encoding="utf-8")
            command = [sys.executable, "-m", "benchmarks.swarm", self._lab.url, str(path)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._processes.append(subprocess.Popen(command, text=True, **pipes))  # type: ignore[call-overload]
        self.size += count
        self.ask()
        self.ask("connect")

    def ask(self, command: str = "status") -> Answer:
        """What all of them say together."""
        answers = []
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{command}\n")
            process.stdin.flush()
        for process in self._processes:
            assert process.stdout is not None
            answers.append(msgspec.json.decode(process.stdout.readline(), type=Answer))
        return Answer(
            registered=sum(a.registered for a in answers),
            lost=sum(a.lost for a in answers),
            failed=sum(a.failed for a in answers),
            why=next((a.why for a in answers if a.why), ""),
            beats=[s for a in answers for s in a.beats],
            reports=[s for a in answers for s in a.reports],
        )

    def settle(self) -> float:
        """Seconds until all are registered."""
        return until(lambda: self.ask().registered == self.size, 0.05, LONGEST)

    def cpu(self) -> float:
        """Seconds that the coordinator has used."""
        times = psutil.Process(self.coordinator.pid).cpu_times()
        return float(times.user + times.system)

    def megabytes(self) -> float:
        """Its resident memory."""
        return float(psutil.Process(self.coordinator.pid).memory_info().rss / 1e6)

    def watch(self, seconds: float, work: Callable[[float], object] = time.sleep) -> tuple[float, Answer]:
        """The share of a core that the coordinator uses for so long, and what the providers saw. `work` is called with
        the seconds that are left, again and again."""
        self.ask()
        start, before = time.perf_counter(), self.cpu()
        while (left := seconds - (time.perf_counter() - start)) > 0:
            work(left)
        return (self.cpu() - before) / (time.perf_counter() - start), self.ask()

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


def _small_run(_: float) -> float:
    """Seconds of a small graph, from execute until done."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        independent(TRICKLE)
        start = time.perf_counter()
        R.execute()
        R.track_progress()
        return time.perf_counter() - start


@contextmanager
def _swarms(url: str | None) -> Iterator[tuple[Lab, Swarms]]:
    """A coordinator on the database at `url`, by default on SQLite, without any providers yet."""
    database = mock.patch.dict(os.environ, {"RAVENVERSE_DATABASE_URL": url}) if url else nullcontext()
    with database, empty() as lab, serving(lab) as coordinator:
        swarms = Swarms(lab, coordinator)
        try:
            yield lab, swarms
        finally:
            swarms.close()


def _storm(lab: Lab, swarms: Swarms) -> tuple[float, float]:
    """The coordinator is killed and started again: seconds from its first answer until all are registered, and the
    longest that a requester waited for an answer meanwhile."""
    swarms.coordinator.kill()
    swarms.coordinator = lab.coordinator(wait=False)
    swarms.coordinator.wait_for(re.escape(lab.url))
    start, longest = time.perf_counter(), 0.0
    while swarms.ask().registered < swarms.size and time.perf_counter() - start < LONGEST:
        asked = time.perf_counter()
        until(lambda: bool(session().call(ListGraphs(), Graphs, 30.0)))
        longest = max(longest, time.perf_counter() - asked)
        time.sleep(0.05)
    return time.perf_counter() - start, longest


def _measured(name: str, url: str | None) -> list[Row]:
    with _swarms(url) as (lab, swarms):
        bare = swarms.megabytes()
        swarms.grow(PROVIDERS)
        first = swarms.settle()
        cpu, idle = swarms.watch(IDLE_SECONDS)
        memory = swarms.megabytes()
        runs: list[float] = []
        busy, work = swarms.watch(TRICKLE_SECONDS, lambda left: runs.append(_small_run(left)))
        storm, longest = _storm(lab, swarms)
        after = swarms.megabytes()
    where = f"{PROVIDERS:,} providers, {name}"
    tasks = TRICKLE * len(runs) / TRICKLE_SECONDS
    return [
        Row(f"{where}: memory", f"{memory:.0f} MB", f"≤ {GOALS['memory']:.0f} MB",
            f"resident; {bare:.0f} MB before, {after:.0f} MB after they all came back"),
        Row(f"{where}: idle CPU", f"{cpu:.0%} of a core", f"≤ {GOALS['cpu']:.0%}", f"over {IDLE_SECONDS:.0f} s"),
        Row(f"{where}: beats acknowledged, p50 · p99", _times(idle.beats), f"p99 ≤ {1e3 * GOALS['ack']:.0f} ms",
            f"{len(idle.beats):,} beats, {idle.lost} connections lost"),
        Row(f"{where}, graphs of {TRICKLE} tasks one after another: beats · reports, p50 · p99",
            f"{_times(work.beats)} · {_times(work.reports)}", "report",
            f"{tasks:.0f} tasks/s; a graph takes {1e3 * statistics.median(runs):.0f} ms; {busy:.0%} of a core"),
        Row(f"{where}: all connect at once · come back after a kill", f"{first:.1f} s · {storm:.1f} s", "report",
            f"a requester waited for {longest:.2f} s at most meanwhile"),
    ]  # fmt: skip


def _limits() -> list[Row]:
    """More and more providers, until acknowledgements take too long, connections are lost, or not all get in."""
    rows = []
    with _swarms(None) as (_, swarms):
        for step in STEPS:
            swarms.grow(step - swarms.size)
            try:
                seconds = swarms.settle()
            except TimeoutError:
                rows.append(Row(f"{step:,} providers", "did not all get in", "report", swarms.ask().why))
                break
            cpu, idle = swarms.watch(STEP_SECONDS)
            value = f"{swarms.megabytes():.0f} MB · {cpu:.0%} of a core · {_times(idle.beats)}"
            note = f"{seconds:.0f} s until the last ones were registered; {idle.lost} connections lost"
            rows.append(
                Row(f"{step:,} providers, SQLite: memory · idle CPU · beats p50 · p99", value, "report", note)
            )
            if idle.lost or _at(idle.beats, 99) > BROKEN_SECONDS:
                break
    return rows


def rows() -> list[Row]:
    found = _measured("SQLite", None)
    with postgresql_server() as server, schema(server, durable=True) as url:
        found += _measured("PostgreSQL", url)
    return found + _limits()


def _at(seconds: Sequence[float], percent: int) -> float:
    listed = sorted(seconds)
    return listed[min(len(listed) - 1, len(listed) * percent // 100)] if listed else float("nan")


def _times(seconds: Sequence[float]) -> str:
    return f"{1e3 * _at(seconds, 50):.0f} · {1e3 * _at(seconds, 99):.0f} ms"
