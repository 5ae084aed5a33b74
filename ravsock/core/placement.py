"""Which ready task goes to which provider: pure, from what the coordinator knows at this moment.

`assign` takes turns between requesters, then between their graphs, and gives each task to the provider that
is expected to finish it first: its backlog, the bytes it lacks, its line and its measured speed (the rule of
HEFT: Topcuoglu et al. 2002, for tasks that are ready). Tiny tasks of one graph go out together as a batch. Leases,
clocks and sockets are in `ravsock.server`.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest

from ravsock.core.deadlines import Effort

LINK = 50e6
"""Bytes a second assumed of a provider's line until it is measured."""
PREFETCH = 1
"""Batches a provider may have beyond its slots, so that it never waits for the next."""
CONSIDERED = 64
"""Free providers compared for a task: those that are soonest idle."""

BATCH_SECONDS = 0.1
"""What a batch of tiny tasks is worth."""
BATCH_TASKS = 256
SHARE_SECONDS = 0.01
"""A batch may be worth so much, however little there is for everybody: below, sending costs more than waiting."""
TINY_SECONDS = BATCH_SECONDS / 2
"""A task that takes longer is a batch of its own."""
LEAST_SECONDS, LEAST_GUESSED = 0.0003, 0.003
"""What any task costs a provider; what one costs at least that nobody has measured, since a guess may be far too low."""


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


@dataclass(frozen=True)
class Node:
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
    holds: Container[str] = field(default=frozenset())
    """Blobs it is known to have."""
    link: float = LINK
    """Bytes a second."""
    latency: float = 0.0
    """Seconds to it and back."""

    @property
    def free(self) -> int:
        """How many more batches it may get."""
        return 0 if self.resting else max(0, self.slots + PREFETCH - self.outstanding)

    @property
    def idle(self) -> bool:
        """Whether something given to it now starts at once."""
        return not self.resting and self.outstanding < self.slots


@dataclass(frozen=True)
class Running:
    """A batch that is leased: what its requester and graph already have."""

    owner: int
    graph_id: str


@dataclass(frozen=True)
class Assignment:
    """A batch for a provider: tasks in their order, then up to `ahead` that wait for these only."""

    provider_id: str
    tasks: tuple[int, ...]
    ahead: int = 0


def assign(
    jobs: Sequence[Job],
    nodes: Iterable[Node],
    running: Iterable[Running] = (),
    beyond: Mapping[str, int] | None = None,
) -> tuple[Assignment, ...]:
    """Places for as many of `jobs` as there is room for, at most `slots` + 1 batches on a provider.

    Jobs of one graph are taken in the order given. A provider on which a task failed gets it again only when
    no other connected provider could run it. A batch of tiny tasks is worth `BATCH_SECONDS` at most, and no more than
    a fair share of what is ready: others may become free meanwhile. `beyond`: graphs of which more is ready than these
    jobs, and how many tasks a batch of theirs may have all the same.
    """
    fleet, more = list(nodes), beyond or {}
    load = _Load(fleet)
    places = max(1, sum(node.slots + PREFETCH for node in fleet if not node.resting))
    turns = _Turns(jobs, running)
    made: list[Assignment] = []
    while load.free and (queue := turns.next()) is not None:
        job = queue.popleft()
        node = load.best(job, fleet)
        if node is None:
            continue
        most = max(math.ceil((len(queue) + 1) / places), more.get(job.graph_id, 1))
        batch = _batch(job, queue, node, min(BATCH_TASKS, most))
        made.append(batch.assignment(node))
        turns.count(job)
        load.add(node, batch.work)
    return tuple(made)


def able(job: Job, node: Node) -> bool:
    """Whether the provider may run the job, if it has not failed it."""
    return node.memory >= job.peak_memory and node.graph_id in (None, job.graph_id)


def candidates(job: Job, nodes: Iterable[Node]) -> list[Node]:
    """The providers that may run the job, busy and resting ones among them."""
    found = [node for node in nodes if able(job, node)]
    return [node for node in found if node.provider_id not in job.failed_on] or found


def moving(job: Job, node: Node) -> float:
    """Seconds until the node has what the job needs."""
    lacking = sum(size for sha, size in job.inputs if sha not in node.holds)
    return node.latency + lacking / node.link if lacking else 0.0


def why_waiting(graph_id: str, jobs: Iterable[Job], nodes: Sequence[Node], busy_elsewhere: int) -> str:
    """Why nothing of a graph runs. `busy_elsewhere`: how many providers are at work for other graphs."""
    if not nodes:
        return "no provider is connected"
    possible = [n for n in nodes if n.graph_id in (None, graph_id)]
    if not possible:
        return f"all connected providers ({len(nodes)}) work for other graphs only"
    needed = min((job.peak_memory for job in jobs if job.graph_id == graph_id), default=0)
    if all(n.memory < needed for n in possible):
        most = max(n.memory for n in possible)
        return (
            f"no provider offers the {needed:,} bytes of memory that the next subgraph needs (most: {most:,})"
        )
    if all(n.resting for n in possible):
        return f"{_count(len(possible))} that could take it rest after failures"
    if busy_elsewhere:
        return f"{_count(busy_elsewhere)} {'is' if busy_elsewhere == 1 else 'are'} busy with other graphs"
    return ""


