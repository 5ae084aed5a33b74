"""Which ready task goes to which provider: pure, from what the coordinator knows at this moment.

`assign` takes turns between requesters, then between their graphs, and gives each task to the provider that
is expected to finish it first: its backlog, the bytes it lacks, its line and its measured speed (the rule of
HEFT: Topcuoglu et al. 2002, for tasks that are ready). Tiny tasks of one graph go out together as a batch. Leases,
clocks and sockets are in `ravsock.server`.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Generic, TypeVar

import msgspec

from ravsock.core.jobs import PREFETCH, Host, Job, Node, able, moving
from ravsock.core.load import Load

T = TypeVar("T")

BATCH_SECONDS = 0.1
"""What a batch of tiny tasks is worth."""
BATCH_TASKS = 256
SHARE_SECONDS = 0.01
"""A batch may be worth so much, however little there is for everybody: below, sending costs more than waiting."""
TINY_SECONDS = BATCH_SECONDS / 2
"""A task that takes longer is a batch of its own."""


class Running(msgspec.Struct, frozen=True):
    """A batch that is leased: what its requester and graph already have."""

    owner: int
    graph_id: str


class Assignment(msgspec.Struct, frozen=True):
    """A batch for a provider: tasks in their order, then up to `ahead` that wait for these only."""

    provider_id: str
    tasks: tuple[int, ...]
    ahead: int = 0


def assign(
    jobs: Sequence[Job],
    nodes: Iterable[Node],
    running: Iterable[Running] | Mapping[Running, int] = (),
    beyond: Mapping[str, int] | None = None,
    full: Collection[Host] = (),
) -> tuple[Assignment, ...]:
    """Places for as many of `jobs` as there is room for, at most `slots` + 1 batches on a provider.

    Jobs of one graph are taken in the order given. A provider on which a task failed gets it again only when
    no other connected provider could run it. A batch of tiny tasks is worth `BATCH_SECONDS` at most, and no more than
    a fair share of what is ready: others may become free meanwhile. `beyond`: graphs of which more is ready than these
    jobs, and how many tasks a batch of theirs may have all the same. `full`: connected providers that have no room;
    there are many of them in a large fleet at work, and little of them matters. `running`: all that is leased, one by one
    or counted.
    """
    fleet, more = list(nodes), beyond or {}
    load = Load(fleet, attrgetter("free"), jobs, full)
    share = _Share(fleet, full)
    turns = _Turns(jobs, running)
    made: list[Assignment] = []
    while load.free and (queue := turns.next()) is not None:
        job = queue.popleft()
        node = load.best(job)
        if node is None:
            continue
        batch = _batch(job, queue, node, share, more.get(job.graph_id, 1))
        made.append(batch.assignment(node))
        turns.count()
        load.add(node, batch.work)
    return tuple(made)


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


def _batch(job: Job, queue: deque[Job], node: Node, share: _Share, least: int) -> _Batch:
    """The job, and those that follow it in its graph's queue as far as they are as tiny. Beyond a fair share, or `least`
    where that is more, it is worth `SHARE_SECONDS` only."""
    travel = moving(job, node)
    batch = _Batch([job.task_id], travel + job.seconds(node.gflops), travel + job.effort.seconds(node.gflops))
    if job.alone or batch.seconds > TINY_SECONDS:
        return batch
    batch.shared = True
    most = min(BATCH_TASKS, max(share.of(len(queue) + 1), least))
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


class _Share:
    """What is a fair part of a queue. The places are counted once, and only where tasks are tiny."""

    def __init__(self, nodes: Iterable[Node], full: Iterable[Host]) -> None:
        self._nodes, self._full = nodes, full

    @cached_property
    def _places(self) -> int:
        hosts = (*(node for node in self._nodes if not node.resting), *self._full)
        return max(1, sum(host.slots + PREFETCH for host in hosts))

    def of(self, tasks: int) -> int:
        return math.ceil(tasks / self._places)


class _Turns:
    """Whose job is next: the requester with the fewest batches running, then its graph with the fewest."""

    def __init__(self, jobs: Iterable[Job], running: Iterable[Running] | Mapping[Running, int]) -> None:
        graphs: Counter[str] = Counter()
        owners: Counter[int] = Counter()
        for task, batches in Counter(running).items():
            graphs[task.graph_id] += batches
            owners[task.owner] += batches
        queues: dict[int, dict[str, deque[Job]]] = {}
        for job in jobs:
            queues.setdefault(job.owner, {}).setdefault(job.graph_id, deque()).append(job)
        self._owners = _Fewest(
            (owners[owner], _Fewest((graphs[graph_id], queue) for graph_id, queue in theirs.items()))
            for owner, theirs in queues.items()
        )

    def next(self) -> deque[Job] | None:
        """A queue with at least one job."""
        while self._owners:
            graphs = self._owners.first
            while graphs:
                if graphs.first:
                    return graphs.first
                graphs.drop()
            self._owners.drop()
        return None

    def count(self) -> None:
        """Something of the last queue was placed."""
        self._owners.first.count()
        self._owners.count()


class _Fewest(Generic[T]):
    """Things by how often each was counted, those with the fewest first, in the order given where that is equal."""

    def __init__(self, counted: Iterable[tuple[int, T]]) -> None:
        self._heap = [(count, place, thing) for place, (count, thing) in enumerate(counted)]
        heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def first(self) -> T:
        return self._heap[0][2]

    def count(self) -> None:
        """The first one, once more."""
        count, place, thing = self._heap[0]
        heapq.heapreplace(self._heap, (count + 1, place, thing))

    def drop(self) -> None:
        """The first one."""
        heapq.heappop(self._heap)
