"""What the daemon does now, and why it waits, in words for people."""

from __future__ import annotations

from collections.abc import Callable

from provider.core.batches import Held, Stage
from provider.core.exits import FATAL
from provider.core.state import Link, State, Stop, holding

NO_WORK = "the coordinator has nothing to do for this provider"
STOPPING: dict[Stop, str] = {
    Stop.NO: "",
    Stop.FINISHING: "stopping: ",
    Stop.HANDING_BACK: "stopping, handing tasks back: ",
    Stop.LEAVING: "stopping now: ",
}
DOING: dict[Stage, str] = {
    Stage.RUNNING: "computing",
    Stage.STORING: "storing results of",
    Stage.DELIVERING: "delivering",
    Stage.READY: "about to compute",
    Stage.PREPARING: "fetching inputs of",
}
"""In the order of what is worth telling."""


def describe(state: State, waiting: str = "") -> str:
    """One line. `waiting` is the coordinator's reason why there is no work."""
    return STOPPING[state.stop] + _LINK_TEXTS[state.link](state, waiting)


def _online(state: State, waiting: str) -> str:
    work = work_text(state)
    return work or f"waiting for work: {waiting or NO_WORK}"


def _waiting(state: State, waiting: str) -> str:
    if state.problem is not None and state.problem.code in FATAL:
        return f"giving up: {state.problem.message}"
    reason = state.problem.message if state.problem is not None else "the connection was lost"
    text = f"not connected ({reason}); trying again {state.pause:.1f} s after the last attempt"
    work = work_text(state)
    return f"{text}; {work}" if work else text


def work_text(state: State) -> str:
    """What goes on for the tasks held; empty when there are none."""
    for stage, verb in DOING.items():
        found = [held for held in state.held if held.stage is stage]
        if found:
            return f"{verb} {_label(found[0])}{_more(len(holding(state)) - 1)}"
    return ""


def _label(held: Held) -> str:
    task = held.tasks[0]
    return task.label or f"task {task.task_id}"


def _more(count: int) -> str:
    return f" ({count} more)" if count else ""


_LINK_TEXTS: dict[Link, Callable[[State, str], str]] = {
    Link.OFFLINE: lambda state, waiting: "starting",
    Link.CONNECTING: lambda state, waiting: "connecting to the coordinator",
    Link.REGISTERING: lambda state, waiting: "registering with the coordinator",
    Link.ONLINE: _online,
    Link.WAITING: _waiting,
}
