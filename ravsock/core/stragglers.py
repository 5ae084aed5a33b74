"""Which batches that are leased get a second copy, and where: pure.

A batch that is late, or whose provider is much slower than one that has nothing to do, is given to an idle provider as
well; the first result counts. After "backup tasks" of MapReduce (Dean and Ghemawat 2004), with the estimated end instead
of the end of a phase as the measure (LATE: Zaharia et al. 2008).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from ravsock.core.jobs import Host, Job, Node
from ravsock.core.load import Load
from ravsock.core.speeds import UNKNOWN, Spread

LEAST_SECONDS = 0.5
"""Nothing is copied that should end so soon, nor late before it is so late."""
LATE, LATE_UNKNOWN = 1.5, 4.0
"""So many times what nine in ten runs take is late; so many times its estimate, where few runs were seen."""
MUCH_SLOWER = 3.0
"""A batch that is not late is copied where the other provider would end so many times sooner."""

LOOK_SECONDS = 1e-3
"""Between two looks, for each batch that is leased and each provider with room: forty times what looking at it takes."""


@dataclass(frozen=True)
class Leased:
    """A batch that a provider has."""

    number: int
    """To be known by."""
    provider_id: str
    job: Job
    """Its tasks as one: effort, inputs, where they may run."""
    elapsed: float
    """Seconds since it was handed out."""
    expected: float
    """Seconds that its run should take there."""
    waits: float = 0.0
    """Seconds until it should have begun and have had its inputs."""
    slack: float = 0.0
    """Seconds that it may take besides: its provider's line may be slow."""
    spread: Spread = field(default=UNKNOWN)


@dataclass(frozen=True)
class Copy:
    number: int
    provider_id: str


def late_after(task: Leased) -> float:
    """Seconds after which it is late."""
    factor = LATE * task.spread.high if task.spread.known else LATE_UNKNOWN
    return task.waits + task.slack + max(factor * task.expected, task.expected + LEAST_SECONDS)


def seconds_left(task: Leased) -> float:
    """Until it should end. What is later than expected is expected to take as long again as it has been late."""
    left = task.waits + task.expected - task.elapsed
    return left if left > 0 else -left


def copies(leased: Iterable[Leased], nodes: Sequence[Node], full: Collection[Host] = ()) -> tuple[Copy, ...]:
    """Copies to hand out now: each to a provider that is idle, may run it, and should have it done sooner. Those that
    would end last come first. `full`: the connected providers that are not among the nodes."""
    slow = sorted((task for task in leased if _worth(task, 0.0)), key=seconds_left, reverse=True)
    idle = Load(nodes, lambda node: int(node.idle), [task.job for task in slow], full)
    made: list[Copy] = []
    for task in slow:
        if not _worth(task, idle.soonest(task.job)):
            continue
        node = idle.best(task.job, but=task.provider_id)
        if node is not None and _worth(task, there := idle.finish(task.job, node)):
            made.append(Copy(task.number, node.provider_id))
            idle.add(node, there)
    return tuple(made)


def pause(leased: int, nodes: int = 0) -> float:
    """Seconds until so many batches and providers with room are looked at again: looking must not take a large share of
    the time."""
    return (leased + nodes) * LOOK_SECONDS


def next_look(leased: Iterable[Leased]) -> float | None:
    """Seconds until another batch may be late; None where there is none."""
    return min((max(LEAST_SECONDS, late_after(t) - t.elapsed) for t in leased), default=None)


def _worth(task: Leased, there: float) -> bool:
    left = seconds_left(task)
    if task.elapsed > late_after(task):
        return there < max(left, LEAST_SECONDS)
    return left > LEAST_SECONDS + MUCH_SLOWER * there
