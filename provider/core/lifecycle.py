"""The daemon's automaton: `advance(state, event) -> (state, instructions)`.

Two tables say what may follow what: `LINKS` for the connection, `STAGES` for each task held. A link event
absent from its table is a defect of the shell and raises; an event about a task that is not held, or whose
stage does not take it, comes from an effect that was ended meanwhile and is ignored.

The shell performs the instructions and reports what became of them as events (see `events`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from provider.core.backoff import backoff
from provider.core.events import (
    Accepted,
    Assigned,
    Broke,
    Compute,
    Computed,
    Connect,
    Connected,
    Deliver,
    Delivered,
    Drop,
    Event,
    Instruction,
    Key,
    Lost,
    Prepare,
    Prepared,
    Quit,
    Recalled,
    Register,
    Remind,
    Stalled,
    Started,
    StopAsked,
    Wait,
    Waited,
    key_of,
)  # fmt: skip
from provider.core.exits import FATAL, Exit
from provider.core.tasks import Limits, check_task, expected_seconds
from ravop.errors import Problem, RavenError
from ravop.protocol.messages import Complete, Fail, HandBack, Task

replace = msgspec.structs.replace

FINISH_SECONDS = 10.0
"""A task that is expected to end within this time is finished when the daemon is asked to stop."""
FINISH_GRACE = 5.0
"""Seconds on top of that before the task is handed back after all."""
DELIVER_GRACE = 5.0
"""Seconds for handing back before the daemon ends without."""
SPARE = 16
"""Tasks beyond two a slot that a coordinator may assign; more are handed back."""
REFUSE_SECONDS = 1.0
"""Pause before an unwelcome task is handed back: the coordinator might send it again at once."""


class Link(enum.Enum):
    """The connection to the coordinator."""

    OFFLINE = "offline"
    CONNECTING = "connecting"
    REGISTERING = "registering"
    ONLINE = "online"
    WAITING = "waiting"


class Stage(enum.Enum):
    """Where a held task is."""

    PREPARING = "preparing"
    READY = "ready"
    RUNNING = "running"
    DELIVERING = "delivering"


class Stop(enum.IntEnum):
    """How urgently the daemon is stopping; each `StopAsked` goes one further."""

    NO = 0
    FINISHING = 1
    HANDING_BACK = 2
    LEAVING = 3


LINKS: dict[Link, dict[type[Any], Link]] = {
    Link.OFFLINE: {Started: Link.CONNECTING},
    Link.CONNECTING: {Connected: Link.REGISTERING, Lost: Link.WAITING},
    Link.REGISTERING: {Accepted: Link.ONLINE, Lost: Link.WAITING},
    Link.ONLINE: {Lost: Link.WAITING},
    Link.WAITING: {Waited: Link.CONNECTING},
}
STAGES: dict[Stage, dict[type[Any], Stage]] = {
    Stage.PREPARING: {Prepared: Stage.READY, Stalled: Stage.PREPARING, Broke: Stage.DELIVERING},
    Stage.READY: {},
    Stage.RUNNING: {Computed: Stage.DELIVERING, Broke: Stage.DELIVERING},
    Stage.DELIVERING: {Stalled: Stage.DELIVERING, Broke: Stage.DELIVERING},
}


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A task this provider has taken over and not yet got rid of."""

    task: Task
    stage: Stage = Stage.PREPARING
    arrived: float
    started: float = 0.0
    """When computing began."""
    outcome: Complete | Fail | HandBack | None = None
    """What is to be delivered."""
    failures: int = 0
    """Attempts of the current stage that stalled."""
    resting: bool = False
    """Stalled while offline: nothing goes on until the connection is back."""

    @property
    def key(self) -> Key:
        return key_of(self.task)


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All that the daemon's decisions depend on."""

    slots: int
    limits: Limits
    pace: float
    """Seconds per FLOP, as measured last."""
    link: Link = Link.OFFLINE
    losses: int = 0
    """Failed attempts to connect in a row."""
    problem: Problem | None = None
    """Why the connection was lost, while it is."""
    pause: float = 0.0
    """Seconds from the loss to the next attempt."""
    stop: Stop = Stop.NO
    held: tuple[Held, ...] = ()
    """In the order of arrival."""
    done: int = 0
    failed: int = 0


Step = tuple[State, tuple[Instruction, ...]]


