"""The daemon's automaton: its tables, its decisions, and what holds after any events."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.core import events as e
from provider.core.backoff import FIRST_SECONDS, MAX_SECONDS, backoff
from provider.core.exits import FATAL, MEANING, Exit
from provider.core.lifecycle import (
    LINKS,
    REFUSE_SECONDS,
    STAGES,
    Link,
    Stage,
    State,
    Stop,
    advance,
    find,
    holding,
)
from provider.core.tasks import Limits
from ravop.errors import Problem
from ravop.protocol.messages import Complete, Fail, HandBack, HeldTask, OutputSpec, Task

LIMITS = Limits(memory=1_000_000, disk=1_000_000)
GONE = Problem(code="unreachable", message="the coordinator does not answer")
BROKEN = Problem(code="compute", message="it does not work")
SHA = "0" * 64


def task(
    number: int = 1, attempt: int = 1, flops: float = 1e9, lease: float = 60.0, memory: int = 100
) -> Task:
    return Task(
        task_id=number,
        attempt=attempt,
        graph_id="g",
        label=f"task {number}",
        subgraph=SHA,
        inputs=(),
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


def completed(number: int = 1) -> Complete:
    return Complete(task_id=number, attempt=1, outputs=(), seconds=2.0, peak_memory=7)


def computed(number: int = 1, now: float = 2.0) -> e.Computed:
    return e.Computed(key(number), (), 2.0, 7, now)


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


# ── the life of a task ───────────────────────────────────────────────────────────────────────────────────────
def test_a_task_from_arrival_to_delivery() -> None:
    state, instructions = advance(online(), assigned(task()))
    assert instructions == (e.Prepare(task()),)
    state, instructions = advance(state, e.Prepared(key(), 1.0))
    assert instructions == (e.Compute(task()),)
    state, instructions = advance(state, computed())
    assert instructions == (e.Deliver(key(), completed()),)
    state, instructions = advance(state, e.Delivered(key(), 3.0))
    assert instructions == (e.Drop(key()),)
    assert (state.held, state.done, state.failed) == ((), 1, 0)
    assert state.pace == pytest.approx(2e-9)


def test_the_next_task_is_prepared_meanwhile_and_computed_at_once() -> None:
    state, instructions = run(
        online(), assigned(task(1)), e.Prepared(key(1), 0.0), assigned(task(2)), e.Prepared(key(2), 0.5)
    )
    assert instructions == ()
    state, instructions = advance(state, computed(1))
    assert instructions == (e.Deliver(key(1), completed(1)), e.Compute(task(2)))


@given(st.integers(1, 5), st.integers(0, 12))
def test_never_more_runs_than_slots(slots: int, count: int) -> None:
    state = online(slots)
    for number in range(count):
        state, _ = run(state, assigned(task(number)), e.Prepared(key(number), 0.0))
    assert sum(held.stage is Stage.RUNNING for held in state.held) == min(slots, count)


def test_a_failure_is_told_with_its_node() -> None:
    state, instructions = run(
        online(), assigned(task()), e.Prepared(key(), 0.0), e.Broke(key(), BROKEN, 1.0, node=17)
    )
    told = Fail(task_id=1, attempt=1, problem=BROKEN, node=17)
    assert instructions == (e.Deliver(key(), told),)
    state, _ = advance(state, e.Delivered(key(), 2.0))
    assert (state.done, state.failed) == (0, 1)


def test_a_result_that_cannot_be_delivered_becomes_a_failure_and_that_is_told_once() -> None:
    state, instructions = run(
        online(), assigned(task()), e.Prepared(key(), 0.0), computed(), e.Broke(key(), BROKEN, 3.0)
    )
    assert instructions == (e.Deliver(key(), Fail(task_id=1, attempt=1, problem=BROKEN)),)
    state, instructions = advance(state, e.Broke(key(), BROKEN, 4.0))
    assert (state.held, instructions) == ((), (e.Drop(key()),))


REFUSED: list[tuple[str, Task]] = [
    ("out_of_memory", task(memory=LIMITS.memory + 1)),
    ("message", task(flops=math.nan)),
    ("message", task(lease=math.inf)),
]


@pytest.mark.parametrize(("code", "bad"), REFUSED)
def test_a_task_that_does_not_fit_fails_on_arrival(code: str, bad: Task) -> None:
    _, instructions = advance(online(), assigned(bad))
    (deliver,) = instructions
    assert isinstance(deliver, e.Deliver)
    assert isinstance(deliver.message, Fail)
    assert deliver.message.problem.code == code


def test_a_new_attempt_replaces_the_old_one_and_the_same_one_changes_nothing() -> None:
    state = run(online(), assigned(task()), e.Prepared(key(), 0.0))[0]
    assert advance(state, assigned(task())) == (state, ())
    state, instructions = advance(state, assigned(task(attempt=2)))
    assert instructions == (e.Drop(key()), e.Prepare(task(attempt=2)))
    assert holding(state) == (key(1, 2),)


def test_late_news_of_a_dropped_task_is_ignored() -> None:
    state, instructions = run(online(), assigned(task()), e.Prepared(key(), 0.0), e.Recalled((key(),), 1.0))
    assert (state.held, instructions) == ((), (e.Drop(key()),))
    for late in (e.Prepared(key(), 2.0), computed(), e.Broke(key(), BROKEN, 2.0), e.Stalled(key(), 0.5)):
        assert advance(state, late) == (state, ())


def test_a_lease_that_ran_out_in_the_queue_is_handed_back() -> None:
    state = run(
        online(),
        assigned(task(1)),
        e.Prepared(key(1), 0.0),
        assigned(task(2, lease=5.0)),
        e.Prepared(key(2), 0.0),
    )[0]
    _, instructions = advance(state, computed(1, now=6.0))
    assert instructions[1:] == (e.Deliver(key(2), HandBack(task_id=2, attempt=1)),)


# ── trouble with the line ────────────────────────────────────────────────────────────────────────────────────
def test_results_wait_for_the_line_and_are_delivered_again() -> None:
    state = run(online(), assigned(task()), e.Prepared(key(), 0.0))[0]
    state, _ = advance(state, e.Lost(GONE, 0.0))
    assert find(state, key()) is not None, "computing goes on"
    state, instructions = advance(state, computed())
    assert instructions == (e.Deliver(key(), completed()),)
    state, instructions = run(state, e.Stalled(key(), 0.5))
    assert instructions == ()
    state, instructions = run(state, e.Waited(), e.Connected())
    assert instructions == (e.Register((key(),)),)
    state, instructions = advance(state, e.Accepted())
    assert instructions == (e.Deliver(key(), completed()),)


def test_what_the_coordinator_gave_to_others_is_dropped() -> None:
    state = run(
        online(), assigned(task()), e.Lost(GONE, 0.0), e.Stalled(key(), 0.0), e.Waited(), e.Connected()
    )[0]
    state, instructions = advance(state, e.Accepted((key(),)))
    assert (state.held, instructions) == ((), (e.Drop(key()),))


@pytest.mark.parametrize("stage", [Stage.PREPARING, Stage.DELIVERING])
def test_stalls_while_online_are_tried_again_with_growing_pauses(stage: Stage) -> None:
    state = run(online(), assigned(task()))[0]
    if stage is Stage.DELIVERING:
        state = run(state, e.Prepared(key(), 0.0), computed())[0]
    pauses = []
    for _ in range(4):
        state, instructions = advance(state, e.Stalled(key(), 0.0))
        pauses += [again.after for again in instructions if isinstance(again, e.Prepare | e.Deliver)]
    assert pauses == [0.5, 1, 2, 4]


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_idle_provider_stops_at_once() -> None:
    assert advance(online(), e.StopAsked(0.0))[1][-1] == e.Quit(Exit.STOPPED)


def test_a_short_task_is_finished_the_rest_handed_back() -> None:
    """The running task takes 2 s by its 2e9 FLOPs at 1e-9 s each."""
    state = run(
        online(), assigned(task(1, flops=2e9), task(2)), e.Prepared(key(1), 0.0), e.Prepared(key(2), 0.0)
    )[0]
    state, instructions = advance(state, e.StopAsked(1.0))
    assert e.Deliver(key(2), HandBack(task_id=2, attempt=1)) in instructions
    assert not any(isinstance(i, e.Deliver) and i.key == key(1) for i in instructions)
    state, instructions = run(state, e.Delivered(key(2), 1.1), computed(1))
    assert instructions == (e.Deliver(key(1), completed(1)),)
    state, instructions = advance(state, e.Delivered(key(1), 2.1))
    assert instructions == (e.Drop(key(1)), e.Quit(Exit.STOPPED))


def test_a_long_task_is_handed_back() -> None:
    state = run(online(), assigned(task(flops=60e9)), e.Prepared(key(), 0.0))[0]
    assert e.Deliver(key(), HandBack(task_id=1, attempt=1)) in advance(state, e.StopAsked(1.0))[1]
    assert e.Deliver(key(), HandBack(task_id=1, attempt=1)) not in advance(state, e.StopAsked(55.0))[1]


def test_asked_twice_hands_back_at_once_and_three_times_leaves() -> None:
    state = run(online(), assigned(task()), e.Prepared(key(), 0.0), e.StopAsked(0.0))[0]
    state, instructions = advance(state, e.StopAsked(0.1))
    assert e.Deliver(key(), HandBack(task_id=1, attempt=1)) in instructions
    assert any(isinstance(instruction, e.Remind) for instruction in instructions)
    state, instructions = advance(state, e.StopAsked(0.2))
    assert instructions == (e.Quit(Exit.STOPPED),)
    assert state.stop is Stop.LEAVING


def test_stopping_without_a_line_does_not_wait_for_one() -> None:
    state = run(online(), assigned(task()), e.Prepared(key(), 0.0))[0]
    assert run(state, e.StopAsked(0.0), e.Lost(GONE, 0.5))[1] == (e.Quit(Exit.STOPPED),)
    assert run(state, e.Lost(GONE, 0.5), e.StopAsked(0.0))[1] == (e.Quit(Exit.STOPPED),)


def test_a_worker_killed_while_stopping_is_nobodys_fault() -> None:
    state = run(online(), assigned(task()), e.Prepared(key(), 0.0), e.StopAsked(0.0))[0]
    _, instructions = advance(state, e.Broke(key(), BROKEN, 0.1))
    assert instructions == (e.Deliver(key(), HandBack(task_id=1, attempt=1)),)


def test_tasks_that_arrive_while_stopping_go_back_after_a_moment() -> None:
    """Not at once: the coordinator might send the same task again and again."""
    state = run(online(), assigned(task(1)), e.Prepared(key(1), 0.0), e.StopAsked(0.0))[0]
    _, instructions = advance(state, assigned(task(2), now=0.1))
    assert instructions == (e.Deliver(key(2), HandBack(task_id=2, attempt=1), REFUSE_SECONDS),)


# ── whatever happens ─────────────────────────────────────────────────────────────────────────────────────────
KEYS = st.builds(key, st.integers(1, 4), st.integers(1, 2))
JITTER, NOW = st.floats(0, 1), st.floats(0, 100)
EVENTS: st.SearchStrategy[Any] = st.one_of(
    st.builds(
        lambda number, attempt, now: assigned(task(number, attempt), now=now),
        st.integers(1, 4),
        st.integers(1, 2),
        NOW,
    ),
    st.builds(e.Prepared, KEYS, NOW),
    st.builds(lambda at, now: e.Computed(at, (), 1.0, 0, now), KEYS, NOW),
    st.builds(e.Broke, KEYS, st.just(BROKEN), NOW),
    st.builds(e.Stalled, KEYS, JITTER),
    st.builds(e.Delivered, KEYS, NOW),
    st.builds(lambda at, now: e.Recalled((at,), now), KEYS, NOW),
    st.builds(e.Lost, st.just(GONE), JITTER),
    st.builds(e.StopAsked, NOW),
    st.sampled_from([e.Started(), e.Connected(), e.Accepted(), e.Waited()]),
)


@given(st.lists(EVENTS, max_size=60), st.integers(1, 3))
def test_no_task_is_lost_or_left_lying(events: list[e.Event], slots: int) -> None:
    """Replays the effects: whatever happens in whatever order, each held task has exactly one thing going on for it, or
    rests while offline, or waits for a slot; and a task is forgotten only with a `Drop`."""
    state = fresh(slots)
    going: dict[HeldTask, str] = {}
    for event in events:
        if (
            type(event) in {kind for row in LINKS.values() for kind in row}
            and type(event) not in LINKS[state.link]
        ):
            continue
        about = getattr(event, "key", None)
        expected = {e.Prepared: "prepare", e.Computed: "compute"}.get(type(event))
        if expected is not None and going.get(about) != expected:
            continue
        if isinstance(event, e.Delivered) and going.get(about) != "deliver":
            continue
        if isinstance(event, e.Broke) and about not in going:
            continue
        if isinstance(event, e.Stalled) and going.get(about) not in ("prepare", "deliver"):
            continue
        if about is not None:
            going.pop(about, None)
        state, instructions = advance(state, event)
        for instruction in instructions:
            match instruction:
                case e.Prepare(task=work):
                    going[e.key_of(work)] = "prepare"
                case e.Compute(task=work):
                    going[e.key_of(work)] = "compute"
                case e.Deliver(key=at):
                    going[at] = "deliver"
                case e.Drop(key=at):
                    going.pop(at, None)
                case e.Quit():
                    return
        running = sum(held.stage is Stage.RUNNING for held in state.held)
        assert running <= slots
        assert set(going) <= set(holding(state))
        for held in state.held:
            waits = held.resting or (held.stage is Stage.READY and (running == slots or state.stop))
            assert (held.key in going) != bool(waits), (held, going)
        assert len({held.task.task_id for held in state.held}) == len(state.held)
        if state.stop:
            assert state.held, "nothing left to do, and yet it goes on"
