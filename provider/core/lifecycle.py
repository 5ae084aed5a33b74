"""The daemon's automaton: `advance(state, event) -> (state, instructions)`.

What it knows is in `state`, what it holds are batches (see `batches`). Two tables say what may follow what: `LINKS`
for the connection, `STAGES` for each batch held. A link event absent from its table is a defect of the shell and
raises; an event about a batch that is not held, or whose stage does not take it, comes from an effect that was
ended meanwhile and is ignored.

The shell performs the instructions and reports what became of them as events (see `events`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from provider.core import events as e
from provider.core.backoff import backoff
from provider.core.batches import (
    Held,
    Stage,
    expected_seconds,
    failure,
    key_of,
    outcome,
    replace,
    to_compute,
    to_deliver,
)
from provider.core.exits import FATAL, Exit
from provider.core.state import Link, State, Step, Stop, find, holding
from provider.core.tasks import check_task
from ravop.errors import RavenError
from ravop.protocol.messages import Report

FINISH_SECONDS = 10.0
"""A batch that is expected to end within this time is finished when the daemon is asked to stop."""
FINISH_GRACE = 5.0
"""Seconds on top of that before the batch is handed back after all."""
DELIVER_GRACE = 5.0
"""Seconds for handing back before the daemon ends without."""
SPARE = 16
"""Batches beyond two a slot that a coordinator may assign; more are handed back."""
REFUSE_SECONDS = 1.0
"""Pause before an unwelcome batch is handed back: the coordinator might send it again at once."""
TELLING_SECONDS = 0.01
"""Computing that took less says nothing about the machine's speed."""
TROUBLE_LOSSES = 2
"""Lost connections that one trouble of this machine weighs, for the pause before the next connection."""


LINKS: dict[Link, dict[type[Any], Link]] = {
    Link.OFFLINE: {e.Started: Link.CONNECTING},
    Link.CONNECTING: {e.Connected: Link.REGISTERING, e.Lost: Link.WAITING},
    Link.REGISTERING: {e.Accepted: Link.ONLINE, e.Lost: Link.WAITING},
    Link.ONLINE: {e.Lost: Link.WAITING},
    Link.WAITING: {e.Waited: Link.CONNECTING},
}
STAGES: dict[Stage, dict[type[Any], Stage]] = {
    Stage.PREPARING: {
        e.Prepared: Stage.READY,
        e.Stalled: Stage.PREPARING,
        e.Broke: Stage.DELIVERING,
        e.Unfit: Stage.DELIVERING,
    },
    Stage.READY: {},
    Stage.RUNNING: {
        e.Vacated: Stage.STORING,
        e.Computed: Stage.DELIVERING,
        e.Broke: Stage.DELIVERING,
        e.Unfit: Stage.DELIVERING,
        e.Undone: Stage.DELIVERING,
    },
    Stage.STORING: {e.Computed: Stage.DELIVERING, e.Unfit: Stage.DELIVERING},
    Stage.DELIVERING: dict.fromkeys((e.Stalled, e.Broke, e.Unfit, e.Undone), Stage.DELIVERING),
}


def advance(state: State, event: e.Event) -> Step:
    """The state after the event, and what to do now. Raises `KeyError` for a link event out of its turn."""
    if type(event) in _LINK_EVENTS:
        state = replace(state, link=LINKS[state.link][type(event)])
    state, instructions = _HANDLERS[type(event)](state, event)
    if any(isinstance(instruction, e.Quit) for instruction in instructions):
        return state, instructions
    state, more = _fill_slots(state, getattr(event, "now", None))
    if state.stop and not state.held:
        more = (*more, e.Quit(Exit.STOPPED))
    return state, (*instructions, *more)


# ── the connection ────────────────────────────────────────────────────────────────────────────────────────
def _connect(state: State, event: e.Started | e.Waited) -> Step:
    return state, (e.Connect(),)


def _connected(state: State, event: e.Connected) -> Step:
    return state, (e.Register(holding(state)),)


def _accepted(state: State, event: e.Accepted) -> Step:
    state, drops = _forget(replace(state, losses=0, problem=None), event.drop)
    resumed = tuple(_effect(held) for held in state.held if held.resting)
    awake = tuple(replace(held, resting=False, failures=0) if held.resting else held for held in state.held)
    return replace(state, held=awake), (*drops, *resumed)


def _lost(state: State, event: e.Lost) -> Step:
    state = replace(state, losses=state.losses + 1, problem=event.problem)
    if state.stop:  # the coordinator gives the tasks of a lost provider to others
        return state, (e.Quit(Exit.STOPPED),)
    if event.problem.code in FATAL:
        return state, (e.Quit(FATAL[event.problem.code], event.problem),)
    tries = state.losses + TROUBLE_LOSSES * state.troubles
    state = replace(state, pause=backoff(tries, event.jitter))
    return state, (e.Wait(state.pause),)