def advance(state: State, event: Event) -> Step:
    """The state after the event, and what to do now. Raises `KeyError` for a link event out of its turn."""
    if type(event) in _LINK_EVENTS:
        state = replace(state, link=LINKS[state.link][type(event)])
    state, instructions = _HANDLERS[type(event)](state, event)
    if any(isinstance(instruction, Quit) for instruction in instructions):
        return state, instructions
    state, more = _fill_slots(state, getattr(event, "now", None))
    if state.stop and not state.held:
        more = (*more, Quit(Exit.STOPPED))
    return state, (*instructions, *more)


def holding(state: State) -> tuple[Key, ...]:
    """The attempts to name in `Register` and `Beat`."""
    return tuple(held.key for held in state.held)


# ── the connection ────────────────────────────────────────────────────────────────────────────────────────
def _connect(state: State, event: Started | Waited) -> Step:
    return state, (Connect(),)


def _connected(state: State, event: Connected) -> Step:
    return state, (Register(holding(state)),)


def _accepted(state: State, event: Accepted) -> Step:
    state, drops = _forget(replace(state, losses=0, problem=None), event.drop)
    resumed = tuple(_effect(held) for held in state.held if held.resting)
    awake = tuple(replace(held, resting=False, failures=0) if held.resting else held for held in state.held)
    return replace(state, held=awake), (*drops, *resumed)


def _lost(state: State, event: Lost) -> Step:
    state = replace(state, losses=state.losses + 1, problem=event.problem)
    if state.stop:  # the coordinator gives the tasks of a lost provider to others
        return state, (Quit(Exit.STOPPED),)
    if event.problem.code in FATAL:
        return state, (Quit(FATAL[event.problem.code], event.problem),)
    state = replace(state, pause=backoff(state.losses, event.jitter))
    return state, (Wait(state.pause),)


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────
def _assigned(state: State, event: Assigned) -> Step:
    instructions: list[Instruction] = []
    for task in event.tasks:
        older = [held.key for held in state.held if held.task.task_id == task.task_id]
        if key_of(task) in older:
            continue  # assigned twice: it is in work
        state, drops = _forget(state, older)
        new = _welcome(state, Held(task=task, arrived=event.now))
        state = replace(state, held=(*state.held, new))
        unwelcome = isinstance(new.outcome, HandBack)
        instructions += [*drops, _effect(new, REFUSE_SECONDS if unwelcome else 0.0)]
    return state, tuple(instructions)


def _welcome(state: State, new: Held) -> Held:
    """The task as taken over: to be prepared, or to be given back at once."""
    if state.stop or len(state.held) >= 2 * state.slots + SPARE:
        return _to_deliver(new, _hand_back(new))
    try:
        check_task(new.task, state.limits)
    except RavenError as error:
        return _to_deliver(new, _fail(new, error.problem))
    return new


def _prepared(state: State, event: Prepared) -> Step:
    return _update(state, event, lambda held: replace(held, failures=0)), ()


def _computed(state: State, event: Computed) -> Step:
    def outcome(held: Held) -> Complete:
        return Complete(
            task_id=held.task.task_id,
            attempt=held.task.attempt,
            outputs=event.outputs,
            seconds=event.seconds,
            peak_memory=event.peak_memory,
        )

    held = find(state, event.key)
    if held is not None and held.task.flops > 0 and event.seconds > 0:
        state = replace(state, pace=event.seconds / held.task.flops)
    return _deliver(state, event, outcome)


def _broke(state: State, event: Broke) -> Step:
    held = find(state, event.key)
    if held is not None and isinstance(held.outcome, Fail | HandBack):
        return _forget(state, [event.key])  # not even the failure can be told: the lease will run out
    if state.stop:  # a system that shuts down may end the worker before us
        return _deliver(state, event, _hand_back)
    return _deliver(state, event, lambda held: _fail(held, event.problem, event.node))


def _stalled(state: State, event: Stalled) -> Step:
    online = state.link is Link.ONLINE
    state = _update(state, event, lambda held: replace(held, failures=held.failures + 1, resting=not online))
    held = find(state, event.key)
    if held is None or not online or Stalled not in STAGES[held.stage]:
        return state, ()
    return state, (_effect(held, backoff(held.failures, event.jitter)),)


def _delivered(state: State, event: Delivered) -> Step:
    held = find(state, event.key)
    if held is None or held.stage is not Stage.DELIVERING:
        return state, ()
    done, failed = isinstance(held.outcome, Complete), isinstance(held.outcome, Fail)
    state = replace(state, done=state.done + done, failed=state.failed + failed)
    return _forget(state, [event.key])


def _recalled(state: State, event: Recalled) -> Step:
    return _forget(state, event.keys)


