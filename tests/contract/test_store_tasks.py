"""Leases, fences, failures: what is accepted, what is late, and what the requester hears of a failure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from plans import Bench, chain, epochs, training, wide

from ravop.errors import GraphFailedError, Problem
from ravop.protocol.messages import HeldTask, Output
from ravop.protocol.tensors import Blob, Concat, Inline, decode_tensor, encode_tensor
from ravsock.core.plan import START, STOP
from ravsock.store import Failure, Lease, Outcome, Recall, Release, Result

CRASH = Problem(code="crashed", message="the process died with signal 11")


def fail(
    bench: Bench,
    task_id: int,
    attempt: int,
    provider: str = "p1",
    problem: Problem = CRASH,
    node: int | None = None,
) -> Outcome:
    report = Failure(task_id=task_id, attempt=attempt, provider_id=provider, problem=problem, node=node)
    return bench.store.fail([report], bench.now)[0]


def test_a_leased_task_says_all_that_a_provider_needs(bench: Bench) -> None:
    case = training(7)
    bench.start(case, "g")
    (ready,) = bench.store.ready(10)
    assert (ready.graph_id, ready.owner, ready.length, ready.start, ready.tries) == (
        "g",
        bench.owner,
        7,
        0,
        0,
    )
    assert next(sha for sha, _ in ready.inputs) == ready.model
    assert {sha for sha, _ in ready.inputs[1:]} == {b.sha for b in bench.store.manifest("g").bindings}
    task = bench.lease(ready.task_id, stop=3, seconds=40.0)
    assert task is not None
    assert (task.attempt, task.subgraph, task.lease_seconds) == (1, ready.model, 40.0)
    assert task.flops == 300.0
    assert "iterations 1 to 3 of 7" in task.label
    given = {i.name: i.ref for i in task.inputs}
    assert isinstance(given["in0"], Blob)
    for name, number in ((START, 0), (STOP, 3)):
        ref = given[name]
        assert isinstance(ref, Inline)
        np.testing.assert_array_equal(decode_tensor(ref.data), np.array([number]))
    assert [(o.dtype, o.shape) for o in task.outputs] == [
        ("float64", (3,)),
        ("float64", (3,)),
        ("float64", (3,)),
    ]
    assert bench.complete(bench.compute(case.workshop.kernels, task)).iterations == 3
    (ready,) = bench.store.ready(10)
    assert (ready.task_id, ready.start) == (task.task_id, 3)


@pytest.mark.parametrize(("wish", "stop"), [(None, 7), (0, 1), (4, 4), (99, 7)])
def test_a_chunk_stays_within_its_loop(bench: Bench, wish: int | None, stop: int) -> None:
    bench.start(training(7), "g")
    task = bench.lease(bench.store.ready(1)[0].task_id, stop=wish)
    assert task is not None
    assert task.outputs[2].shape == (stop,)


def test_labels_say_where_in_which_loop(bench: Bench) -> None:
    case = epochs()
    bench.start(case, "g")
    for _ in range(2):
        bench.step(case)
    assert bench.store.ready(1)[0].label == "epochs 1 of 3, train, iterations 1 to 5 of 5"


def test_a_task_is_leased_once(bench: Bench) -> None:
    bench.start(chain(), "g")
    task_id = bench.store.ready(1)[0].task_id
    assert bench.lease(task_id, "p1") is not None
    assert bench.lease(task_id, "p2") is None
    assert bench.lease(10_000, "p2") is None
    assert bench.store.ready(10) == []
    (held,) = bench.store.held_by("p1")
    assert (held.task_id, held.attempt, held.graph_id) == (task_id, 1, "g")
    assert bench.store.held_by("p2") == []


def test_a_result_is_taken_once(bench: Bench) -> None:
    case = training()
    bench.start(case, "g")
    task = bench.lease(bench.store.ready(1)[0].task_id, stop=3)
    assert task is not None
    result = bench.compute(case.workshop.kernels, task)
    assert [o.accepted for o in bench.store.complete([result, result], bench.now)] == [True, False]
    assert not bench.complete(result).accepted
    assert bench.store.ready(1)[0].start == 3


def test_results_are_fenced_by_attempt_and_provider(bench: Bench) -> None:
    case = chain()
    bench.start(case, "g")
    task_id = bench.store.ready(1)[0].task_id
    first = bench.lease(task_id, "p1")
    assert first is not None
    late = bench.compute(case.workshop.kernels, first, "p1")
    for foreign in (
        Result(task_id=task_id, attempt=1, provider_id="p2", outputs=late.outputs),
        Result(task_id=task_id, attempt=2, provider_id="p1", outputs=late.outputs),
        Result(task_id=task_id, attempt=0, provider_id="p1", outputs=late.outputs),
        Result(task_id=task_id + 1000, attempt=1, provider_id="p1", outputs=late.outputs),
    ):
        assert not bench.complete(foreign).accepted
    assert bench.store.release([Release(task_id=task_id, attempt=1, provider_id="p1")]) == [True]
    second = bench.lease(task_id, "p2")
    assert second is not None
    assert second.attempt == 2
    assert not bench.complete(late).accepted
    assert not fail(bench, task_id, 1).accepted
    assert bench.store.release([Release(task_id=task_id, attempt=1, provider_id="p1")]) == [False]
    assert bench.complete(bench.compute(case.workshop.kernels, second, "p2")).accepted


def test_a_released_task_may_still_be_delivered_until_it_is_leased_again(bench: Bench) -> None:
    case = training()
    bench.start(case, "g")
    task = bench.lease(bench.store.ready(1)[0].task_id, stop=4)
    assert task is not None
    bench.store.release([Release(task_id=task.task_id, attempt=1, provider_id="p1")])
    assert len(bench.store.ready(1)) == 1
    assert bench.complete(bench.compute(case.workshop.kernels, task)).accepted
    assert bench.store.ready(1)[0].start == 4


def test_a_failed_attempt_may_not_be_delivered(bench: Bench) -> None:
    case = chain()
    bench.start(case, "g")
    task = bench.lease(bench.store.ready(1)[0].task_id)
    assert task is not None
    outcome = fail(bench, task.task_id, 1)
    assert outcome.problem == CRASH
    assert not outcome.finished
    assert not bench.complete(bench.compute(case.workshop.kernels, task)).accepted
    assert bench.store.ready(1)[0].failed_on == ("p1",)


def test_blobs_that_are_not_there_are_asked_for_and_nothing_changes(bench: Bench) -> None:
    case = training(4, 20_000)
    bench.start(case, "g")
    task = bench.lease(bench.store.ready(1)[0].task_id, stop=2)
    assert task is not None
    result = bench.compute(case.workshop.kernels, task)
    ghost = Blob("ab" * 32, 160_128)
    broken = Result(
        task_id=task.task_id, attempt=1, provider_id="p1",
        outputs=tuple(Output(name=o.name, ref=ghost) if o.name == "out0" else o for o in result.outputs),
    )  # fmt: skip
    outcome = bench.complete(broken)
    assert (outcome.accepted, outcome.missing, outcome.problem) == (False, (ghost.sha,), None)
    assert len(bench.store.held_by("p1")) == 1
    assert bench.complete(result).accepted


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({}, "other outputs"),
        ({"out0": np.zeros(4), "extra": np.zeros(4)}, "other outputs"),
        ({"out0": np.zeros(5)}, "another type"),
        ({"out0": np.zeros((2, 2))}, "another type"),
        ({"out0": np.zeros(4, np.float32)}, "another type"),
        ({"out0": Inline(b"nonsense")}, "npy"),
        ({"out0": Inline(encode_tensor(np.zeros(4))[:-3])}, "cut short"),
        ({"out0": Concat((Inline(encode_tensor(np.zeros(4))),))}, "not a tensor"),
    ],
)
def test_a_result_of_another_form_than_asked_is_a_failed_attempt(
    bench: Bench, outputs: dict[str, Any], words: str
) -> None:
    bench.start(chain(), "g")
    task = bench.lease(bench.store.ready(1)[0].task_id)
    assert task is not None
    refs = {n: Inline(encode_tensor(v)) if isinstance(v, np.ndarray) else v for n, v in outputs.items()}
    outcome = bench.complete(
        Result(
            task_id=task.task_id,
            attempt=1,
            provider_id="p1",
            outputs=tuple(Output(name=name, ref=ref) for name, ref in refs.items()),
        )
    )
    assert not outcome.accepted
    assert outcome.problem is not None
    assert words in outcome.problem.message
    assert bench.store.ready(1)[0].failed_on == ("p1",)


def test_nan_and_infinity_are_data(bench: Bench) -> None:
    bench.start(chain(1), "g")
    task = bench.lease(bench.store.ready(1)[0].task_id)
    assert task is not None
    value = np.array([np.nan, np.inf, -np.inf, 0.0])
    output = Output(name="out0", ref=Inline(encode_tensor(value)))
    assert bench.complete(
        Result(task_id=task.task_id, attempt=1, provider_id="p1", outputs=(output,))
    ).finished
    np.testing.assert_array_equal(bench.fetch("g", "result"), value)


def test_three_failures_fail_the_graph_in_the_requesters_words(bench: Bench) -> None:
    case = training()
    bench.start(case, "g")
    bench.add(chain(), "other")
    bench.store.start_graph("other", bench.owner, bench.now)
    bench.step(case, chunk=3)
    task_id = next(t.task_id for t in bench.store.ready(9) if t.graph_id == "g")
    problem = Problem(
        code="out_of_memory", message="8 GiB wanted, 4 GiB offered", expected="4 GiB", received="8 GiB"
    )
    outcomes = []
    for provider in ("p1", "p2", "p1"):
        task = bench.lease(task_id, provider)
        assert task is not None
        outcomes.append(fail(bench, task_id, task.attempt, provider, problem, node=0))
    assert [o.finished for o in outcomes] == [False, False, True]
    told = outcomes[-1].problem
    assert told is not None
    assert told == bench.store.graph("g").problem
    assert told.code == "graph_failed"
    assert "out_of_memory" in told.message
    assert "8 GiB wanted" in told.message
    assert (told.op, told.source) == ("train_node", "train.py:7: model.fit(x)")
    assert (told.expected, told.received) == ("4 GiB", "8 GiB")
    with pytest.raises(GraphFailedError, match="8 GiB wanted"):
        bench.fetch("g", "weights")
    assert bench.fetch("g", "loss_3") == pytest.approx(case.expected()["losses"][2])
    assert [t.graph_id for t in bench.store.ready(9)] == ["other"]
    bench.store.start_graph("g", bench.owner, bench.now)
    again = next(t for t in bench.store.ready(9) if t.graph_id == "g")
    assert (again.start, again.failed_on, again.tries) == (3, (), 0)


def test_a_failing_graph_recalls_what_others_compute_for_it(bench: Bench) -> None:
    bench.start(wide(3), "g")
    one, two, _ = bench.store.ready(9)
    for _ in range(3):
        other = bench.lease(one.task_id, "p1")
        assert other is not None
        if not bench.store.held_by("p2"):
            bench.lease(two.task_id, "p2")
        outcome = fail(bench, one.task_id, other.attempt)
    assert outcome.recalls == (Recall(provider_id="p2", task=HeldTask(task_id=two.task_id, attempt=1)),)
    assert bench.store.held_by() == []


def test_success_forgives_earlier_failures(bench: Bench) -> None:
    case = training(9)
    bench.start(case, "g")
    for _ in range(3):
        (ready,) = bench.store.ready(1)
        for _ in range(2):
            task = bench.lease(ready.task_id, stop=ready.start + 3)
            assert task is not None
            fail(bench, ready.task_id, task.attempt)
        assert bench.store.ready(1)[0].tries == 2
        bench.step(case, chunk=3)
    bench.drive(case)
    assert bench.store.graph("g").state == "done"


def test_a_deadline_frees_the_task_and_three_in_a_row_are_a_failure(bench: Bench) -> None:
    bench.start(training(), "g")
    (ready,) = bench.store.ready(1)
    for round_number in range(1, 10):
        task = bench.lease(ready.task_id, seconds=10.0)
        assert task is not None
        assert bench.store.expire(bench.now + 9.0) == []
        bench.now += 11.0
        (outcome,) = bench.store.expire(bench.now)
        assert outcome.recalls == (
            Recall(provider_id="p1", task=HeldTask(task_id=task.task_id, attempt=round_number)),
        )
        assert outcome.finished == (round_number == 9)
        failures = len(bench.store.ready(1)[0].failed_on) if round_number < 9 else 3
        assert failures == round_number // 3
    problem = bench.store.graph("g").problem
    assert problem is not None
    assert "did not deliver in time" in problem.message


def test_handing_back_costs_nothing(bench: Bench) -> None:
    bench.start(chain(), "g")
    (ready,) = bench.store.ready(1)
    for _ in range(10):
        task = bench.lease(ready.task_id)
        assert task is not None
        assert bench.store.release(
            [Release(task_id=ready.task_id, attempt=task.attempt, provider_id="p1")]
        ) == [True]
    (ready,) = bench.store.ready(1)
    assert (ready.failed_on, ready.tries) == ((), 10)


def test_owners_and_graphs_take_turns(bench: Bench) -> None:
    eve = bench.store.authenticate(bench.store.create_token("requester", "eve", 0.0)).token_id
    for graph, owner in (("a", bench.owner), ("b", bench.owner), ("c", eve)):
        bench.add(wide(4), graph, owner)
        bench.store.start_graph(graph, owner, bench.now)
    assert [t.graph_id for t in bench.store.ready(6)] == ["a", "c", "b", "c", "a", "c"]
    assert [t.graph_id for t in bench.store.ready(3, "b")] == ["b", "b", "b"]


def test_many_at_once_are_as_one_by_one(bench: Bench) -> None:
    case = wide(6)
    bench.start(case, "g")
    ready = bench.store.ready(99)
    tasks = bench.batch([task.task_id for task in ready])
    assert len(tasks) == 6
    results = [bench.compute(case.workshop.kernels, task) for task in tasks]
    assert all(o.accepted and not o.finished for o in bench.store.complete(results, bench.now))
    bench.drive(case)
    np.testing.assert_allclose(bench.fetch("g", "mean"), case.expected()["m"])
    assert {p.provider_id: p.tasks_done for p in bench.store.providers()} == {"p1": 7, "p2": 0, "p3": 0}


def test_loops_in_one_batch_of_results_advance_each_on_its_own(bench: Bench) -> None:
    cases = {name: epochs() for name in ("g", "h")}
    for name, case in cases.items():
        bench.start(case, name)
    kernels = cases["g"].workshop.kernels | cases["h"].workshop.kernels
    while ready := bench.store.ready(9):
        leases = [
            Lease(tasks=(t.task_id,), provider_id="p1", deadline=bench.now + 9, stop=t.start + 2)
            for t in ready
        ]
        tasks = [task for batch in bench.store.lease(leases, bench.now) for task in batch]
        assert all(
            o.accepted for o in bench.store.complete([bench.compute(kernels, t) for t in tasks], bench.now)
        )
    for name, case in cases.items():
        np.testing.assert_allclose(bench.fetch(name, "loss_epoch_{}_batch_{}"), case.expected()["losses"])


def test_a_provider_that_comes_back_keeps_what_nobody_else_has(bench: Bench) -> None:
    case = wide(4)
    bench.start(case, "g")
    ready = bench.store.ready(9)
    for one in ready:
        assert bench.lease(one.task_id, seconds=10.0) is not None
    held, released, taken, failed = (Release(task_id=t.task_id, attempt=1, provider_id="p1") for t in ready)
    assert bench.store.release([released, taken]) == [True, True]
    assert bench.lease(taken.task_id, "p2") is not None
    fail(bench, failed.task_id, 1)
    kept = bench.store.keep([held, released, taken, failed], lambda task: bench.now + 77.0, bench.now)
    assert [(task.task_id, task.attempt) for task, _ in kept] == [(held.task_id, 1), (released.task_id, 1)]
    assert [task.lease_seconds for task, _ in kept] == [10.0, 77.0]
    assert {h.task_id for h in bench.store.held_by("p1")} == {held.task_id, released.task_id}
    for task, _ in kept:
        assert bench.complete(bench.compute(case.workshop.kernels, task)).accepted
