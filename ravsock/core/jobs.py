"""Ready tasks and connected providers, as placement sees them: values, and whether one may run the other.

Pure. `placement`, `stragglers` and `load` decide with them; the coordinator and the simulation make them.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

import msgspec

from ravsock.core.deadlines import Effort

LINK = 50e6
"""Bytes a second assumed of a provider's line until it is measured."""
PREFETCH = 1
"""Batches a provider may have beyond its slots, so that it never waits for the next."""
LEAST_SECONDS, LEAST_GUESSED = 0.0003, 0.003
"""What any task costs a provider; what one costs at least that nobody has measured, since a guess may be far too low."""


class Job(msgspec.Struct, frozen=True):
    """A ready task."""

    task_id: int
    graph_id: str
    owner: int
    effort: Effort
    peak_memory: int = 0
    inputs: tuple[tuple[str, int], ...] = ()
    """Blobs it needs, the subgraph among them: name and bytes."""
    failed_on: frozenset[str] = frozenset()
    tries: int = 0
    """How often it was leased before."""
    measured: bool = False
    """Whether its effort was measured, or is an estimate."""
    alone: bool = False
    """It shares a batch with no other task."""

    def seconds(self, gflops: float) -> float:
        """What it counts for in a batch: more after each try, so that what takes others with it ends up alone."""
        least = LEAST_SECONDS if self.measured else LEAST_GUESSED
        return max(self.effort.seconds(gflops), least) * 2.0 ** min(self.tries, 16)


class Host(Protocol):
    """A connected provider, as far as it matters for what it may run at all."""

    @property
    def provider_id(self) -> str: ...
    @property
    def memory(self) -> int: ...
    @property
    def slots(self) -> int: ...
    @property
    def graph_id(self) -> str | None: ...


class Node(msgspec.Struct, frozen=True):
    """A connected provider."""

    provider_id: str
    gflops: float
    memory: int
    slots: int
    outstanding: int = 0
    """Batches it has now."""
    backlog: float = 0.0
    """Estimated seconds until all of these are done, if a slot did them one after another."""
    graph_id: str | None = None
    """The only graph it works for."""
    resting: bool = False
    holds: Set[str] = frozenset()
    """Blobs it is known to have."""
    link: float = LINK
    """Bytes a second."""
    latency: float = 0.0
    """Seconds to it and back."""
    prefetch: int = PREFETCH

    @property
    def free(self) -> int:
        """How many more batches it may get."""
        return 0 if self.resting else room(self.slots, self.outstanding, self.prefetch)

    @property
    def idle(self) -> bool:
        """Whether something given to it now starts at once."""
        return not self.resting and self.outstanding < self.slots


def room(slots: int, outstanding: int, prefetch: int = PREFETCH) -> int:
    """How many more batches a provider may get that has some."""
    return max(0, slots + prefetch - outstanding)


def able(job: Job, host: Host) -> bool:
    """Whether the provider may run the job, if it has not failed it."""
    return host.memory >= job.peak_memory and host.graph_id in (None, job.graph_id)


def moving(job: Job, node: Node) -> float:
    """Seconds until the node has what the job needs."""
    lacking = sum(size for sha, size in job.inputs if sha not in node.holds)
    return node.latency + lacking / node.link if lacking else 0.0
