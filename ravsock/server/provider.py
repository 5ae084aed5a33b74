"""A provider that is connected now: what it holds, has and is resting from, and what placement, planner and people are told
of it. All of them together are in `providers`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ravop.protocol.messages import HeldTask, Profile, ProviderInfo
from ravsock.core import deadlines, rounds, teams
from ravsock.core.fleet import Line, ProviderSpeed
from ravsock.core.history import History
from ravsock.core.jobs import LINK, Node, room
from ravsock.core.recent import Recent
from ravsock.store import ProviderRow, ReadyTask


@dataclass(eq=False)
class Batch:
    """Tasks that a provider was given together, to be done one after another."""

    graph_id: str
    owner: int
    since: float
    blobs: frozenset[str] = frozenset()
    """What the provider may read for it."""
    moving: float = 0.0
    """Seconds that its line should need for what it lacks."""
    waits: float = 0.0
    """Seconds until it should begin, when it was given."""
    estimate: float = 0.0
    """Seconds that all of its tasks should take."""
    left: int = 0
    """Tasks of which nothing was heard."""
    asked: float = 0.0
    """Since when there was work, and room for it."""
    copyable: bool = True
    """Others may be given its tasks too: not a gang's, nor those of which the store wanted no copy."""


@dataclass(frozen=True)
class Holding:
    """An attempt that a provider has."""

    task_id: int
    attempt: int
    batch: Batch
    estimate: float
    """Seconds it should take."""
    ready: ReadyTask | None = None
    """What was handed out; None for what an earlier process handed out, and for what runs ahead."""

    @property
    def task(self) -> HeldTask:
        return HeldTask(task_id=self.task_id, attempt=self.attempt)


class RecentBlobs(Recent[str, None]):
    """The blobs that a provider sent or received lately."""

    def add(self, shas: Iterable[str]) -> None:
        for sha in shas:
            self[sha] = None


@dataclass
class Provider:
    """A connected provider."""

    provider_id: str
    token_id: int
    sid: str
    profile: Profile
    graph_id: str | None
    heard: float
    """When it last said something, on the clock of `time.monotonic`, as all times here."""
    history: History
    beat_seconds: float = deadlines.BEAT_SECONDS
    """How often it was asked to say something."""
    reported: float = 0.0
    """When it last reported what became of a batch."""
    failures: int = 0
    """In a row."""
    resting_until: float = 0.0
    resting_why: str = ""
    held: dict[int, Holding] = field(default_factory=dict)
    blobs: RecentBlobs = field(default_factory=RecentBlobs)
    _batches: dict[Batch, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.history.claim(self.provider_id, claimed(self.profile))

    @property
    def memory(self) -> int:
        return self.profile.memory

    @property
    def slots(self) -> int:
        return self.profile.slots

    @property
    def gflops(self) -> float:
        """As measured."""
        return self.history.gflops(self.provider_id)

    @property
    def link(self) -> float:
        """Bytes a second of its line, as measured; what is assumed of any line where nothing was."""
        return self.history.link(self.provider_id) or LINK

    def works_for_others(self, graph_id: str) -> bool:
        """Whether it holds a task of another graph."""
        return any(batch.graph_id != graph_id for batch in self.batches)

    @property
    def batches(self) -> list[Batch]:
        """Oldest first."""
        return list(self._batches)

    def take(self, holding: Holding) -> None:
        """It has the task now."""
        self.drop(holding.task_id)
        self.held[holding.task_id] = holding
        batch = holding.batch
        batch.left += 1
        batch.estimate += holding.estimate
        self._batches[batch] = None

    def drop(self, task_id: int) -> None:
        """It has the task no more."""
        if (holding := self.held.pop(task_id, None)) is not None:
            holding.batch.left -= 1
            if not holding.batch.left:
                self._batches.pop(holding.batch, None)

    def backlog(self, now: float) -> float:
        """Estimated seconds until all that it has is done, if a slot did them one after another."""
        return rounds.backlog(self._batches, now)

    def node(self, now: float) -> Node:
        """What placement needs to know."""
        return Node(
            provider_id=self.provider_id,
            gflops=self.gflops,
            memory=self.profile.memory,
            slots=self.profile.slots,
            outstanding=len(self._batches),
            backlog=self.backlog(now),
            graph_id=self.graph_id,
            resting=now < self.resting_until,
            holds=self.blobs.keys(),
            link=self.link,
            latency=self.history.latency(self.provider_id),
        )

    @property
    def room(self) -> int:
        """How many more batches it may get, when it does not rest."""
        return room(self.profile.slots, len(self._batches))

    def full(self, now: float) -> bool:
        """Whether it has all the work it may have, and does not rest."""
        return not self.room and now >= self.resting_until

    def speed(self) -> ProviderSpeed:
        """What the planner needs to know."""
        link, latency = self.history.link(self.provider_id), self.history.latency(self.provider_id)
        line = Line(link, teams.round_trip(latency)) if link else None
        return ProviderSpeed(self.gflops, self.profile.memory, self.profile.slots, line)

    def info(self, now: float, tasks_done: int) -> ProviderInfo:
        """What people are shown."""
        return ProviderInfo(
            provider_id=self.provider_id,
            name=self.profile.name,
            connected=True,
            slots=self.profile.slots,
            gflops=self.gflops,
            link=self.history.link(self.provider_id),
            busy=min(len(self._batches), self.profile.slots),
            tasks_done=tasks_done,
            software=software_of(self.profile),
            resting=self.resting(now),
        )

    def holds(self, task_id: int, attempt: int) -> bool:
        held = self.held.get(task_id)
        return held is not None and held.attempt == attempt

    def failed(self, now: float) -> float:
        """One more failure in a row; the seconds it rests."""
        self.failures += 1
        return self.rest(
            deadlines.rest_seconds(self.failures), f"after {self.failures} failures in a row", now
        )

    def rest(self, seconds: float, why: str, now: float) -> float:
        """No work for so long."""
        self.resting_until, self.resting_why = now + seconds, why
        return seconds

    def resting(self, now: float) -> str:
        """Why it gets no work and for how long; empty when it may get some."""
        left = self.resting_until - now
        return f"resting for {left:.0f} s {self.resting_why}" if left > 0 else ""

    def succeeded(self) -> None:
        self.failures = 0


def absent(row: ProviderRow) -> ProviderInfo:
    """What people are shown of a provider that is not connected."""
    return ProviderInfo(
        provider_id=row.provider_id,
        name=row.profile.name,
        connected=False,
        slots=row.profile.slots,
        gflops=claimed(row.profile),
        busy=0,
        tasks_done=row.tasks_done,
        software=software_of(row.profile),
    )


def claimed(profile: Profile) -> float:
    """The speed that a provider says it has, as one figure."""
    return deadlines.speed(profile.matmul_gflops, profile.conv_gflops)


def software_of(profile: Profile) -> str:
    """What it runs, as people are shown."""
    return f"{profile.software}, {profile.engine}"
