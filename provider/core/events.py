"""What can happen to the daemon, and what it can be told to do: the vocabulary of `lifecycle`.

A batch is known by its number, counted as they come. Times are seconds on the daemon's monotonic clock.
"""

from __future__ import annotations

import msgspec

from provider.core.exits import Exit
from ravop.errors import Problem
from ravop.protocol.messages import HeldTask, Report, Task, TaskFailure, TaskResult

Key = HeldTask
"""An attempt of a task: what coordinator and provider call it."""


class Value(msgspec.Struct, frozen=True):
    """Base of events and instructions."""


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────
class Started(Value, frozen=True):
    """The daemon is ready to connect."""


class Connected(Value, frozen=True):
    """The coordinator took the connection."""


class Lost(Value, frozen=True):
    """No connection came about, or it ended. `jitter` is random, from 0 to 1."""

    problem: Problem
    jitter: float


class Waited(Value, frozen=True):
    """The pause before the next attempt to connect is over."""


class Accepted(Value, frozen=True):
    """The coordinator registered this provider; `drop` is nobody's any more."""

    drop: tuple[Key, ...] = ()


class Assigned(Value, frozen=True):
    """A batch has come."""

    tasks: tuple[Task, ...]
    now: float


class Prepared(Value, frozen=True):
    """The models and inputs of the batch are in the cache."""

    batch: int
    now: float


class Vacated(Value, frozen=True):
    """The batch is computed and its worker free; large outputs are on their way into the cache."""

    batch: int
    now: float


class Computed(Value, frozen=True):
    """What came of the batch. It ended at the task that failed; large outputs are in the cache."""

    batch: int
    done: tuple[TaskResult, ...]
    failed: TaskFailure | None
    now: float


class Broke(Value, frozen=True):
    """The batch ended by the fault of the task `key`, and nothing of it is left; or its results cannot be
    delivered. `node`: index of the failing node in the subgraph, or, of a part, in the model `subgraph`.
    """

    batch: int
    key: Key
    problem: Problem
    now: float
    node: int | None = None
    subgraph: str | None = None


class Unfit(Value, frozen=True):
    """This machine cannot work on the batch now: its disk is full, or no process starts."""

    batch: int
    problem: Problem
    now: float


class Undone(Value, frozen=True):
    """The batch cannot be finished here for now, by nobody's fault, though other batches can: others may have it."""

    batch: int
    now: float


class Stalled(Value, frozen=True):
    """Preparing or delivering did not work because of the line or the coordinator: try again later."""

    batch: int
    jitter: float


class Delivered(Value, frozen=True):
    """The coordinator has the report, or does not want it."""

    batch: int
    now: float


class Recalled(Value, frozen=True):
    """The coordinator no longer wants these."""

    keys: tuple[Key, ...]
    now: float


class Offered(Value, frozen=True):
    """More or less can be computed at one time than before. `memory`: bytes of a slot."""

    slots: int
    memory: int
    now: float


class StopAsked(Value, frozen=True):
    """By a signal, a command or the end of stdin, or because stopping takes too long. Each one is more
    urgent.
    """

    now: float


Event = (
    Started | Connected | Lost | Waited | Accepted | Assigned | Prepared | Vacated | Computed | Broke |
    Unfit | Undone | Stalled | Delivered | Recalled | Offered | StopAsked
)  # fmt: skip


# ── instructions ──────────────────────────────────────────────────────────────────────────────────────────
class Connect(Value, frozen=True):
    """→ `Connected` or `Lost`."""


class Wait(Value, frozen=True):
    """→ `Waited` after so many seconds."""

    seconds: float


class Register(Value, frozen=True):
    """→ `Accepted` or `Lost`."""

    holding: tuple[Key, ...]


class HangUp(Value, frozen=True):
    """End the connection. → `Lost` with this problem."""

    problem: Problem


class Prepare(Value, frozen=True):
    """After a pause, get models and inputs. → `Prepared`, `Broke`, `Unfit` or `Stalled`."""

    batch: int
    tasks: tuple[Task, ...]
    after: float = 0.0


class Compute(Value, frozen=True):
    """→ `Computed`, perhaps with `Vacated` before, or `Broke`, `Unfit` or `Undone`."""

    batch: int
    tasks: tuple[Task, ...]


class Deliver(Value, frozen=True):
    """After a pause, send the report; ends what else goes on for the batch. → `Delivered`, `Broke`, `Unfit`,
    `Undone` or `Stalled`.
    """

    batch: int
    report: Report
    after: float = 0.0


class Drop(Value, frozen=True):
    """End whatever goes on for the batch, and forget it."""

    batch: int


class Remind(Value, frozen=True):
    """→ `StopAsked` after so many seconds."""

    seconds: float


class Quit(Value, frozen=True):
    """End the daemon."""

    code: Exit
    problem: Problem | None = None


Instruction = Connect | Wait | Register | HangUp | Prepare | Compute | Deliver | Drop | Remind | Quit
