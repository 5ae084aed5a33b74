"""Which ready task goes to which provider: pure, from what the coordinator knows at this moment.

`assign` takes turns between requesters, then between their graphs, and gives each task to the provider that
is expected to finish it first: its backlog, the bytes it lacks, its measured speed. Leases, clocks and
sockets are in `ravsock.server`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace

from ravsock.core.deadlines import Effort

LINK = 50e6
"""Bytes a second assumed of a provider's line: only how places compare depends on it."""
PREFETCH = 1
"""Tasks a provider may have beyond its slots, so that it never waits for the next."""


@dataclass(frozen=True)
class Job:
    """A ready task."""

    task_id: int
    graph_id: str
    owner: int
    effort: Effort
    peak_memory: int = 0
    inputs: tuple[tuple[str, int], ...] = ()
    """Blobs it needs, the subgraph among them: name and bytes."""
    failed_on: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Node:
    """A connected provider."""

    provider_id: str
    gflops: float
    memory: int
    slots: int
    outstanding: int = 0
    """Tasks it has now."""
    backlog: float = 0.0
    """Estimated seconds until all of these are done, if a slot did them one after another."""
    graph_id: str | None = None
    """The only graph it works for."""
    resting: bool = False
    holds: Container[str] = field(default=frozenset())
    """Blobs it is known to have."""

    @property
    def free(self) -> int:
        """How many more tasks it may get."""
        return 0 if self.resting else max(0, self.slots + PREFETCH - self.outstanding)


@dataclass(frozen=True)
class Running:
    """A task that is leased: what its requester and graph already have."""

    owner: int
    graph_id: str


@dataclass(frozen=True)
class Assignment:
    task_id: int
    provider_id: str


def assign(
    jobs: Sequence[Job], nodes: Iterable[Node], running: Iterable[Running] = ()
) -> tuple[Assignment, ...]:
    """Places for as many of `jobs` as there is room for, at most `slots` + 1 tasks on a provider.

    Jobs of one graph are taken in the order given. A provider on which a task failed gets it again only when
    no other connected provider could run it.
    """
    fleet = {node.provider_id: node for node in nodes}
    turns = _Turns(jobs, running)
    made: list[Assignment] = []
    while any(node.free for node in fleet.values()) and (job := turns.next()) is not None:
        best = min(
            (node for node in candidates(job, fleet.values()) if node.free),
            key=lambda node: (_finish(job, node), node.outstanding / node.slots, node.provider_id),
            default=None,
        )
        if best is None:
            continue
        made.append(Assignment(job.task_id, best.provider_id))
        turns.count(job)
        fleet[best.provider_id] = replace(
            best, outstanding=best.outstanding + 1, backlog=best.backlog + job.effort.seconds(best.gflops)
        )
    return tuple(made)


def candidates(job: Job, nodes: Iterable[Node]) -> list[Node]:
    """The providers that may run the job, busy and resting ones among them."""
    able = [n for n in nodes if n.memory >= job.peak_memory and n.graph_id in (None, job.graph_id)]
    return [n for n in able if n.provider_id not in job.failed_on] or able


def why_waiting(graph_id: str, jobs: Iterable[Job], nodes: Sequence[Node], busy_elsewhere: int) -> str:
    """Why nothing of a graph runs. `busy_elsewhere`: how many providers are at work for other graphs."""
    if not nodes:
        return "no provider is connected"
    able = [n for n in nodes if n.graph_id in (None, graph_id)]
    if not able:
        return f"all connected providers ({len(nodes)}) work for other graphs only"
    needed = min((job.peak_memory for job in jobs if job.graph_id == graph_id), default=0)
    if all(n.memory < needed for n in able):
        most = max(n.memory for n in able)
        return (
            f"no provider offers the {needed:,} bytes of memory that the next subgraph needs (most: {most:,})"
        )
    if all(n.resting for n in able):
        return f"{_count(len(able))} that could take it rest after failures"
    if busy_elsewhere:
        return f"{_count(busy_elsewhere)} {'is' if busy_elsewhere == 1 else 'are'} busy with other graphs"
    return ""


def _count(providers: int) -> str:
    return "1 provider" if providers == 1 else f"{providers} providers"


def _finish(job: Job, node: Node) -> float:
    """Seconds until the node would be done with the job."""
    lacking = sum(size for sha, size in job.inputs if sha not in node.holds)
    waiting = node.backlog / node.slots if node.outstanding >= node.slots else 0.0
    return waiting + lacking / LINK + job.effort.seconds(node.gflops)


class _Turns:
    """Whose job is next: the requester with the fewest tasks running, then its graph with the fewest."""

    def __init__(self, jobs: Sequence[Job], running: Iterable[Running]) -> None:
        self._queues: dict[int, dict[str, deque[Job]]] = defaultdict(lambda: defaultdict(deque))
        self._owners: dict[int, int] = defaultdict(int)
        self._graphs: dict[str, int] = defaultdict(int)
        for job in jobs:
            self._queues[job.owner][job.graph_id].append(job)
        for task in running:
            self._owners[task.owner] += 1
            self._graphs[task.graph_id] += 1

    def next(self) -> Job | None:
        if not self._queues:
            return None
        owner = min(self._queues, key=self._owners.__getitem__)
        graphs = self._queues[owner]
        graph = min(graphs, key=self._graphs.__getitem__)
        job = graphs[graph].popleft()
        if not graphs[graph]:
            del graphs[graph]
        if not graphs:
            del self._queues[owner]
        return job

    def count(self, job: Job) -> None:
        self._owners[job.owner] += 1
        self._graphs[job.graph_id] += 1
