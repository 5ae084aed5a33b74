"""How a graph advances, as lists of instructions; and what a plan must be to be run."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import Case, chain, epochs, mapped, nested, training, wide

from ravop.errors import ArgumentError
from ravsock.core.plan import GraphPlan, Plan
from ravsock.core.program import TASK_SECONDS, Place, Program, child, iteration_of, key_of
from ravsock.core.run import (
    Append,
    Bind,
    Count,
    CountDown,
    Decrement,
    Done,
    DropScope,
    Ended,
    Finished,
    FinishGraph,
    Forget,
    NewScope,
    NewTask,
    Open,
    Output,
    Released,
    Repeat,
    Started,
    advance,
)

ONCE = 100.0 / 20e9
"""Seconds of one run or iteration of the cases' 100 FLOPs on the reference machine of 20 GFLOPS."""


def program(case: Case) -> Program:
    return Program(case.plan)


def test_a_started_graph_has_a_task_for_each_unit() -> None:
    assert advance(program(wide(2)), Started()) == [
        NewScope("", 3), NewTask("", 0, "ready", 0), NewTask("", 1, "ready", 0), NewTask("", 2, "waiting", 4),
    ]  # fmt: skip


def test_a_subgraph_binds_its_outputs_and_releases_its_readers() -> None:
    assert advance(program(wide(2)), Finished("", 1)) == [
        Bind(Place("", "a1"), Output("out0")), Bind(Place("", "b1"), Output("out1")), Count(ONCE + TASK_SECONDS, 1, 1),
        Done("", 1), Decrement("", 2, 2, False), CountDown(""),
    ]  # fmt: skip


def test_the_end_of_the_main_instance_is_the_end_of_the_graph() -> None:
    assert advance(program(wide(2)), Ended("")) == [FinishGraph(frozenset({"m", "a1"}))]


def test_a_graph_of_no_units_is_done_at_once() -> None:
    case = chain(0)
    assert advance(program(case), Started()) == [NewScope("", 0), FinishGraph(frozenset({"x"}))]


def test_a_chunk_keeps_the_carries_for_the_next_and_its_part_of_what_is_stacked() -> None:
    assert advance(program(training(7)), Finished("", 0, 2, 5)) == [
        Bind(Place("", "w_in"), Output("out0")), Bind(Place("", "m_in"), Output("out1")),
        Append(Place("", "losses"), Output("out2"), 2, 3, single=False), Count(ONCE * 3, 3, 1), Repeat("", 0, 5),
    ]  # fmt: skip


def test_the_last_chunk_gives_the_loops_values() -> None:
    assert advance(program(training(7)), Finished("", 0, 5, 7)) == [
        Bind(Place("", "w_end"), Output("out0")), Bind(Place("", "m_end"), Output("out1")),
        Append(Place("", "losses"), Output("out2"), 5, 2, single=False), Count(ONCE * 2 + TASK_SECONDS, 2, 1),
        Forget(Place("", "w_in")), Forget(Place("", "m_in")), Done("", 0), Decrement("", 1, 2, False), CountDown(""),
    ]  # fmt: skip


@pytest.mark.parametrize(("start", "stop"), [(0, 8), (3, 3), (5, 4), (-1, 2)])
def test_ranges_that_the_loop_has_not_are_refused(start: int, stop: int) -> None:
    with pytest.raises(ArgumentError):
        advance(program(training(7)), Finished("", 0, start, stop))


@settings(max_examples=60, deadline=None)
@given(ranges=st.lists(st.integers(1, 4), min_size=1, max_size=5), data=st.data())
def test_ranges_in_any_order_give_each_element_once_and_release_the_reader_at_the_end(
    ranges: list[int], data: st.DataObject
) -> None:
    ready = program(mapped(ranges))
    reader = len(ranges)
    began = {made.unit: made for made in advance(ready, Started()) if isinstance(made, NewTask)}
    assert {unit: task.state for unit, task in began.items()} == dict.fromkeys(range(reader), "ready") | {
        reader: "waiting"
    }
    at, waiting, steps = [0] * reader, began[reader].waiting_for, 0
    there: list[int] = []
    while left := [unit for unit in range(reader) if at[unit] < ranges[unit]]:
        assert waiting > 0
        unit = data.draw(st.sampled_from(left))
        stop = data.draw(st.integers(at[unit] + 1, ranges[unit]))
        for made in advance(ready, Finished("", unit, at[unit], stop)):
            match made:
                case Append(Place("", "norms"), _, start, count, False):
                    there += range(start, start + count)
                case Decrement("", released, by, False):
                    assert released == reader
                    waiting -= by
                case Count(_, done, 1):
                    steps += done
        at[unit] = stop
    assert waiting == 0
    assert sorted(there) == list(range(sum(ranges)))
    assert steps == sum(ranges)


