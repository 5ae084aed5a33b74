"""The life of a graph and of a task, each as one literal table: state → event → next state.

What is absent from a table may not happen. The store derives its `WHERE state IN (…)` from `allowing`, so
a row in
a state that does not allow an event is left as it is. Pure; everybody in `ravsock` may import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ravop.errors import GraphStateError

Table = Mapping[str, Mapping[str, str]]

ACTIVE: Final = "active"
EXECUTING: Final = "executing"
DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
WAITING: Final = "waiting"
READY: Final = "ready"
LEASED: Final = "leased"
OPEN: Final = "open"

GRAPH: Final[Table] = {
    ACTIVE: {"start": EXECUTING, "fail": FAILED, "cancel": CANCELLED, "delete": "deleted"},
    EXECUTING: {
        "start": EXECUTING,
        "advance": EXECUTING,
        "finish": DONE,
        "fail": FAILED,
        "cancel": CANCELLED,
    },
    DONE: {"delete": "deleted"},
    FAILED: {"start": EXECUTING, "cancel": CANCELLED, "delete": "deleted"},
    CANCELLED: {"cancel": CANCELLED, "delete": "deleted"},
}

TASK: Final[Table] = {
    WAITING: {"release": READY, "run_ahead": LEASED, "open": OPEN, "cancel": CANCELLED},
    READY: {"lease": LEASED, "keep": LEASED, "complete": DONE, "repeat": READY, "cancel": CANCELLED},
    LEASED: {
        "keep": LEASED, "complete": DONE, "repeat": READY, "give_back": READY, "expire": READY,
        "fail": READY, "fall_back": WAITING, "give_up": FAILED, "cancel": CANCELLED,
    },
    OPEN: {"repeat": OPEN, "complete": DONE, "cancel": CANCELLED},
    FAILED: {"retry": READY, "cancel": CANCELLED},
    DONE: {},
    CANCELLED: {},
}  # fmt: skip
"""`open`: a loop whose iterations are scopes of their own; no provider holds it. `repeat`: the next range
of iterations.
A task that was released may still be completed by the attempt that had it, until somebody else leases it.
A task runs ahead when it is leased before its inputs are there, together with the tasks that give them; when one
of those is not completed by the same provider, it falls back."""

IN_WORDS: Final[Mapping[str, str]] = {
    ACTIVE: "is activated but not executed yet",
    EXECUTING: "is executing",
    DONE: "is done",
    FAILED: "has failed",
    CANCELLED: "was cancelled",
}


def next_state(table: Table, state: str, event: str) -> str:
    """Where `event` leads from `state`. Raises `GraphStateError` where the table has no such way."""
    try:
        return table[state][event]
    except KeyError:
        what = "graph" if table is GRAPH else "task"
        raise GraphStateError(
            f"a {what} that {IN_WORDS.get(state, 'is ' + state)} cannot {event}",
            expected=" or ".join(allowing(table, event)) or "another event",
            received=state,
            hint="R.Graph(...) begins a new graph; a script without one means the newest"
            if table is GRAPH
            else "",
        ) from None


def allowing(table: Table, event: str) -> tuple[str, ...]:
    """The states in which `event` may happen."""
    return tuple(state for state, events in table.items() if event in events)
