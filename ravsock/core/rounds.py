"""What a round of handing out needs to know and follows from it: which ready tasks to look at, what they cost, how long
their leases last, what is held already. Pure.

The coordinator's dispatcher and the simulation both go by it. Who gets what is in `placement`, second attempts are in
`stragglers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from ravsock.core import deadlines
from ravsock.core.deadlines import COORDINATOR, Effort, Policy
from ravsock.core.history import History
from ravsock.core.jobs import LINK, Job
from ravsock.core.placement import BATCH_TASKS, Assignment
from ravsock.core.stragglers import Leased

LOOK_BEYOND = 16
"""Ready tasks looked at beyond what there is room for: some fit nowhere."""
LOOK_AHEAD = 2048
FEW = 4
"""Ready tasks looked at for each place, at least."""


class Ready(Protocol):
    """A task that could be leased."""

    @property
    def task_id(self) -> int: ...
    @property
    def graph_id(self) -> str: ...
    @property
    def owner(self) -> int: ...
    @property
    def model(self) -> str: ...
    @property
    def flops(self) -> float: ...
    @property
    def seconds_overhead(self) -> float: ...
    @property
    def bytes_out(self) -> int: ...
    @property
    def peak_memory(self) -> int: ...
    @property
    def inputs(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def start(self) -> int: ...
    @property
    def length(self) -> int | None: ...
    @property
    def tries(self) -> int: ...
    @property
    def failed_on(self) -> Sequence[str]: ...


class Given(Protocol):
    """A batch that a provider has."""

    @property
    def graph_id(self) -> str: ...
    @property
    def owner(self) -> int: ...
    @property
    def since(self) -> float: ...
    @property
    def moving(self) -> float: ...
    @property
    def waits(self) -> float: ...
    @property
    def estimate(self) -> float: ...


def look(room: int, appetite: int) -> int:
    """How many ready tasks to look at when there is room for so many batches."""
    return min(LOOK_AHEAD, LOOK_BEYOND + appetite * room)


def cut(ready: Sequence[Ready], limit: int) -> set[str]:
    """The graphs of which more may be ready. They take turns, so those of which all was seen are not at the end."""
    return {task.graph_id for task in ready[len(ready) // 2 :]} if len(ready) == limit else set()


def appetite(made: Sequence[Assignment]) -> int:
    """How many ready tasks to look at for each place next time: enough for batches twice as large as now."""
    largest = max((len(assignment.tasks) for assignment in made), default=FEW)
    return min(max(FEW, 2 * largest), BATCH_TASKS)


def effort(task: Ready, history: History) -> Effort:
    """Of one run or iteration."""
    return deadlines.effort(task.flops, task.seconds_overhead, history.pace(task.model))


def chunk(task: Ready, seconds: float, history: History, policy: Policy = COORDINATOR) -> int:
    """Iterations that the next chunk of a loop has where one takes so many seconds."""
    left = (task.length or 0) - task.start
    return deadlines.chunk_length(left, seconds, history.pace(task.model), task.tries, policy)


def job(task: Ready, typical: float, history: History, policy: Policy = COORDINATOR) -> Job:
    """As placement sees the task, in a fleet of this typical speed."""
    pace, found = history.pace(task.model), effort(task, history)
    if task.length is not None:
        found = found.times(chunk(task, found.seconds(typical), history, policy))
    return Job(
        task_id=task.task_id,
        graph_id=task.graph_id,
        owner=task.owner,
        effort=found,
        peak_memory=task.peak_memory,
        inputs=task.inputs,
        failed_on=frozenset(task.failed_on),
        tries=task.tries,
        measured=pace is not None,
        alone=task.length is not None,
    )


def portion(
    task: Ready, gflops: float, history: History, policy: Policy = COORDINATOR
) -> tuple[float, int | None]:
    """What a provider of this speed is given of the task: seconds that it should take, and where a loop's chunk ends."""
    seconds = effort(task, history).seconds(gflops)
    if task.length is None:
        return seconds, None
    length = chunk(task, seconds, history, policy)
    return seconds * length, task.start + length


def backlog(batches: Iterable[Given], now: float) -> float:
    """Estimated seconds until all of them are done, if a slot did them one after another."""
    return sum(max(0.0, b.estimate + b.moving - max(0.0, now - b.since - b.waits)) for b in batches)


def lasts(
    ready: Sequence[Ready], seconds: Sequence[float], transfer: int, history: History,
    *, waits: float = 0.0, ahead: int = 0, policy: Policy = COORDINATOR,
) -> float:  # fmt: skip
    """Seconds that the lease of a batch lasts which should begin in `waits` seconds and take `seconds`; up to `ahead`
    tasks like these may run with it."""
    whole = sum(seconds) * (1 + ahead / len(ready))
    attempt = max(task.tries for task in ready) + 1
    lease = deadlines.lease_seconds(whole, transfer, attempt, history.spread(ready[0].model), policy)
    return lease + deadlines.patience(waits)


def leased(
    number: int, provider_id: str, batch: Given, held: Sequence[tuple[Ready, float]], now: float, history: History
) -> Leased:  # fmt: skip
    """What a provider holds of a batch, as `stragglers` sees it: tasks, and seconds that each should take."""
    ready = [task for task, _ in held]
    linked = history.link(provider_id)
    return Leased(
        number=number,
        provider_id=provider_id,
        job=Job(
            task_id=ready[0].task_id,
            graph_id=batch.graph_id,
            owner=batch.owner,
            effort=_together(held, history.gflops(provider_id), history),
            peak_memory=max(task.peak_memory for task in ready),
            inputs=tuple({sha: size for task in ready for sha, size in task.inputs}.items()),
            failed_on=frozenset(name for task in ready for name in task.failed_on),
        ),
        elapsed=now - batch.since,
        expected=batch.estimate,
        waits=batch.waits + batch.moving,
        # nothing is late because of a line of which nothing was seen
        slack=0.0 if linked else batch.moving * LINK / deadlines.SLOW_LINK,
        spread=history.spread(ready[0].model),
    )


def _together(held: Sequence[tuple[Ready, float]], gflops: float, history: History) -> Effort:
    """Of all that is held, on any provider. What was estimated for this one says how many iterations there are."""
    work = overhead = 0.0
    for task, seconds in held:
        one = effort(task, history)
        count = seconds / max(one.seconds(gflops), 1e-12)
        work, overhead = work + one.work * count, overhead + one.overhead * count
    return Effort(work, overhead)