# ── stopping ──────────────────────────────────────────────────────────────────────────────────────────────
def _stop_asked(state: State, event: StopAsked) -> Step:
    state = replace(state, stop=Stop(min(state.stop + 1, Stop.LEAVING)))
    if state.stop is Stop.LEAVING or state.link is not Link.ONLINE:
        return state, (Quit(Exit.STOPPED),)
    instructions: list[Instruction] = []
    kept = []
    for held in state.held:
        if held.stage is not Stage.DELIVERING and not _may_finish(state, held, event.now):
            held = _to_deliver(held, _hand_back(held))
            instructions.append(_effect(held))
        kept.append(held)
    grace = FINISH_SECONDS + FINISH_GRACE if state.stop is Stop.FINISHING else DELIVER_GRACE
    return replace(state, held=tuple(kept)), (*instructions, Remind(grace))


def _may_finish(state: State, held: Held, now: float) -> bool:
    if state.stop is not Stop.FINISHING or held.stage is not Stage.RUNNING:
        return False
    return expected_seconds(held.task, state.pace) - (now - held.started) <= FINISH_SECONDS


# ── helpers ───────────────────────────────────────────────────────────────────────────────────────────────
def find(state: State, key: Key) -> Held | None:
    """The held attempt, if it is held."""
    return next((held for held in state.held if held.key == key), None)


def _update(state: State, event: Any, change: Callable[[Held], Held]) -> State:
    """Move the event's task to the next stage of its table, changed; nothing where the table has none."""

    def moved(held: Held) -> Held:
        if held.key != event.key or type(event) not in STAGES[held.stage]:
            return held
        return change(replace(held, stage=STAGES[held.stage][type(event)]))

    return replace(state, held=tuple(moved(held) for held in state.held))


def _deliver(state: State, event: Any, outcome: Callable[[Held], Complete | Fail | HandBack]) -> Step:
    """Move the event's task on to being delivered with this outcome."""
    before = find(state, event.key)
    if before is None or type(event) not in STAGES[before.stage]:
        return state, ()
    after = _to_deliver(before, outcome(before))
    return _update(state, event, lambda _: after), (_effect(after),)


def _to_deliver(held: Held, outcome: Complete | Fail | HandBack) -> Held:
    return replace(held, stage=Stage.DELIVERING, outcome=outcome, failures=0, resting=False)


def _effect(held: Held, after: float = 0.0) -> Instruction:
    """What has to go on for a task that is being prepared or delivered."""
    if held.outcome is None:
        return Prepare(held.task, after)
    return Deliver(held.key, held.outcome, after)


def _forget(state: State, keys: Iterable[Key]) -> Step:
    gone = set(keys)
    drops = tuple(Drop(held.key) for held in state.held if held.key in gone)
    return replace(state, held=tuple(held for held in state.held if held.key not in gone)), drops


def _fill_slots(state: State, now: float | None) -> Step:
    """Start ready tasks on free slots, oldest first; hand back those whose lease ran out in the queue."""
    if now is None or state.stop:
        return state, ()
    free = state.slots - sum(held.stage is Stage.RUNNING for held in state.held)
    instructions: list[Instruction] = []
    kept = []
    for held in state.held:
        if held.stage is Stage.READY and free > 0:
            if now > held.arrived + held.task.lease_seconds:
                held = _to_deliver(held, _hand_back(held))
                instructions.append(_effect(held))
            else:
                held = replace(held, stage=Stage.RUNNING, started=now)
                instructions.append(Compute(held.task))
                free -= 1
        kept.append(held)
    return replace(state, held=tuple(kept)), tuple(instructions)


def _hand_back(held: Held) -> HandBack:
    return HandBack(task_id=held.task.task_id, attempt=held.task.attempt)


def _fail(held: Held, problem: Problem, node: int | None = None) -> Fail:
    return Fail(task_id=held.task.task_id, attempt=held.task.attempt, problem=problem, node=node)


_LINK_EVENTS = frozenset(event for row in LINKS.values() for event in row)
_HANDLERS: dict[type[Any], Callable[[State, Any], Step]] = {
    Started: _connect,
    Waited: _connect,
    Connected: _connected,
    Accepted: _accepted,
    Lost: _lost,
    Assigned: _assigned,
    Prepared: _prepared,
    Computed: _computed,
    Broke: _broke,
    Stalled: _stalled,
    Delivered: _delivered,
    Recalled: _recalled,
    StopAsked: _stop_asked,
}
