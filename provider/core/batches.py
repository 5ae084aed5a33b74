"""A batch that this provider holds: what of it is wanted, what has to be computed, and what is reported."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from provider.core.events import Key
from ravop.errors import Problem
from ravop.protocol.messages import Earlier, HeldTask, Report, Task, TaskFailure, TaskInput, TaskResult

replace = msgspec.structs.replace


class Stage(enum.Enum):
    """Where a held batch is."""

    PREPARING = "preparing"
    READY = "ready"
    RUNNING = "running"
    STORING = "storing"
    """Computed; large outputs go into the cache, and the slot is free."""
    DELIVERING = "delivering"


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A batch this provider has taken over and not yet got rid of."""

    number: int
    tasks: tuple[Task, ...]
    unwanted: frozenset[Key] = frozenset()
    """Tasks of it that were recalled; never all."""
    stage: Stage = Stage.PREPARING
    arrived: float
    started: float = 0.0
    """When computing began."""
    report: Report | None = None
    """What is to be delivered."""
    failures: int = 0
    """Attempts of the current stage that stalled."""
    resting: bool = False
    """Stalled while offline: nothing goes on until the connection is back."""
    trouble: Problem | None = None
    """What keeps this machine from working: the provider rests when the batch is given back."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """The attempts that are wanted."""
        keys = tuple(map(key_of, self.tasks))
        return tuple(key for key in keys if key not in self.unwanted) if self.unwanted else keys

    @property
    def patience(self) -> float:
        """Seconds from arrival until the first of its leases ends."""
        return min(task.lease_seconds for task in self.tasks)


def key_of(task: Any) -> Key:
    """The attempt that a `Task`, `TaskResult` or `TaskFailure` is about."""
    return HeldTask(task_id=task.task_id, attempt=task.attempt)


def needs(task: Task) -> list[Earlier]:
    """What the task takes from earlier tasks of its batch."""
    return [given.ref for given in task.inputs if isinstance(given.ref, Earlier)]


def to_compute(held: Held) -> tuple[Task, ...]:
    """The tasks that are wanted, and those whose outputs these need; places in the batch are as they are then."""
    if not held.unwanted:
        return held.tasks
    needed = [key_of(task) not in held.unwanted for task in held.tasks]
    for place in reversed(range(len(needed))):
        if needed[place]:
            for earlier in needs(held.tasks[place]):
                needed[earlier.task] = True
    new = {old: place for place, old in enumerate(place for place, kept in enumerate(needed) if kept)}
    return tuple(_moved(held.tasks[old], new) for old in new)


def _moved(task: Task, places: dict[int, int]) -> Task:
    def moved(given: TaskInput) -> TaskInput:
        if not isinstance(given.ref, Earlier):
            return given
        return replace(given, ref=replace(given.ref, task=places[given.ref.task]))

    return replace(task, inputs=tuple(moved(given) for given in task.inputs))


def outcome(held: Held, done: Iterable[TaskResult] = (), failed: Iterable[TaskFailure] = ()) -> Report:
    """What is told of the batch: what of `done` and `failed` is wanted; the rest of it is given back."""
    results, failures = tuple(done), tuple(failed)
    if not held.unwanted and len(results) == len(held.tasks):
        return Report(done=results)
    wanted = dict.fromkeys(held.keys)
    results = tuple(result for result in results if key_of(result) in wanted)
    failures = tuple(failure for failure in failures if key_of(failure) in wanted)
    for told in (*results, *failures):
        del wanted[key_of(told)]
    return Report(done=results, failed=failures, returned=tuple(wanted))


def failure(task: Any, problem: Problem, node: int | None = None, subgraph: str | None = None) -> TaskFailure:
    """Of the attempt that a `Task`, `TaskResult` or key is about."""
    return TaskFailure(
        task_id=task.task_id, attempt=task.attempt, problem=problem, node=node, subgraph=subgraph
    )


def to_deliver(held: Held, report: Report) -> Held:
    return replace(held, stage=Stage.DELIVERING, report=report, failures=0, resting=False)


def expected_seconds(tasks: Sequence[Task], pace: float) -> float:
    """A guess how long computing takes, at `pace` seconds per FLOP."""
    return sum(task.flops for task in tasks) * pace
