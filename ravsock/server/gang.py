"""One gang's attempt, and what is remembered of gangs. Used by `gangs` and `muster`."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from ravop.protocol.messages import HeldTask, Reported, Task, TaskResult
from ravsock.core import teams
from ravsock.core.recent import Recent
from ravsock.core.teams import Seen, Team
from ravsock.server.exchange import Exchange
from ravsock.store import ReadyTask

Key = tuple[int, int]
"""Task and attempt."""

log = logging.getLogger(__name__)


class Past:
    """How gangs did, and who was in them, for as long as this process lives."""

    def __init__(self) -> None:
        self._seen: Recent[str, dict[int, Seen]] = Recent()
        self._usual: Recent[tuple[str, str], tuple[str, ...]] = Recent()

    def seen(self, model: str) -> dict[int, Seen]:
        """Of a loop's chunk model: by the number of ranks."""
        return dict(self._seen.get(model) or {})

    def done(self, gang: Gang, seconds: float, now: float) -> None:
        """It did its chunk, and says that it computed for `seconds`."""
        elapsed = now - gang.since
        taken = seconds if 0 < seconds <= elapsed else elapsed
        log.info(
            "a gang did %d iterations of task %d in %.2f s (%.2f s with all around it); %.2f s were expected",
            gang.team.length, gang.held.task_id, taken, elapsed, gang.team.estimate, extra=gang.about,
        )  # fmt: skip
        before = self.seen(gang.ready.model).get(len(gang.tasks))
        self._saw(gang, teams.learn(before, gang.team, taken, elapsed - taken))

    def late(self, gang: Gang, now: float) -> None:
        """It was broken off after so long, and is slow where that is longer than was expected."""
        elapsed = now - gang.since
        if elapsed > gang.team.estimate:
            self._saw(gang, teams.late(gang.team, elapsed))

    def _saw(self, gang: Gang, one: Seen) -> None:
        model = gang.ready.model
        self._seen[model] = self.seen(model) | {len(gang.tasks): one}

    def passed_over(self, model: str) -> None:
        """One provider alone got the chunk."""
        if model in self._seen:
            seen = self._seen[model]
            self._seen[model] = {ranks: one.passed_over() for ranks, one in seen.items()}

    def usual(self, graph_id: str, model: str) -> tuple[str, ...]:
        """Who did the last chunk of a graph's loop, in rank order; maybe in another iteration of a loop around it."""
        return self._usual.get((graph_id, model)) or ()

    def met(self, graph_id: str, model: str, providers: tuple[str, ...]) -> None:
        self._usual[graph_id, model] = providers


@dataclass(eq=False)
class Gang:
    """One attempt."""

    ready: ReadyTask
    team: Team
    tasks: tuple[Task, ...]
    """By rank."""
    exchange: Exchange
    since: float
    results: dict[int, TaskResult] = field(default_factory=dict)
    answers: dict[int, asyncio.Future[Reported]] = field(default_factory=dict)
    """To the ranks that have reported."""
    committing: bool = False
    timer: asyncio.TimerHandle | None = None
    over: bool = False

    @property
    def held(self) -> HeldTask:
        return HeldTask(task_id=self.tasks[0].task_id, attempt=self.tasks[0].attempt)

    @property
    def key(self) -> Key:
        return self.tasks[0].task_id, self.tasks[0].attempt

    @property
    def about(self) -> dict[str, Any]:
        """What log lines tell of it."""
        return {"graph": self.ready.graph_id, "task": self.held.task_id, "attempt": self.held.attempt}

    @property
    def leader(self) -> str:
        return self.team.providers[0]

    def answer(self, rank: int) -> asyncio.Future[Reported]:
        found = self.answers.get(rank)
        if found is None:
            found = self.answers[rank] = asyncio.get_running_loop().create_future()
        return found