def _count(providers: int) -> str:
    return "1 provider" if providers == 1 else f"{providers} providers"


@dataclass
class _Batch:
    tasks: list[int]
    seconds: float
    """What it counts for."""
    work: float
    """What it should take."""
    shared: bool = False

    def assignment(self, node: Node) -> Assignment:
        ahead = 0
        if self.shared:
            left = (BATCH_SECONDS - self.seconds) * len(self.tasks) / self.seconds
            ahead = max(0, min(BATCH_TASKS - len(self.tasks), int(left)))
        return Assignment(node.provider_id, tuple(self.tasks), ahead)


def _batch(job: Job, queue: deque[Job], node: Node, most: int) -> _Batch:
    """The job, and those that follow it in its graph's queue as far as they are as tiny. Beyond `most`, it is worth
    `SHARE_SECONDS` only."""
    travel = moving(job, node)
    batch = _Batch([job.task_id], travel + job.seconds(node.gflops), travel + job.effort.seconds(node.gflops))
    if job.alone or batch.seconds > TINY_SECONDS:
        return batch
    batch.shared = True
    seen = {sha for sha, _ in job.inputs}
    while queue and len(batch.tasks) < BATCH_TASKS:
        other = queue[0]
        if other.alone or not able(other, node) or node.provider_id in other.failed_on:
            break
        lacking = sum(size for sha, size in other.inputs if sha not in seen and sha not in node.holds)
        seconds = other.seconds(node.gflops) + lacking / node.link
        if batch.seconds + seconds > (BATCH_SECONDS if len(batch.tasks) < most else SHARE_SECONDS):
            break
        batch.tasks.append(queue.popleft().task_id)
        batch.seconds += seconds
        batch.work += other.effort.seconds(node.gflops) + lacking / node.link
        seen.update(sha for sha, _ in other.inputs)
    return batch


class _Load:
    """What the providers have to do, with what was given to them just now."""

    def __init__(self, fleet: Iterable[Node]) -> None:
        self._room = {node.provider_id: node.free for node in fleet if node.free}
        self._nodes = {node.provider_id: node for node in fleet if node.free}
        self._outstanding = {name: node.outstanding for name, node in self._nodes.items()}
        self._backlog = {name: node.backlog for name, node in self._nodes.items()}

    @property
    def free(self) -> bool:
        return bool(self._room)

    def best(self, job: Job, fleet: list[Node]) -> Node | None:
        """The free provider that should be done with the job first."""
        allowed = {node.provider_id for node in candidates(job, fleet)} if job.failed_on else None
        found = [
            self._nodes[name]
            for name in self._room
            if able(job, self._nodes[name]) and (allowed is None or name in allowed)
        ]
        if len(found) > CONSIDERED:
            found = nsmallest(CONSIDERED, found, key=lambda node: (self._waiting(node), -node.gflops))
        return min(found, key=lambda node: self._finish(job, node), default=None)

    def _waiting(self, node: Node) -> float:
        busy = self._outstanding[node.provider_id] >= node.slots
        return self._backlog[node.provider_id] / node.slots if busy else 0.0

    def _finish(self, job: Job, node: Node) -> tuple[float, float, str]:
        """Seconds until the node would be done with the job; where that says nothing, the less loaded one."""
        seconds = self._waiting(node) + moving(job, node) + job.effort.seconds(node.gflops)
        return seconds, self._outstanding[node.provider_id] / node.slots, node.provider_id

    def add(self, node: Node, seconds: float) -> None:
        name = node.provider_id
        self._outstanding[name] += 1
        self._backlog[name] += seconds
        self._room[name] -= 1
        if not self._room[name]:
            del self._room[name]


class _Turns:
    """Whose job is next: the requester with the fewest batches running, then its graph with the fewest."""

    def __init__(self, jobs: Sequence[Job], running: Iterable[Running]) -> None:
        self._queues: dict[int, dict[str, deque[Job]]] = defaultdict(lambda: defaultdict(deque))
        self._owners: dict[int, int] = defaultdict(int)
        self._graphs: dict[str, int] = defaultdict(int)
        for job in jobs:
            self._queues[job.owner][job.graph_id].append(job)
        for task in running:
            self._owners[task.owner] += 1
            self._graphs[task.graph_id] += 1

    def next(self) -> deque[Job] | None:
        """A queue with at least one job."""
        while self._queues:
            owner = min(self._queues, key=self._owners.__getitem__)
            graphs = self._queues[owner]
            graph = min(graphs, key=self._graphs.__getitem__)
            if graphs[graph]:
                return graphs[graph]
            del graphs[graph]
            if not graphs:
                del self._queues[owner]
        return None

    def count(self, job: Job) -> None:
        self._owners[job.owner] += 1
        self._graphs[job.graph_id] += 1
