"""The two tables: what may follow what."""

from __future__ import annotations

import itertools

import pytest

from ravop.errors import GraphStateError, Problem
from ravop.graph.manifest import Manifest
from ravsock.core import failures, states
from ravsock.core.plan import Cost, Subgraph


def test_every_state_that_can_be_reached_is_in_the_table() -> None:
    for table, ends in ((states.GRAPH, {"deleted"}), (states.TASK, set())):
        assert {target for events in table.values() for target in events.values()} - ends <= table.keys()


def test_from_everywhere_a_task_can_reach_an_end() -> None:
    reached = {states.DONE, states.CANCELLED}
    for _ in states.TASK:
        reached |= {state for state, events in states.TASK.items() if reached & set(events.values())}
    assert reached == states.TASK.keys()


def test_what_is_done_stays_done() -> None:
    assert states.TASK[states.DONE] == {} == states.TASK[states.CANCELLED]
    assert set(states.GRAPH[states.DONE]) == {"delete"}


def test_what_is_absent_is_an_error() -> None:
    events = {event for table in (states.GRAPH, states.TASK) for events in table.values() for event in events}
    for table in (states.GRAPH, states.TASK):
        for state, event in itertools.product(table, events):
            if event in table[state]:
                assert states.next_state(table, state, event) == table[state][event]
                assert state in states.allowing(table, event)
            else:
                with pytest.raises(GraphStateError):
                    states.next_state(table, state, event)
    with pytest.raises(GraphStateError, match="is executing cannot delete"):
        states.next_state(states.GRAPH, states.EXECUTING, "delete")


def test_the_third_failure_gives_up_and_the_third_expiry_counts() -> None:
    assert [failures.gives_up(n) for n in (1, 2, 3)] == [False, False, True]
    assert [failures.counts(n) for n in (1, 2, 3)] == [False, False, True]


def test_a_failure_is_told_in_the_requesters_words() -> None:
    subgraph = Subgraph(
        label="dense", model="m", nodes=("made", "Dense_1/MatMul"), inputs=(), outputs=(),
        cost=Cost(flops=1.0, bytes_in=1, bytes_out=1, peak_memory=1),
    )  # fmt: skip
    manifest = Manifest(
        graph_id="g", name="g", sources=("a.py:1: x", "a.py:9: model.add(Dense(3))"),
        node_sources={"Dense_1/MatMul": 1, "broken": 77},
    )  # fmt: skip
    cause = Problem(code="compute", message="bad shapes", received="3 by 4")
    known = failures.graph_problem(cause, 1, subgraph, "dense", ["p1", "p2", "p2"], manifest)
    assert (known.code, known.op, known.source) == (
        "graph_failed",
        "Dense_1/MatMul",
        "a.py:9: model.add(Dense(3))",
    )
    assert "(compute) bad shapes" in known.message
    assert "p1, p2" in known.hint
    assert known.received == "3 by 4"
    for node in (None, -1, 99):
        unknown = failures.graph_problem(cause, node, subgraph, "dense", ["p1"], manifest)
        assert (unknown.op, unknown.source) == ("dense", "a.py:9: model.add(Dense(3))")
    assert failures.source_line(manifest, ("broken", "nothing")) == ""
