"""Tasks and batches of the simulation: what the store's rows and the coordinator's memory hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ravsock.core import states


@dataclass(eq=False, slots=True)
class Task:
    """As `rounds.Ready`, with what it really costs."""

    task_id: int
    graph_id: str
    owner: int
    model: str
    flops: float
    """As the planner estimates."""
    work: float
    """GFLOPS-seconds of one run or iteration, in truth."""
    bytes_out: int
    inputs: tuple[tuple[str, int], ...]
    length: int | None = None
    start: int = 0
    tries: int = 0
    failed_on: tuple[str, ...] = ()
    seconds_overhead: float = 0.0
    peak_memory: int = 0
    state: str = states.READY
    attempts: int = 0
    """Made so far."""
    current: dict[int, Batch] = field(default_factory=dict)
    """By attempt that counts: the batch it is in. Two where the first is late."""
    failures: int = 0
    expiries: int = 0
    doubted: str | None = None

    def go(self, event: str) -> None:
        self.state = states.next_state(states.TASK, self.state, event)


@dataclass(eq=False, slots=True)
class Held:
    """An attempt that a provider has."""

    task: Task
    attempt: int
    start: int
    stop: int | None
    estimate: float

    @property
    def iterations(self) -> int:
        return 1 if self.stop is None else self.stop - self.start

    @property
    def counts(self) -> bool:
        """Whether nobody else's result has come, nor its time has run out."""
        return self.attempt in self.task.current


@dataclass(eq=False, slots=True)
class Batch:
    """As `rounds.Given`, with what the provider does with it."""

    provider_id: str
    graph_id: str
    owner: int
    since: float
    held: list[Held]
    moving: float = 0.0
    waits: float = 0.0
    estimate: float = 0.0
    deadline: float = math.inf
    copied: bool = False
    """It had a copy, or is one."""
    copy: bool = False
    fetched: float = 0.0
    carried: tuple[int, float] = (0, 0.0)
    """Bytes, and the seconds that the line took."""
    run: float = 0.0
    begin: float = math.inf
    end: float = math.inf
    fails: bool = False
    nan: bool = False
    over: bool = False
    """The provider does not have it any more."""

    @property
    def alone(self) -> bool:
        """Whether nobody else has any of it now."""
        return all(len(held.task.current) == 1 for held in self.held if held.counts)

    @property
    def needs(self) -> dict[str, int]:
        return {sha: size for held in self.held for sha, size in held.task.inputs}

    @property
    def bytes_out(self) -> int:
        return sum(held.task.bytes_out for held in self.held)