# ── batches ───────────────────────────────────────────────────────────────────────────────────────────────
def _assigned(state: State, event: e.Assigned) -> Step:
    held = {key.task_id: key for key in holding(state)}
    keys = [key_of(task) for task in event.tasks]
    here = frozenset(key for key in keys if held.get(key.task_id) == key)
    if len(here) == len(keys):
        return state, ()  # assigned twice: it is in work
    state, drops = _forget(
        state, [held[key.task_id] for key in keys if key.task_id in held and key not in here]
    )
    new = _welcome(
        state, Held(number=state.batches, tasks=event.tasks, unwanted=here, arrived=event.now), keys
    )
    state = replace(state, held=(*state.held, new), batches=state.batches + 1)
    unwelcome = new.report is not None and not new.report.failed
    return state, (*drops, _effect(new, REFUSE_SECONDS if unwelcome else 0.0))


def _welcome(state: State, new: Held, keys: Sequence[e.Key]) -> Held:
    """The batch as taken over: to be prepared, or to be given back at once."""
    if state.stop or len(state.held) >= 2 * state.slots + SPARE or len({k.task_id for k in keys}) < len(keys):
        return to_deliver(new, outcome(new))
    for place, task in enumerate(new.tasks):
        try:
            check_task(task, state.limits, new.tasks[:place])
        except RavenError as error:
            return to_deliver(new, outcome(new, failed=[failure(task, error.problem)]))
    return new


def _moved_on(state: State, event: e.Prepared | e.Vacated) -> Step:
    return _update(state, event, lambda held: replace(held, failures=0)), ()


def _computed(state: State, event: e.Computed) -> Step:
    held = find(state, event.batch)
    if held is None or e.Computed not in STAGES[held.stage]:
        return state, ()
    seconds, done = sum(result.seconds for result in event.done), set(map(key_of, event.done))
    flops = expected_seconds([task for task in held.tasks if key_of(task) in done], 1.0)
    if flops > 0 and seconds >= TELLING_SECONDS:
        state = replace(state, pace=seconds / flops)
    failed = () if event.failed is None else (event.failed,)
    return _deliver(replace(state, troubles=0), event, outcome(held, event.done, failed))


def _broke(state: State, event: e.Broke) -> Step:
    held = find(state, event.batch)
    if held is None:
        return state, ()
    if held.report is not None and not held.report.done:
        return _remove(state, held)  # not even the failure can be told: the lease will run out
    if state.stop:  # a system that shuts down may end the worker before us
        return _deliver(state, event, outcome(held))
    failed = [failure(event.key, event.problem, event.node, event.subgraph)]
    if held.report is not None:
        failed = [*held.report.failed, *(failure(result, event.problem) for result in held.report.done)]
    return _deliver(state, event, outcome(held, failed=failed))


def _unfit(state: State, event: e.Unfit) -> Step:
    held = find(state, event.batch)
    if held is None or e.Unfit not in STAGES[held.stage]:
        return state, ()
    if held.trouble is not None:
        return _remove(state, held)  # it cannot even be given back
    state, instructions = _deliver(state, event, outcome(held))
    return _change(state, event.batch, lambda held: replace(held, trouble=event.problem)), instructions


def _undone(state: State, event: e.Undone) -> Step:
    held = find(state, event.batch)
    if held is None:
        return state, ()
    if held.report is not None and not held.report.done:
        return _remove(state, held)  # it cannot even be given back
    return _deliver(state, event, outcome(held))


def _stalled(state: State, event: e.Stalled) -> Step:
    online = state.link is Link.ONLINE
    state = _update(state, event, lambda held: replace(held, failures=held.failures + 1, resting=not online))
    held = find(state, event.batch)
    if held is None or not online or e.Stalled not in STAGES[held.stage]:
        return state, ()
    return state, (_effect(held, backoff(held.failures, event.jitter)),)


def _delivered(state: State, event: e.Delivered) -> Step:
    held = find(state, event.batch)
    if held is None or held.stage is not Stage.DELIVERING or held.report is None:
        return state, ()
    done, failed = len(held.report.done), len(held.report.failed)
    state, drop = _remove(replace(state, done=state.done + done, failed=state.failed + failed), held)
    if held.trouble is None or state.stop or any(other.trouble for other in state.held):
        return state, drop
    return replace(state, troubles=state.troubles + 1), (*drop, e.HangUp(held.trouble))


def _recalled(state: State, event: e.Recalled) -> Step:
    return _forget(state, event.keys)


def _offered(state: State, event: e.Offered) -> Step:
    limits = replace(state.limits, memory=event.memory)
    return replace(state, slots=event.slots, limits=limits), ()


