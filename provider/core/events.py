"""What can happen to the daemon, and what it can be told to do: the vocabulary of `lifecycle`.

Times are seconds on the daemon's monotonic clock.
"""

from __future__ import annotations

from typing import Any

import msgspec

from provider.core.exits import Exit
from ravop.errors import Problem
from ravop.protocol.messages import Complete, Fail, HandBack, HeldTask, Output, Task

Key = HeldTask
"""A task's attempt: what everything here is about."""


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
    tasks: tuple[Task, ...]
    now: float


class Prepared(Value, frozen=True):
    """The task's model and inputs are in the cache."""

    key: Key
    now: float


class Computed(Value, frozen=True):
    """The results are there; large ones in the cache."""

    key: Key
    outputs: tuple[Output, ...]
    seconds: float
    peak_memory: int
    now: float


class Broke(Value, frozen=True):
    """The task failed by its own fault. `node`: index of the failing node in the subgraph, or, of a part, in the model
    `subgraph`.
    """

    key: Key
    problem: Problem
    now: float
    node: int | None = None
    subgraph: str | None = None


class Stalled(Value, frozen=True):
    """Preparing or delivering did not work because of the line or the coordinator: try again later."""

    key: Key
    jitter: float


class Delivered(Value, frozen=True):
    """The coordinator has the result, or does not want it."""

    key: Key
    now: float


class Recalled(Value, frozen=True):
    """The coordinator no longer wants these."""

    keys: tuple[Key, ...]
    now: float


class StopAsked(Value, frozen=True):
    """By a signal, a command or the end of stdin, or because stopping takes too long. Each one is more
    urgent.
    """

    now: float


Event = (
    Started | Connected | Lost | Waited | Accepted | Assigned | Prepared | Computed | Broke | Stalled |
    Delivered | Recalled | StopAsked
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


class Prepare(Value, frozen=True):
    """After a pause, get model and inputs. → `Prepared`, `Broke` or `Stalled`."""

    task: Task
    after: float = 0.0


class Compute(Value, frozen=True):
    """→ `Computed` or `Broke`."""

    task: Task


class Deliver(Value, frozen=True):
    """After a pause, send the outcome; ends what else goes on for the task. → `Delivered`, `Broke` or
    `Stalled`.
    """

    key: Key
    message: Complete | Fail | HandBack
    after: float = 0.0


class Drop(Value, frozen=True):
    """End whatever goes on for the task, and forget it."""

    key: Key


class Remind(Value, frozen=True):
    """→ `StopAsked` after so many seconds."""

    seconds: float


class Quit(Value, frozen=True):
    """End the daemon."""

    code: Exit
    problem: Problem | None = None


Instruction = Connect | Wait | Register | Prepare | Compute | Deliver | Drop | Remind | Quit


def key_of(task: Any) -> Key:
    """The attempt that a `Task`, `Complete`, `Fail` or `HandBack` is about."""
    return HeldTask(task_id=task.task_id, attempt=task.attempt)
