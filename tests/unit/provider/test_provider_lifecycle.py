"""The daemon's automaton: its tables, its decisions, and what holds after any events."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.core import events as e
from provider.core.backoff import FIRST_SECONDS, MAX_SECONDS, backoff
from provider.core.batches import Stage, to_compute
from provider.core.exits import FATAL, MEANING, Exit
from provider.core.lifecycle import LINKS, REFUSE_SECONDS, STAGES, advance
from provider.core.state import Link, State, Stop, find, holding
from provider.core.tasks import Limits
from ravop.errors import Problem
from ravop.protocol.messages import (
    Earlier,
    HeldTask,
    OutputSpec,
    Report,
    Task,
    TaskFailure,
    TaskInput,
    TaskResult,
)

LIMITS = Limits(memory=1_000_000, disk=1_000_000)
GONE = Problem(code="unreachable", message="the coordinator does not answer")
FULL = Problem(code="storage_full", message="the disk is full")
BROKEN = Problem(code="compute", message="it does not work")
SHA = "0" * 64


def task(
    number: int = 1,
    attempt: int = 1,
    flops: float = 1e9,
    lease: float = 60.0,
    memory: int = 100,
    after: tuple[int, ...] = (),
) -> Task:
    """It takes an output of the tasks of its batch at the places `after`."""
    return Task(
        task_id=number,
        attempt=attempt,
        graph_id="g",
        label=f"task {number}",
        subgraph=SHA,
        inputs=tuple(TaskInput(name=f"x{i}", ref=Earlier(task=n, output="y")) for i, n in enumerate(after)),
        outputs=(OutputSpec(name="y", dtype="float32", shape=(2,)),),
        flops=flops,
        peak_memory=memory,
        lease_seconds=lease,
    )


def key(number: int = 1, attempt: int = 1) -> HeldTask:
    return HeldTask(task_id=number, attempt=attempt)


def run(state: State, *events: e.Event) -> tuple[State, tuple[e.Instruction, ...]]:
    """The state after all events, and the instructions of the last."""
    instructions: tuple[e.Instruction, ...] = ()
    for event in events:
        state, instructions = advance(state, event)
    return state, instructions


def fresh(slots: int = 1) -> State:
    return State(slots=slots, limits=LIMITS, pace=1e-9)


def online(slots: int = 1) -> State:
    return run(fresh(slots), e.Started(), e.Connected(), e.Accepted())[0]


def assigned(*tasks: Task, now: float = 0.0) -> e.Assigned:
    return e.Assigned(tasks, now)


def result(number: int = 1) -> TaskResult:
    return TaskResult(task_id=number, attempt=1, outputs=(), seconds=2.0, peak_memory=7)


def failed(number: int = 1, node: int | None = None) -> TaskFailure:
    return TaskFailure(task_id=number, attempt=1, problem=BROKEN, node=node)


def completed(*numbers: int) -> Report:
    return Report(done=tuple(map(result, numbers or (1,))))


def returned(*numbers: int) -> Report:
    return Report(returned=tuple(map(key, numbers)))


def computed(batch: int, *numbers: int, now: float = 2.0, failed: TaskFailure | None = None) -> e.Computed:
    return e.Computed(batch, tuple(map(result, numbers)), failed, now)


def running(*tasks: Task, slots: int = 1) -> State:
    """Batch 0 is these tasks, and runs since 0."""
    return run(online(slots), assigned(*tasks), e.Prepared(0, 0.0))[0]


# ── the connection ───────────────────────────────────────────────────────────────────────────────────────────
def test_connecting_registering_and_waiting() -> None:
    state, instructions = advance(fresh(), e.Started())
    assert instructions == (e.Connect(),)
    state, instructions = advance(state, e.Connected())
    assert instructions == (e.Register(()),)
    state, instructions = advance(state, e.Accepted())
    assert (state.link, instructions) == (Link.ONLINE, ())
    state, instructions = advance(state, e.Lost(GONE, 0.0))
    assert (state.link, instructions) == (Link.WAITING, (e.Wait(FIRST_SECONDS),))
    state, instructions = advance(state, e.Waited())
    assert (state.link, instructions) == (Link.CONNECTING, (e.Connect(),))


@pytest.mark.parametrize("link", Link)
@pytest.mark.parametrize("event", [e.Started(), e.Connected(), e.Lost(GONE, 0.5), e.Waited(), e.Accepted()])
def test_a_link_event_out_of_turn_is_a_defect(link: Link, event: e.Event) -> None:
    state = State(slots=1, limits=LIMITS, pace=1e-9, link=link)
    if type(event) in LINKS[link]:
        assert advance(state, event)[0].link is LINKS[link][type(event)]
    else:
        with pytest.raises(KeyError):
            advance(state, event)


def test_every_state_can_be_left_and_reached() -> None:
    assert set(LINKS) == set(Link)
    assert set(STAGES) == set(Stage)
    reached = {target for row in LINKS.values() for target in row.values()}
    assert reached | {Link.OFFLINE} == set(Link)
    assert all(e.Lost in LINKS[link] for link in reached - {Link.WAITING})


@pytest.mark.parametrize(("code", "exit"), FATAL.items())
def test_refusals_that_do_not_pass_end_the_daemon(code: str, exit: Exit) -> None:
    problem = Problem(code=code, message="no")
    assert run(fresh(), e.Started(), e.Lost(problem, 0.5))[1] == (e.Quit(exit, problem),)


def test_every_exit_code_has_its_meaning() -> None:
    assert set(MEANING) == set(Exit)
    assert not {1, 2} & set(Exit), "Python and the command line use these"


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_backoff_is_bounded_and_grows(tries: int, jitter: float) -> None:
    seconds = backoff(tries, jitter)
    assert FIRST_SECONDS / 2 <= seconds <= MAX_SECONDS
    assert seconds <= backoff(tries + 1, jitter) <= 2 * seconds
    assert backoff(tries, 0.0) <= 2 * seconds


def test_losses_back_off_until_registered() -> None:
    state = run(fresh(), e.Started())[0]
    pauses = []
    for _ in range(8):
        state, instructions = advance(state, e.Lost(GONE, 0.0))
        pauses += [wait.seconds for wait in instructions if isinstance(wait, e.Wait)]
        state, _ = advance(state, e.Waited())
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    state = run(state, e.Connected(), e.Accepted())[0]
    assert advance(state, e.Lost(GONE, 0.0))[1] == (e.Wait(FIRST_SECONDS),)


# ── the life of a batch ──────────────────────────────────────────────────────────────────────────────────────
def test_a_batch_from_arrival_to_delivery() -> None:
    batch = (task(1), task(2, after=(0,)))
    state, instructions = advance(online(), assigned(*batch))
    assert instructions == (e.Prepare(0, batch),)
    state, instructions = advance(state, e.Prepared(0, 1.0))
    assert instructions == (e.Compute(0, batch),)
    state, instructions = advance(state, computed(0, 1, 2))
    assert instructions == (e.Deliver(0, completed(1, 2)),)
    state, instructions = advance(state, e.Delivered(0, 3.0))
    assert instructions == (e.Drop(0),)
    assert (state.held, state.done, state.failed) == ((), 2, 0)
    assert state.pace == pytest.approx(2e-9)


def test_what_takes_no_time_says_nothing_about_speed() -> None:
    state = running(task(flops=1.0))
    quick = TaskResult(task_id=1, attempt=1, outputs=(), seconds=1e-4)
    assert advance(state, e.Computed(0, (quick,), None, 0.1))[0].pace == state.pace


def test_the_next_batch_is_prepared_meanwhile_and_computed_at_once() -> None:
    state, instructions = run(running(task(1)), assigned(task(2)), e.Prepared(1, 0.5))
    assert instructions == ()
    state, instructions = advance(state, computed(0, 1))
    assert instructions == (e.Deliver(0, completed(1)), e.Compute(1, (task(2),)))


def test_the_slot_is_free_while_results_are_stored() -> None:
    state = run(running(task(1)), assigned(task(2)), e.Prepared(1, 0.5))[0]
    state, instructions = advance(state, e.Vacated(0, 1.0))
    assert instructions == (e.Compute(1, (task(2),)),)
    state, instructions = advance(state, computed(0, 1))
    assert instructions == (e.Deliver(0, completed(1)),)


@given(st.integers(1, 5), st.integers(0, 12))
def test_never_more_runs_than_slots(slots: int, count: int) -> None:
    state = online(slots)
    for number in range(count):
        state, _ = run(state, assigned(task(number)), e.Prepared(number, 0.0))
    assert sum(held.stage is Stage.RUNNING for held in state.held) == min(slots, count)


def test_a_task_that_fails_ends_its_batch() -> None:
    state = running(task(1), task(2), task(3))
    state, instructions = advance(state, computed(0, 1, failed=failed(2, node=17)))
    told = Report(done=(result(1),), failed=(failed(2, node=17),), returned=(key(3),))
    assert instructions == (e.Deliver(0, told),)
    state, _ = advance(state, e.Delivered(0, 2.0))
    assert (state.done, state.failed) == (1, 1)


def test_a_crash_is_the_fault_of_one_task() -> None:
    _, instructions = advance(running(task(1), task(2), task(3)), e.Broke(0, key(2), BROKEN, 1.0, node=17))
    assert instructions == (e.Deliver(0, Report(failed=(failed(2, node=17),), returned=(key(1), key(3)))),)


def test_results_that_cannot_be_delivered_become_failures_and_that_is_told_once() -> None:
    state = run(running(task(1), task(2), task(3)), computed(0, 1, failed=failed(2)))[0]
    state, instructions = advance(state, e.Broke(0, key(1), BROKEN, 3.0))
    assert instructions == (e.Deliver(0, Report(failed=(failed(2), failed(1)), returned=(key(3),))),)
    state, instructions = advance(state, e.Broke(0, key(1), BROKEN, 4.0))
    assert (state.held, instructions) == ((), (e.Drop(0),))


REFUSED: list[tuple[str, Task]] = [
    ("out_of_memory", task(2, memory=LIMITS.memory + 1)),
    ("message", task(2, flops=math.nan)),
    ("message", task(2, lease=math.inf)),
    ("message", task(2, after=(1,))),
]


@pytest.mark.parametrize(("code", "bad"), REFUSED)
def test_a_task_that_does_not_fit_fails_on_arrival(code: str, bad: Task) -> None:
    (deliver,) = advance(online(), assigned(task(1), bad, task(3)))[1]
    assert isinstance(deliver, e.Deliver)
    assert [told.problem.code for told in deliver.report.failed] == [code]
    assert deliver.report.returned == (key(1), key(3))


def test_a_new_attempt_replaces_the_old_one_and_the_same_one_changes_nothing() -> None:
    state = running(task())
    assert advance(state, assigned(task())) == (state, ())
    state, instructions = advance(state, assigned(task(attempt=2)))
    assert instructions == (e.Drop(0), e.Prepare(1, (task(attempt=2),)))
    assert holding(state) == (key(1, 2),)


def test_a_batch_in_which_tasks_cannot_be_told_apart_goes_back() -> None:
    (deliver,) = advance(online(), assigned(task(1), task(1)))[1]
    assert deliver == e.Deliver(0, returned(1), REFUSE_SECONDS)


def test_late_news_of_a_dropped_batch_is_ignored() -> None:
    state, instructions = advance(running(task()), e.Recalled((key(),), 1.0))
    assert (state.held, instructions) == ((), (e.Drop(0),))
    for late in (e.Prepared(0, 2.0), computed(0, 1), e.Broke(0, key(), BROKEN, 2.0), e.Stalled(0, 0.5)):
        assert advance(state, late) == (state, ())


def test_a_lease_that_ran_out_in_the_queue_is_handed_back() -> None:
    state = run(running(task(1)), assigned(task(2), task(3, lease=5.0)), e.Prepared(1, 0.0))[0]
    _, instructions = advance(state, computed(0, 1, now=6.0))
    assert instructions[1:] == (e.Deliver(1, returned(2, 3)),)


# ── recalls ──────────────────────────────────────────────────────────────────────────────────────────────────
CHAIN = (task(1), task(2, after=(0,)), task(3), task(4, after=(1, 2)))


def test_what_is_recalled_before_the_run_is_computed_only_where_others_need_it() -> None:
    state = run(online(), assigned(*CHAIN), e.Recalled((key(1), key(4)), 0.0))[0]
    assert holding(state) == (key(2), key(3))
    _, instructions = advance(state, e.Prepared(0, 0.0))
    assert instructions == (e.Compute(0, CHAIN[:3]),)


def test_places_follow_when_tasks_are_left_out() -> None:
    state = run(online(), assigned(*CHAIN), e.Recalled((key(1), key(2)), 0.0), e.Recalled((key(4),), 0.0))[0]
    assert to_compute(state.held[0]) == (CHAIN[2],)
    batch = (task(1), task(2), task(3, after=(1,)))
    state = run(online(), assigned(*batch), e.Recalled((key(1),), 0.0))[0]
    assert to_compute(state.held[0]) == (task(2), task(3, after=(0,)))


def test_a_running_batch_goes_on_for_those_still_wanted() -> None:
    state, instructions = advance(running(*CHAIN), e.Recalled((key(1), key(3)), 0.5))
    assert instructions == ()
    state, instructions = advance(state, computed(0, 1, 2, 3, 4))
    assert instructions == (e.Deliver(0, completed(2, 4)),)


def test_a_recalled_task_that_fails_is_nobodys_failure() -> None:
    state = advance(running(*CHAIN), e.Recalled((key(1), key(3)), 0.5))[0]
    _, instructions = advance(state, computed(0, 1, failed=failed(3)))
    assert instructions == (e.Deliver(0, returned(2, 4)),)


# ── trouble with the line ────────────────────────────────────────────────────────────────────────────────────
def test_results_wait_for_the_line_and_are_delivered_again() -> None:
    state, _ = advance(running(task()), e.Lost(GONE, 0.0))
    assert find(state, 0) is not None, "computing goes on"
    state, instructions = advance(state, computed(0, 1))
    assert instructions == (e.Deliver(0, completed()),)
    state, instructions = run(state, e.Stalled(0, 0.5))
    assert instructions == ()
    state, instructions = run(state, e.Waited(), e.Connected())
    assert instructions == (e.Register((key(),)),)
    state, instructions = advance(state, e.Accepted())
    assert instructions == (e.Deliver(0, completed()),)


def test_what_the_coordinator_gave_to_others_is_dropped() -> None:
    state = run(online(), assigned(task()), e.Lost(GONE, 0.0), e.Stalled(0, 0.0), e.Waited(), e.Connected())[
        0
    ]
    state, instructions = advance(state, e.Accepted((key(),)))
    assert (state.held, instructions) == ((), (e.Drop(0),))


@pytest.mark.parametrize("stage", [Stage.PREPARING, Stage.DELIVERING])
def test_stalls_while_online_are_tried_again_with_growing_pauses(stage: Stage) -> None:
    state = run(online(), assigned(task()))[0]
    if stage is Stage.DELIVERING:
        state = run(state, e.Prepared(0, 0.0), computed(0, 1))[0]
    pauses = []
    for _ in range(4):
        state, instructions = advance(state, e.Stalled(0, 0.0))
        pauses += [again.after for again in instructions if isinstance(again, e.Prepare | e.Deliver)]
    assert pauses == [0.5, 1, 2, 4]


# ── trouble of this machine ──────────────────────────────────────────────────────────────────────────────────
def test_a_machine_in_trouble_gives_back_and_rests_longer_each_time() -> None:
    state, pauses = online(), []
    for number in range(4):
        state, instructions = run(state, assigned(task(number)), e.Unfit(number, FULL, 0.0))
        assert instructions == (e.Deliver(number, returned(number)),), "nobody is blamed"
        state, instructions = advance(state, e.Delivered(number, 0.1))
        assert instructions == (e.Drop(number), e.HangUp(FULL))
        state, (wait,) = advance(state, e.Lost(FULL, 0.0))
        assert isinstance(wait, e.Wait)
        pauses.append(wait.seconds)
        state = run(state, e.Waited(), e.Connected(), e.Accepted())[0]
    assert pauses == [2, 8, 30, 30]
    state = run(state, assigned(task(9)), e.Prepared(4, 0.0), computed(4, 9), e.Delivered(4, 1.0))[0]
    assert run(state, e.Lost(GONE, 0.0))[1] == (e.Wait(FIRST_SECONDS),), "it works again"


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_what_cannot_be_finished_here_goes_back_and_the_line_stays() -> None:
    state, instructions = run(running(task(1), task(2)), e.Undone(0, 3.0))
    assert instructions == (e.Deliver(0, returned(1, 2)),)
    state, instructions = run(state, e.Undone(0, 4.0))  # not even that can be told: the lease will run out
    assert (state.held, state.link, instructions) == ((), Link.ONLINE, (e.Drop(0),))


def test_more_slots_take_what_waits_and_fewer_end_nothing() -> None:
    state = online(slots=1)
    for number in range(3):
        state, _ = run(state, assigned(task(number)), e.Prepared(number, 1.0))
    state, instructions = run(state, e.Offered(2, 500, 2.0))
    assert [type(instruction) for instruction in instructions] == [e.Compute]
    assert state.limits.memory == 500
    state, instructions = run(state, e.Offered(1, 500, 3.0))
    assert instructions == ()
    assert [held.stage for held in state.held] == [Stage.RUNNING, Stage.RUNNING, Stage.READY]


def test_an_idle_provider_stops_at_once() -> None:
    assert advance(online(), e.StopAsked(0.0))[1][-1] == e.Quit(Exit.STOPPED)


def test_a_short_batch_is_finished_the_rest_handed_back() -> None:
    """The running task takes 2 s by its 2e9 FLOPs at 1e-9 s each."""
    state = run(running(task(1, flops=2e9)), assigned(task(2), task(3)), e.Prepared(1, 0.0))[0]
    state, instructions = advance(state, e.StopAsked(1.0))
    assert e.Deliver(1, returned(2, 3)) in instructions
    assert not any(isinstance(i, e.Deliver) and i.batch == 0 for i in instructions)
    state, instructions = run(state, e.Delivered(1, 1.1), computed(0, 1))
    assert instructions == (e.Deliver(0, completed(1)),)
    state, instructions = advance(state, e.Delivered(0, 2.1))
    assert instructions == (e.Drop(0), e.Quit(Exit.STOPPED))


def test_a_long_batch_is_handed_back() -> None:
    state = running(task(1, flops=30e9), task(2, flops=30e9))
    assert e.Deliver(0, returned(1, 2)) in advance(state, e.StopAsked(1.0))[1]
    assert e.Deliver(0, returned(1, 2)) not in advance(state, e.StopAsked(55.0))[1]


def test_results_that_are_being_stored_are_delivered_before_the_end() -> None:
    state, instructions = run(running(task(flops=60e9)), e.Vacated(0, 1.0), e.StopAsked(1.0))
    assert not any(isinstance(i, e.Deliver | e.Quit) for i in instructions)
    assert advance(state, computed(0, 1))[1] == (e.Deliver(0, completed(1)),)


def test_asked_twice_hands_back_at_once_and_three_times_leaves() -> None:
    state = run(running(task()), e.StopAsked(0.0))[0]
    state, instructions = advance(state, e.StopAsked(0.1))
    assert e.Deliver(0, returned(1)) in instructions
    assert any(isinstance(instruction, e.Remind) for instruction in instructions)
    state, instructions = advance(state, e.StopAsked(0.2))
    assert instructions == (e.Quit(Exit.STOPPED),)
    assert state.stop is Stop.LEAVING


def test_stopping_without_a_line_does_not_wait_for_one() -> None:
    assert run(running(task()), e.StopAsked(0.0), e.Lost(GONE, 0.5))[1] == (e.Quit(Exit.STOPPED),)
    assert run(running(task()), e.Lost(GONE, 0.5), e.StopAsked(0.0))[1] == (e.Quit(Exit.STOPPED),)


def test_a_worker_killed_while_stopping_is_nobodys_fault() -> None:
    state = run(running(task()), e.StopAsked(0.0))[0]
    assert advance(state, e.Broke(0, key(), BROKEN, 0.1))[1] == (e.Deliver(0, returned(1)),)


def test_tasks_that_arrive_while_stopping_go_back_after_a_moment() -> None:
    """Not at once: the coordinator might send the same task again and again."""
    state = run(running(task(1)), e.StopAsked(0.0))[0]
    assert advance(state, assigned(task(2), now=0.1))[1] == (e.Deliver(1, returned(2), REFUSE_SECONDS),)


# ── whatever happens ─────────────────────────────────────────────────────────────────────────────────────────
KEYS = st.builds(key, st.integers(1, 6), st.integers(1, 2))
BATCH = st.integers(0, 8)
JITTER, NOW = st.floats(0, 1), st.floats(0, 100)
TASKS = st.lists(
    st.builds(task, st.integers(1, 6), st.integers(1, 2)),
    min_size=1,
    max_size=3,
    unique_by=lambda t: t.task_id,
)
EVENTS: st.SearchStrategy[Any] = st.one_of(
    st.builds(lambda tasks, now: assigned(*tasks, now=now), TASKS, NOW),
    st.builds(e.Prepared, BATCH, NOW),
    st.builds(e.Vacated, BATCH, NOW),
    st.builds(lambda at, now, fail: (at, now, fail), BATCH, NOW, st.booleans()),
    st.builds(e.Broke, BATCH, KEYS, st.just(BROKEN), NOW),
    st.builds(e.Unfit, BATCH, st.just(FULL), NOW),
    st.builds(e.Stalled, BATCH, JITTER),
    st.builds(e.Delivered, BATCH, NOW),
    st.builds(lambda at, now: e.Recalled((at,), now), KEYS, NOW),
    st.builds(e.Lost, st.just(GONE), JITTER),
    st.builds(e.StopAsked, NOW),
    st.sampled_from([e.Started(), e.Connected(), e.Accepted(), e.Waited()]),
)
ENDS: dict[type[Any], set[str]] = {
    e.Prepared: {"prepare"},
    e.Vacated: {"compute"},
    e.Computed: {"compute", "store"},
    e.Broke: {"prepare", "compute", "deliver"},
    e.Unfit: {"prepare", "compute", "store", "deliver"},
    e.Stalled: {"prepare", "deliver"},
    e.Delivered: {"deliver"},
}
"""What may end in which event."""


def told_of(state: State, batch: int, now: float, fail: bool) -> e.Computed:
    """What the worker might answer: results of all tasks, or a failure at the last."""
    held = find(state, batch)
    keys = [] if held is None else [HeldTask(task_id=t.task_id, attempt=t.attempt) for t in to_compute(held)]
    results = [
        TaskResult(task_id=k.task_id, attempt=k.attempt, outputs=(), seconds=1.0)
        for k in keys[: len(keys) - fail]
    ]
    broken = TaskFailure(task_id=keys[-1].task_id, attempt=keys[-1].attempt, problem=BROKEN) if keys else None
    return e.Computed(batch, tuple(results), broken if fail else None, now)


@given(st.lists(EVENTS, max_size=60), st.integers(1, 3))
def test_no_task_is_lost_or_left_lying(events: list[Any], slots: int) -> None:
    """Replays the effects: whatever happens in whatever order, each held batch has exactly one thing going on for it,
    or rests while offline, or waits for a slot; it is forgotten only with a `Drop`; and of each task that was taken
    over and not recalled something is told."""
    state = fresh(slots)
    going: dict[int, str] = {}
    for event in events:
        if isinstance(event, tuple):
            event = told_of(state, *event)
        if (
            type(event) in {kind for row in LINKS.values() for kind in row}
            and type(event) not in LINKS[state.link]
        ):
            continue
        if type(event) in ENDS and going.get(event.batch) not in ENDS[type(event)]:
            continue
        before, about = state, getattr(event, "batch", None)
        if isinstance(event, e.Vacated):
            going[event.batch] = "store"
        elif about is not None:
            del going[about]
        state, instructions = advance(state, event)
        for instruction in instructions:
            match instruction:
                case e.Prepare(batch=at):
                    going[at] = "prepare"
                case e.Compute(batch=at):
                    going[at] = "compute"
                case e.Deliver(batch=at, report=report):
                    going[at] = "deliver"
                    told = (*report.done, *report.failed, *report.returned)
                    held = find(state, at)
                    assert held is not None
                    keys = {HeldTask(task_id=one.task_id, attempt=one.attempt) for one in told}
                    assert keys >= set(held.keys), "nothing is told of a task"
                    assert len(keys) == len(told), "two things are told of a task"
                case e.Drop(batch=at):
                    going.pop(at, None)
                    assert find(before, at) is not None
                case e.Quit():
                    return
        runs = sum(held.stage is Stage.RUNNING for held in state.held)
        assert runs <= slots
        assert set(going) <= {held.number for held in state.held}
        for held in state.held:
            waits = held.resting or (held.stage is Stage.READY and (runs == slots or state.stop))
            assert (held.number in going) != bool(waits), (held, going)
            assert held.keys
        wanted = [key.task_id for key in holding(state)]
        assert len(set(wanted)) == len(wanted)
        if state.stop:
            assert state.held, "nothing left to do, and yet it goes on"
