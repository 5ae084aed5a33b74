"""What the providers have to do, and which of them would be done with a job first: pure.

The providers are rows of arrays, so that a job is compared with all of them in one sweep: some microseconds for ten,
a tenth of a millisecond for ten thousand. Nothing is left out of the comparison. Used by `placement` and `stragglers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from ravsock.core.jobs import Host, Job, Node, able

Column = npt.NDArray[np.float64]
NEVER = math.inf
LONGEST = 1e100
"""Seconds; what should take longer is still done by somebody."""


class Load:
    """The `nodes` with what they were given since.

    Args:
        room: how many more batches a node may get.
        jobs: those that will be asked about; others may be, but then nothing is known of where their inputs are.
        elsewhere: connected providers that get nothing now: a task which failed waits for them rather than go
            back to where it failed.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        room: Callable[[Node], int],
        jobs: Iterable[Job] = (),
        elsewhere: Collection[Host] = (),
    ) -> None:
        self._nodes = sorted(nodes, key=attrgetter("provider_id"))
        self._elsewhere = elsewhere
        self._place = {node.provider_id: place for place, node in enumerate(self._nodes)}
        self._room = [room(node) for node in self._nodes]
        self._free = sum(1 for free in self._room if free)
        self._gflops = self._column(attrgetter("gflops"))
        self._fastest = max(
            (n.gflops for n, free in zip(self._nodes, self._room, strict=True) if free), default=1.0
        )
        self._memory = self._column(attrgetter("memory"))
        self._link = self._column(attrgetter("link"))
        self._latency = self._column(attrgetter("latency"))
        self._slots = self._column(attrgetter("slots"))
        self._outstanding = self._column(attrgetter("outstanding"))
        self._backlog = self._column(attrgetter("backlog"))
        busy = self._outstanding >= self._slots
        self._waiting = np.where(busy, self._backlog / self._slots, 0.0)
        self._waiting[[place for place, free in enumerate(self._room) if not free]] = NEVER
        self._least_memory = min((node.memory for node in self._nodes), default=0)
        self._picky = any(node.graph_id is not None for node in self._nodes)
        self._holders = self._index(jobs)
        self._suits: dict[str, npt.NDArray[np.bool_]] = {}
        self._nobody: set[tuple[str, int, frozenset[str]]] = set()
        self._moved: tuple[tuple[tuple[str, int], ...], Column | float] = ((), 0.0)

    @property
    def free(self) -> bool:
        """Whether anybody may get anything."""
        return self._free > 0

    def best(self, job: Job, but: str | None = None) -> Node | None:
        """The provider with room that should be done with the job first, not `but`; None where nobody may have it.

        Where times say nothing, the less loaded one, then the first by name.
        """
        kind = (job.graph_id, job.peak_memory, job.failed_on)
        if kind in self._nobody or not self._free:
            return None
        seconds = self._seconds(job)
        self._bar(job, seconds)
        if (own := self._place.get(but or "")) is not None:
            seconds[own] = NEVER
        least = seconds.min()
        if least == NEVER:
            if but is None:  # rooms only become less
                self._nobody.add(kind)
            return None
        equal = np.flatnonzero(seconds == least)
        if len(equal) > 1:
            equal = equal[[np.argmin(self._outstanding[equal] / self._slots[equal])]]
        return self._nodes[int(equal[0])]

    def finish(self, job: Job, node: Node) -> float:
        """Seconds until a node with room would be done with the job."""
        place, moving = self._place[node.provider_id], self._moving(job)
        run = min(job.effort.seconds(node.gflops), LONGEST)
        return float(self._waiting[place] + run + (moving if isinstance(moving, float) else moving[place]))

    def soonest(self, job: Job) -> float:
        """Seconds that the job takes at least on any of them, without comparing them all; NEVER where nobody has room."""
        return min(job.effort.seconds(self._fastest), LONGEST) if self._free else NEVER

    def add(self, node: Node, seconds: float) -> None:
        """The node was given a batch."""
        place = self._place[node.provider_id]
        self._outstanding[place] += 1
        self._backlog[place] += seconds
        self._room[place] -= 1
        if not self._room[place]:
            self._free -= 1
            self._waiting[place] = NEVER
        elif self._outstanding[place] >= self._slots[place]:
            self._waiting[place] = self._backlog[place] / self._slots[place]

    def _seconds(self, job: Job) -> Column:
        with np.errstate(over="ignore"):
            run = job.effort.work / self._gflops + job.effort.overhead
        total: Column = self._waiting + self._moving(job) + np.minimum(run, LONGEST)
        return total

    def _moving(self, job: Job) -> Column | float:
        """Seconds until each has what the job needs. Jobs that need the same often follow each other."""
        if job.inputs != self._moved[0]:
            self._moved = (job.inputs, self._move(job.inputs))
        return self._moved[1]

    def _move(self, inputs: tuple[tuple[str, int], ...]) -> Column | float:
        whole = sum(size for _, size in inputs)
        if not whole:
            return 0.0
        lacking = np.full(len(self._nodes), float(whole))
        for sha, size in inputs:
            if (holders := self._holders.get(sha)) is not None:
                lacking[holders] -= size
        return np.where(lacking > 0, self._latency + lacking / self._link, 0.0)

    def _bar(self, job: Job, seconds: Column) -> None:
        """Those that may not run the job never will be done with it."""
        if job.peak_memory > self._least_memory:
            seconds[self._memory < job.peak_memory] = NEVER
        if self._picky:
            seconds[~self._suiting(job.graph_id)] = NEVER
        if job.failed_on and self._others(job):
            seconds[[self._place[name] for name in job.failed_on if name in self._place]] = NEVER

    def _suiting(self, graph_id: str) -> npt.NDArray[np.bool_]:
        """Who works for the graph."""
        if graph_id not in self._suits:
            self._suits[graph_id] = np.array([n.graph_id in (None, graph_id) for n in self._nodes], bool)
        return self._suits[graph_id]

    def _others(self, job: Job) -> bool:
        """Whether a connected provider may run the job on which it has not failed, with room or without."""
        return any(
            host.provider_id not in job.failed_on and able(job, host)
            for hosts in (self._nodes, self._elsewhere)
            for host in hosts
        )

    def _column(self, of: Callable[[Node], float]) -> Column:
        return np.fromiter(map(of, self._nodes), float, len(self._nodes))

    def _index(self, jobs: Iterable[Job]) -> dict[str, list[int]]:
        """By blob that the jobs need: the places of those with room that hold it."""
        wanted = {sha for job in jobs for sha, _ in job.inputs}
        holders: dict[str, list[int]] = {}
        for place, node in enumerate(self._nodes):
            if wanted and self._room[place]:
                for sha in node.holds & wanted:
                    holders.setdefault(sha, []).append(place)
        return holders
