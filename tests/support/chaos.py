"""A seeded series of disturbances of real processes during one run, and what must be true afterwards.

Providers and the coordinator are killed, frozen and cut off at random moments; what was killed is started again
at once. Meanwhile values that the coordinator showed are fetched and remembered.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from processes import Lab, Process
from relay import Relay

import ravop as R
from ravop.client.api import session
from ravop.errors import UnreachableError
from ravop.protocol.messages import GraphInfo

LONGEST_FREEZE = 2.0
KILLS = ("kill a provider", "kill the coordinator")


@dataclass
class Watched:
    """A graph's progress as its requester hears it: it must never go back."""

    graph_id: str
    info: GraphInfo | None = None
    backwards: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watched", daemon=True)
        self._thread.start()

    @property
    def steps(self) -> int:
        return self.info.steps_done if self.info else 0

    def wait(self, seconds: float) -> bool:
        """Whether the graph ended within so many seconds."""
        return self._ended.wait(seconds)

    def _watch(self) -> None:
        try:
            for news in session().watch(self.graph_id):
                if not isinstance(news, GraphInfo):
                    continue
                if news.steps_done < self.steps:
                    self.backwards.append(f"{self.steps} steps, then {news.steps_done}")
                self.info = news
        finally:
            self._ended.set()


class Chaos:
    """Disturbs the processes of `lab`: its coordinator, and `count` providers, which reach it through `relay`."""

    def __init__(self, lab: Lab, relay: Relay, coordinator: Process, count: int, seed: int) -> None:
        self._lab = lab
        self._relay = relay
        self._coordinator = coordinator
        self._earlier: list[Process] = []
        self._token = lab.token("provider", "volunteers")
        self._random = random.Random(seed)
        self._timers: list[threading.Timer] = []
        self._frozen: set[int] = set()
        self._providers = lab.providers(count, self._token, relay.url)
        self.done: Counter[str] = Counter()
        self.seen: dict[str, np.ndarray] = {}
        """Values that were there once, by name."""

    def run(
        self, watched: Watched, wanted: int, pause: float, counted: Sequence[str], name: Callable[[int], str]
    ) -> None:
        """Disturb until `wanted` disturbances of the `counted` kinds are done or the run ends; between two pass
        `pause` seconds on average. `name`: of a persisted value that is there after a step, counted from 1.
        """
        actions = self.actions()
        kinds = list(actions)
        weights = [actions[kind][0] for kind in kinds]
        while sum(self.done[kind] for kind in counted) < wanted:
            if watched.wait(min(self._random.expovariate(1 / pause), 4 * pause)):
                break
            (kind,) = self._random.choices(kinds, weights)
            self._assert_alive()
            if actions[kind][1]():
                self.done[kind] += 1
            self._look(watched, name)
        for timer in self._timers:
            timer.join()

    def actions(self) -> dict[str, tuple[float, Callable[[], bool]]]:
        """Each kind of disturbance: how often it comes, and what does it; that says whether it happened."""
        return {
            "kill a provider": (4.0, self._kill_provider),
            "kill the coordinator": (1.5, self._kill_coordinator),
            "kill a worker": (1.0, self._kill_worker),
            "freeze a provider": (1.5, lambda: self._freeze(self._providers[self._name()])),
            "freeze the coordinator": (0.5, lambda: self._freeze(self._coordinator)),
            "cut all connections": (1.0, self._cut),
        }

    def _name(self) -> str:
        return self._random.choice(sorted(self._providers))

    def _kill_provider(self) -> bool:
        name = self._name()
        self._forget(self._providers[name])
        self._providers[name] = self._lab.provider(self._token, name, url=self._relay.url, wait=False)
        return True

    def coordinators_said(self, text: str) -> int:
        """How often the coordinators, the killed ones too, have logged it."""
        return sum(process.output.count(text) for process in (*self._earlier, self._coordinator))

    def _kill_coordinator(self) -> bool:
        self._forget(self._coordinator)
        self._earlier.append(self._coordinator)
        self._coordinator = self._lab.coordinator(wait=False)
        return True

    def _forget(self, process: Process) -> None:
        """kill -9; also one that is frozen."""
        process.kill()
        self._frozen.discard(process.pid)

    def _kill_worker(self) -> bool:
        process = self._providers[self._name()]
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in process.children():
                child.kill()
                return True
        return False

    def _freeze(self, process: Process) -> bool:
        if process.pid in self._frozen:
            return False
        self._frozen.add(process.pid)
        process.freeze()
        timer = threading.Timer(self._random.uniform(0.1, LONGEST_FREEZE), self._thaw, (process,))
        self._timers.append(timer)
        timer.start()
        return True

    def _thaw(self, process: Process) -> None:
        if process.pid in self._frozen:
            self._frozen.discard(process.pid)
            with contextlib.suppress(psutil.NoSuchProcess):
                process.thaw()

    def _cut(self) -> bool:
        self._relay.cut()
        return True

    def _assert_alive(self) -> None:
        """Nothing may have ended but what was killed here."""
        for process in (self._coordinator, *self._providers.values()):
            assert not process.ended, f"{process.command} ended by itself:\n{process.output}"

    def _look(self, watched: Watched, name: Callable[[int], str]) -> None:
        """Fetch a value of a step that was told to be done; a coordinator that is away is left alone."""
        if watched.steps == 0 or self._coordinator.pid in self._frozen:
            return
        wanted = name(self._random.randint(1, watched.steps))
        with contextlib.suppress(UnreachableError):
            value = R.fetch(wanted, watched.graph_id)
            np.testing.assert_array_equal(self.seen.setdefault(wanted, value), value, err_msg=wanted)


def finished(watched: Watched, seconds: float) -> GraphInfo:
    """How the undisturbed rest of the run ended."""
    assert watched.wait(seconds), f"the run did not end within {seconds} s: {watched.info}"
    assert watched.info is not None
    assert watched.info.state == "done", watched.info
    assert not watched.backwards, watched.backwards
    return watched.info


@dataclass(frozen=True)
class Ledger:
    """What the database says about one graph after its end."""

    steps: int
    commits: int
    """Tasks committed, as the graph counts them."""
    credited: int
    """Tasks committed, as all providers together count theirs. Holds where this was the only graph."""
    left: int
    """Tasks that are neither done nor gone."""
    gaps: list[str]
    """Stacked values whose parts overlap or leave something out."""


def ledger(database: Path, graph_id: str) -> Ledger:
    """Read from the file of a coordinator that may be running."""
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:

        def one(sql: str, *arguments: object) -> tuple[int, ...]:
            found: tuple[int, ...] = connection.execute(sql, arguments).fetchone()
            return found

        number, steps, commits = one(
            "SELECT number, steps_done, tasks_done FROM graphs WHERE id = ?", graph_id
        )
        (credited,) = one("SELECT COALESCE(SUM(tasks_done), 0) FROM providers")
        (left,) = one(
            "SELECT COUNT(*) FROM tasks WHERE graph = ? AND state IN ('waiting', 'ready', 'leased')", number
        )
        parts = connection.execute(
            "SELECT path, name, start, elements FROM bindings WHERE graph = ? AND elements IS NOT NULL "
            "ORDER BY path, name, start",
            (number,),
        ).fetchall()
    gaps: list[str] = []
    ends: dict[tuple[str, str], int] = {}
    for path, name, start, elements in parts:
        if start != ends.get((path, name), 0):
            gaps.append(f"{path} {name}: {start} after {ends.get((path, name), 0)}")
        ends[path, name] = start + elements
    return Ledger(steps, commits, credited, left, gaps)