def test_an_opened_loop_begins_its_first_iteration_when_its_inputs_are_there() -> None:
    assert advance(program(epochs(3)), Released("", 1)) == [
        Open("", 1, 0),
        Bind(Place("/1[0]", "w0"), Place("", "w")),
        Bind(Place("/1[0]", "delta"), Place("", "deltas"), 0),
        NewScope("/1[0]", 5),
        NewTask("/1[0]", 0, "ready", 0), NewTask("/1[0]", 1, "waiting", 1), NewTask("/1[0]", 2, "waiting", 1),
        NewTask("/1[0]", 3, "waiting", 1), NewTask("/1[0]", 4, "waiting", 2),
    ]  # fmt: skip


def test_an_iteration_hands_its_carries_to_the_next_and_is_forgotten() -> None:
    made = advance(program(epochs(3)), Ended("/1[1]"))
    assert made[:6] == [
        Count(0.0, 1, 0),
        Append(Place("", "losses"), Place("/1[1]", "losses_e"), 1, 1, single=True),
        Append(Place("", "vals"), Place("/1[1]", "val"), 1, 1, single=True),
        Open("", 1, 2),
        Bind(Place("/1[2]", "w0"), Place("/1[1]", "w_next")),
        Bind(Place("/1[2]", "delta"), Place("", "deltas"), 2),
    ]
    assert made[-1] == DropScope("/1[1]")


def test_the_last_iteration_ends_the_loop() -> None:
    assert advance(program(epochs(3)), Ended("/1[2]"))[3:] == [
        Bind(Place("", "w_end"), Place("/1[2]", "w_next")), DropScope("/1[2]"), Done("", 1),
        Decrement("", 2, 2, False), CountDown(""),
    ]  # fmt: skip


def test_values_of_outer_scopes_are_found_along_the_path() -> None:
    deep = program(nested())
    here = child(child("", 0, 7), 1, 42)
    assert here == "/0[7]/1[42]"
    assert (key_of(here), iteration_of(here)) == ((0, 1), ("/0[7]", 1, 42))
    assert deep.place(here, "x") == Place(here, "x")
    assert deep.place(here, "row") == Place("/0[7]", "row")
    assert deep.place(here, "k") == Place("", "k")
    assert Bind(Place("/0[0]/1[0]", "s_in"), Place("/0[0]", "t_in")) in advance(deep, Released("/0[0]", 1))


def test_work_counts_every_iteration() -> None:
    """And every task once: a chunked loop as one."""
    assert program(epochs(3, 5)).work == pytest.approx(
        ONCE * (1 + 3 * (4 + 5) + 1) + TASK_SECONDS * (1 + 3 * 5 + 1)
    )
    assert program(nested(2, 3)).work == pytest.approx((ONCE + TASK_SECONDS) * 2 * (1 + 3 * 2))


def changed(plan: GraphPlan, **fields: object) -> GraphPlan:
    return msgspec.structs.replace(plan, main=msgspec.structs.replace(plan.main, **fields))


def with_loop(case: Case, **fields: object) -> GraphPlan:
    units = tuple(
        msgspec.structs.replace(unit, **fields) if unit.label == "epochs" else unit
        for unit in case.plan.main.units
    )
    return changed(case.plan, units=units)


def empty() -> Plan:
    return Plan(units=(), values={})


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (lambda: changed(chain().plan, units=chain().plan.main.units[::-1]), "must come after"),
        (lambda: msgspec.structs.replace(chain().plan, inputs=()), "nothing gives there"),
        (lambda: with_loop(epochs(), captured=("xs",)), "must list the outer values"),
        (lambda: with_loop(epochs(), body=None), "either a chunk or a body"),
        (lambda: changed(wide(2).plan, units=(wide(2).plan.main.units[0],) * 2), "two units of a plan give one value"),
        (lambda: with_loop(epochs(), length=0), "at least one iteration"),
        (lambda: with_loop(epochs(), body=empty()), "needs units"),
        (lambda: with_loop(epochs(), stacked=(msgspec.structs.replace(epochs_loop().stacked[0], body_out="?"),)), "nothing"),
        (lambda: msgspec.structs.replace(epochs().plan, inputs=("w0", *epochs().plan.inputs)), "two scopes"),
    ],
)  # fmt: skip
def test_plans_that_could_not_run_to_their_end_are_refused(plan, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ArgumentError, match=words):
        Program(plan())


def epochs_loop():  # type: ignore[no-untyped-def]
    return epochs().plan.main.units[1]