# ── stopping ──────────────────────────────────────────────────────────────────────────────────────────────
def _stop_asked(state: State, event: e.StopAsked) -> Step:
    state = replace(state, stop=Stop(min(state.stop + 1, Stop.LEAVING)))
    if state.stop is Stop.LEAVING or state.link is not Link.ONLINE:
        return state, (e.Quit(Exit.STOPPED),)
    instructions: list[e.Instruction] = []
    kept = []
    for held in state.held:
        if held.stage not in _COMPUTED and not _may_finish(state, held, event.now):
            held = to_deliver(held, outcome(held))
            instructions.append(_effect(held))
        kept.append(held)
    grace = FINISH_SECONDS + FINISH_GRACE if state.stop is Stop.FINISHING else DELIVER_GRACE
    return replace(state, held=tuple(kept)), (*instructions, e.Remind(grace))


def _may_finish(state: State, held: Held, now: float) -> bool:
    if state.stop is not Stop.FINISHING or held.stage is not Stage.RUNNING:
        return False
    return expected_seconds(held.tasks, state.pace) - (now - held.started) <= FINISH_SECONDS


# ── helpers ───────────────────────────────────────────────────────────────────────────────────────────────
def _change(state: State, batch: int, change: Callable[[Held], Held]) -> State:
    return replace(state, held=tuple(change(held) if held.number == batch else held for held in state.held))


def _update(state: State, event: Any, change: Callable[[Held], Held]) -> State:
    """Move the event's batch to the next stage of its table, changed; nothing where the table has none."""

    def moved(held: Held) -> Held:
        stage = STAGES[held.stage].get(type(event))
        return held if stage is None else change(replace(held, stage=stage))

    return _change(state, event.batch, moved)


def _deliver(state: State, event: Any, report: Report) -> Step:
    """Move the event's batch on to being delivered, with this report."""
    before = find(state, event.batch)
    if before is None or type(event) not in STAGES[before.stage]:
        return state, ()
    after = to_deliver(before, report)
    return _change(state, event.batch, lambda _: after), (_effect(after),)


def _effect(held: Held, after: float = 0.0) -> e.Instruction:
    """What has to go on for a batch that is being prepared or delivered."""
    if held.report is None:
        return e.Prepare(held.number, to_compute(held), after)
    return e.Deliver(held.number, held.report, after)


def _remove(state: State, held: Held) -> Step:
    others = tuple(other for other in state.held if other.number != held.number)
    return replace(state, held=others), (e.Drop(held.number),)


def _forget(state: State, keys: Iterable[e.Key]) -> Step:
    """Nobody wants these attempts; a batch goes when nothing of it is wanted."""
    gone = frozenset(keys)
    drops: list[e.Instruction] = []
    kept = []
    for held in state.held:
        left = [key for key in held.keys if key not in gone]
        if not left:
            drops.append(e.Drop(held.number))
        else:
            lost = gone.intersection(held.keys)
            kept.append(replace(held, unwanted=held.unwanted | lost) if lost else held)
    return replace(state, held=tuple(kept)), tuple(drops)


def _fill_slots(state: State, now: float | None) -> Step:
    """Start ready batches on free slots, oldest first; hand back those whose lease ran out in the queue."""
    if now is None or state.stop:
        return state, ()
    free = state.slots - sum(held.stage is Stage.RUNNING for held in state.held)
    instructions: list[e.Instruction] = []
    kept = []
    for held in state.held:
        if held.stage is Stage.READY and free > 0:
            if now > held.arrived + held.patience:
                held = to_deliver(held, outcome(held))
                instructions.append(_effect(held))
            else:
                held = replace(held, stage=Stage.RUNNING, started=now)
                instructions.append(e.Compute(held.number, to_compute(held)))
                free -= 1
        kept.append(held)
    return replace(state, held=tuple(kept)), tuple(instructions)


_COMPUTED = frozenset({Stage.STORING, Stage.DELIVERING})
_LINK_EVENTS = frozenset(event for row in LINKS.values() for event in row)
_HANDLERS: dict[type[Any], Callable[[State, Any], Step]] = {
    e.Started: _connect,
    e.Waited: _connect,
    e.Connected: _connected,
    e.Accepted: _accepted,
    e.Lost: _lost,
    e.Assigned: _assigned,
    e.Prepared: _moved_on,
    e.Vacated: _moved_on,
    e.Computed: _computed,
    e.Broke: _broke,
    e.Unfit: _unfit,
    e.Undone: _undone,
    e.Stalled: _stalled,
    e.Delivered: _delivered,
    e.Recalled: _recalled,
    e.Offered: _offered,
    e.StopAsked: _stop_asked,
}
