"""The providers that are connected now, and what each holds: in memory, rebuilt as they come back after a
restart.

What must survive is in the store. For the event loop's thread only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ravop.protocol.messages import HeldTask, Profile, ProviderInfo
from ravsock.core import deadlines
from ravsock.core.placement import Node, Running
from ravsock.store import ProviderRow

RETURN_SECONDS = 30.0
"""A provider that was cut off has so long to come back before its uploads are refused."""
REMEMBERED = 10_000
"""Blobs remembered of a provider."""


@dataclass(frozen=True)
class Holding:
    """An attempt that a provider has."""

    task_id: int
    attempt: int
    graph_id: str
    owner: int
    estimate: float
    """Seconds it should take."""
    since: float
    blobs: frozenset[str]
    """What it may read for it."""

    @property
    def task(self) -> HeldTask:
        return HeldTask(task_id=self.task_id, attempt=self.attempt)


class RecentBlobs:
    """The blobs that a provider sent or received lately."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()

    def add(self, shas: Iterable[str]) -> None:
        for sha in shas:
            self._seen[sha] = None
            self._seen.move_to_end(sha)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def __contains__(self, sha: object) -> bool:
        return sha in self._seen


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
    failures: int = 0
    """In a row."""
    resting_until: float = 0.0
    resting_why: str = ""
    held: dict[int, Holding] = field(default_factory=dict)
    blobs: RecentBlobs = field(default_factory=RecentBlobs)

    @property
    def gflops(self) -> float:
        return _speed(self.profile)

    def works_for_others(self, graph_id: str) -> bool:
        """Whether it holds a task of another graph."""
        return any(holding.graph_id != graph_id for holding in self.held.values())

    def node(self, now: float) -> Node:
        """What placement needs to know."""
        backlog = sum(max(0.0, h.estimate - (now - h.since)) for h in self.held.values())
        return Node(
            provider_id=self.provider_id,
            gflops=self.gflops,
            memory=self.profile.memory,
            slots=self.profile.slots,
            outstanding=len(self.held),
            backlog=backlog,
            graph_id=self.graph_id,
            resting=now < self.resting_until,
            holds=self.blobs,
        )

    def info(self, now: float, tasks_done: int) -> ProviderInfo:
        """What people are shown."""
        return ProviderInfo(
            provider_id=self.provider_id,
            name=self.profile.name,
            connected=True,
            slots=self.profile.slots,
            gflops=self.gflops,
            busy=min(len(self.held), self.profile.slots),
            tasks_done=tasks_done,
            software=_software(self.profile),
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


class Providers:
    """All connected providers, by their id and by their connection."""

    def __init__(self) -> None:
        self._by_id: dict[str, Provider] = {}
        self._by_sid: dict[str, Provider] = {}
        self._left: dict[int, float] = {}

    def __iter__(self) -> Iterator[Provider]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, provider: Provider) -> Provider | None:
        """Register it; returns the same provider's earlier connection, which is replaced.

        What was learnt of it stays.
        """
        earlier = self._by_id.get(provider.provider_id)
        if earlier is not None:
            self.remove(earlier, provider.heard)
            provider.blobs, provider.failures = earlier.blobs, earlier.failures
            provider.resting_until, provider.resting_why = earlier.resting_until, earlier.resting_why
        self._by_id[provider.provider_id] = provider
        self._by_sid[provider.sid] = provider
        return earlier

    def remove(self, provider: Provider, now: float) -> None:
        """Its connection is gone. It may come back soon, and go on uploading meanwhile."""
        if self._by_sid.pop(provider.sid, None) is provider:
            del self._by_id[provider.provider_id]
            if provider.held:
                self._left[provider.token_id] = now

    def get(self, provider_id: str) -> Provider | None:
        return self._by_id.get(provider_id)

    def at(self, sid: str) -> Provider | None:
        return self._by_sid.get(sid)

    def may_read(self, token_id: int, sha: str) -> bool:
        """Whether a provider of this token needs the blob for a task that it holds."""
        return any(sha in held.blobs for p in self._of(token_id) for held in p.held.values())

    def may_write(self, token_id: int, now: float) -> bool:
        """Whether a provider of this token holds a task, or did until it was cut off a moment ago."""
        left = self._left.get(token_id, -RETURN_SECONDS)
        return now - left < RETURN_SECONDS or any(p.held for p in self._of(token_id))

    def _of(self, token_id: int) -> list[Provider]:
        return [p for p in self._by_id.values() if p.token_id == token_id]

    def running(self) -> list[Running]:
        """All tasks that are held now."""
        return [Running(h.owner, h.graph_id) for p in self._by_id.values() for h in p.held.values()]


def absent(row: ProviderRow) -> ProviderInfo:
    """What people are shown of a provider that is not connected."""
    return ProviderInfo(
        provider_id=row.provider_id,
        name=row.profile.name,
        connected=False,
        slots=row.profile.slots,
        gflops=_speed(row.profile),
        busy=0,
        tasks_done=row.tasks_done,
        software=_software(row.profile),
    )


def _speed(profile: Profile) -> float:
    return deadlines.speed(profile.matmul_gflops, profile.conv_gflops)


def _software(profile: Profile) -> str:
    return f"{profile.software}, {profile.engine}"
