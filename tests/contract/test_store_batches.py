"""Batches that run ahead of their inputs, chunks that a gang runs, and second attempts."""

from __future__ import annotations

import numpy as np
import pytest
from plans import Bench, Case, chain, lattice, training, whole_chunk, wide

from ravop.errors import ArgumentError, Problem
from ravop.protocol.messages import Earlier, HeldTask, Task, models_needed
from ravop.protocol.tensors import Blob
from ravsock.core.program import Program
from ravsock.store import Failure, Lease, Outcome, Recall, Release, Result

CRASH = Problem(code="crashed", message="the process died with signal 11")


def head(bench: Bench) -> int:
    return bench.store.ready(1)[0].task_id


def back(task: Task, provider: str = "p1") -> Release:
    return Release(task_id=task.task_id, attempt=task.attempt, provider_id=provider)


def failure(task: Task, provider: str = "p1", **more: object) -> Failure:
    return Failure(
        task_id=task.task_id, attempt=task.attempt, provider_id=provider, problem=CRASH, **more  # type: ignore[arg-type]
    )  # fmt: skip


def complete(bench: Bench, results: list[Result]) -> list[Outcome]:
    return bench.store.complete(results, bench.now)


def check(bench: Bench, case: Case) -> None:
    """Run the rest, one by one; the end is right."""
    bench.drive(case)
    assert bench.store.graph("g").state == "done"
    for persisted in case.persisted:
        np.testing.assert_allclose(bench.fetch("g", persisted.name), case.expected()[persisted.value])


# ── ahead ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_chain_is_one_batch(bench: Bench) -> None:
    case = chain(5)
    bench.start(case, "g")
    batch = bench.batch([head(bench)], ahead=99)
    assert len(batch) == 5
    assert isinstance(batch[0].inputs[0].ref, Blob)
    assert [task.inputs[0].ref for task in batch[1:]] == [Earlier(task=i, output="out0") for i in range(4)]
    assert [held.task_id for held in bench.store.held_by("p1")] == [task.task_id for task in batch]
    assert bench.store.ready(9) == []
    outcomes = complete(bench, bench.compute_all(case.workshop.kernels, batch))
    assert all(outcome.accepted for outcome in outcomes)
    assert outcomes[-1].finished
    check(bench, case)


@pytest.mark.parametrize(("most", "size"), [(0, 1), (2, 3), (4, 5)])
def test_a_batch_runs_ahead_as_far_as_asked(bench: Bench, most: int, size: int) -> None:
    bench.start(chain(5), "g")
    assert len(bench.batch([head(bench)], ahead=most)) == size


def test_what_waits_for_something_else_does_not_run_ahead(bench: Bench) -> None:
    case = wide(3)
    bench.start(case, "g")
    ready = [task.task_id for task in bench.store.ready(9)]
    part = bench.batch(ready[:2], ahead=9)
    assert [task.task_id for task in part] == ready[:2]
    last = bench.batch(ready[2:], "p2", ahead=9)
    assert len(last) == 1
    assert all(o.accepted for o in complete(bench, bench.compute_all(case.workshop.kernels, part)))
    assert bench.store.release([back(last[0], "p2")]) == [True]
    rest = bench.batch(ready[2:], "p3", ahead=9)
    assert len(rest) == 2
    assert {type(given.ref).__name__ for given in rest[1].inputs} == {"Blob", "Inline", "Earlier"}
    assert all(o.accepted for o in complete(bench, bench.compute_all(case.workshop.kernels, rest, "p3")))
    check(bench, case)


def test_loops_neither_run_ahead_nor_let_others(bench: Bench) -> None:
    bench.start(training(), "g")
    assert len(bench.batch([head(bench)], ahead=9)) == 1


def test_two_batches_of_one_call_share_nothing(bench: Bench) -> None:
    case = lattice(4, 3)
    bench.start(case, "g")
    ready = [task.task_id for task in bench.store.ready(9)]
    leases = [
        Lease(provider_id=provider, deadline=bench.now + 9, tasks=tasks, ahead=99)
        for provider, tasks in (("p1", (*ready[:3], ready[0])), ("p2", tuple(ready)))
    ]
    one, two = bench.store.lease(leases, bench.now)
    assert {task.task_id for task in one}.isdisjoint(task.task_id for task in two)
    assert [task.task_id for task in two] == ready[3:]
    assert len(one) == 3 + 2 + 1
    for provider, batch in (("p1", one), ("p2", two)):
        results = bench.compute_all(case.workshop.kernels, batch, provider)
        assert all(outcome.accepted for outcome in complete(bench, results))
    check(bench, case)


def test_results_come_in_order_or_not_at_all(bench: Bench) -> None:
    case = chain(5)
    bench.start(case, "g")
    batch = bench.batch([head(bench)], ahead=99)
    results = bench.compute_all(case.workshop.kernels, batch)
    assert [o.accepted for o in complete(bench, [results[2], results[0], results[1], results[4]])] == [
        False, True, True, False,
    ]  # fmt: skip
    assert bench.store.held_by() == []
    assert head(bench) == batch[2].task_id
    assert not any(outcome.accepted for outcome in complete(bench, results[2:]))
    check(bench, case)


def test_parts_of_a_batch_are_delivered_one_after_another(bench: Bench) -> None:
    case = chain(4)
    bench.start(case, "g")
    batch = bench.batch([head(bench)], ahead=99)
    results = bench.compute_all(case.workshop.kernels, batch)
    assert all(o.accepted for o in complete(bench, results[:2]))
    assert [held.task_id for held in bench.store.held_by()] == [task.task_id for task in batch[2:]]
    assert bench.store.ready(9) == []
    assert all(o.accepted for o in complete(bench, results[2:]))
    check(bench, case)


@pytest.mark.parametrize("how", ["release", "fail", "wrong result"])
def test_what_ran_ahead_falls_back_with_what_it_needs(bench: Bench, how: str) -> None:
    case = lattice(3, 3)
    bench.start(case, "g")
    batch = bench.batch([task.task_id for task in bench.store.ready(9)], ahead=99)
    assert len(batch) == 9
    results = bench.compute_all(case.workshop.kernels, batch)
    lost = batch[1]
    if how == "release":
        assert bench.store.release([back(lost)]) == [True]
    elif how == "fail":
        assert bench.store.fail([failure(lost)], bench.now)[0].problem == CRASH
    else:
        wrong = Result(task_id=lost.task_id, attempt=lost.attempt, provider_id="p1", outputs=())
        assert complete(bench, [wrong])[0].problem is not None
    held = {h.task_id for h in bench.store.held_by()}
    assert held == {batch[0].task_id, batch[2].task_id, batch[3].task_id}, "the one that reads neither stays"
    (ready,) = bench.store.ready(9)
    assert (ready.task_id, ready.failed_on) == (lost.task_id, () if how == "release" else ("p1",))
    outcomes = complete(bench, results)
    assert [o.accepted for o in outcomes] == [True, how == "release", True, True, *[False] * 5]
    assert all(not task.failed_on for task in bench.store.ready(9) if task.task_id != lost.task_id)
    check(bench, case)


def test_what_ran_ahead_expires_with_what_it_needs(bench: Bench) -> None:
    case = chain(4)
    bench.start(case, "g")
    for _ in range(4):
        batch = bench.batch([head(bench)], seconds=10.0, ahead=2)
        bench.now += 11.0
        (outcome,) = bench.store.expire(bench.now)
        assert {recall.task.task_id for recall in outcome.recalls} == {task.task_id for task in batch}
        assert bench.store.held_by() == []
    assert bench.store.ready(1)[0].failed_on == ("p1",)
    check(bench, case)


def test_a_provider_that_comes_back_keeps_no_more_than_what_has_its_inputs(bench: Bench) -> None:
    case = chain(3)
    bench.start(case, "g")
    batch = bench.batch([head(bench)], ahead=9)
    kept = bench.store.keep([back(task) for task in batch], lambda _: bench.now + 9.0, bench.now)
    assert [task.task_id for task, _ in kept] == [batch[0].task_id]
    assert [held.task_id for held in bench.store.held_by()] == [batch[0].task_id]
    check_kept(bench, case, kept[0][0])


def check_kept(bench: Bench, case: Case, task: Task) -> None:
    assert bench.complete(bench.compute(case.workshop.kernels, task)).accepted
    check(bench, case)


def test_a_cancelled_graph_recalls_what_ran_ahead(bench: Bench) -> None:
    bench.start(chain(3), "g")
    batch = bench.batch([head(bench)], ahead=9)
    recalls = bench.store.cancel_graph("g", None, bench.now)
    assert {recall.task.task_id for recall in recalls} == {task.task_id for task in batch}


def test_a_missing_blob_holds_back_all_results_of_its_provider(bench: Bench) -> None:
    case = chain(3)
    bench.start(case, "g")
    batch = bench.batch([head(bench)], ahead=9)
    results = bench.compute_all(case.workshop.kernels, batch)
    ghost = Blob("ab" * 32, 160)
    named = results[1].outputs[0].__class__(name="out0", ref=ghost)
    broken = Result(task_id=batch[1].task_id, attempt=1, provider_id="p1", outputs=(named,))
    outcomes = complete(bench, [results[0], broken, results[2]])
    assert [(o.accepted, o.missing) for o in outcomes] == [(False, (ghost.sha,))] * 3
    assert len(bench.store.held_by()) == 3
    assert all(o.accepted for o in complete(bench, results))


# ── gangs ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_gang_runs_a_chunk(bench: Bench) -> None:
    case = training(7, gang=True)
    bench.start(case, "g")
    (ready,) = bench.store.ready(9)
    (gang,) = ready.gangs
    ranks = bench.batch([ready.task_id], stop=3, gang=0)
    assert [(task.task_id, task.attempt, task.peak_memory) for task in ranks] == [
        (ready.task_id, 1, 500), (ready.task_id, 1, 400),
    ]  # fmt: skip
    for rank, (task, part) in enumerate(zip(ranks, gang.parts, strict=True)):
        assert task.part is not None
        assert (task.part.rank, task.part.ranks, task.part.start, task.part.stop) == (rank, 2, 0, 3)
        assert task.part.loop == part.loop
        assert tuple(given.name for given in task.inputs) == part.inputs
        assert tuple(output.name for output in task.outputs) == part.outputs
        assert models_needed(task) == set(gang.nodes)
        assert all(bench.store.find_blob(model, None) for model in models_needed(task))
    assert ranks[1].outputs[0].shape == (3,)
    assert [held.ranks for held in bench.store.held_by("p1")] == [2]
    outcome = bench.complete(bench.compute(case.workshop.kernels, whole_chunk(ranks)))
    assert (outcome.accepted, outcome.iterations, outcome.ranks) == (True, 3, 2)
    assert bench.store.ready(9)[0].start == 3
    task = bench.lease(ready.task_id, stop=5)
    assert task is not None
    assert task.part is None
    assert bench.complete(bench.compute(case.workshop.kernels, task)).ranks is None
    check(bench, case)


def test_a_gang_that_does_not_exist_is_refused(bench: Bench) -> None:
    bench.start(training(7), "g")
    with pytest.raises(ArgumentError, match="no such gang"):
        bench.batch([head(bench)], gang=0)
    assert bench.store.held_by() == []


def test_a_gang_that_was_cut_off_is_not_taken_up_again(bench: Bench) -> None:
    case = training(7, gang=True)
    bench.start(case, "g")
    ranks = bench.batch([head(bench)], stop=3, gang=0)
    assert bench.store.keep([back(ranks[0])], lambda _: bench.now + 9.0, bench.now) == []
    assert bench.store.held_by() == []
    check(bench, case)


def test_who_failed_in_a_gang_is_named_with_the_line(bench: Bench) -> None:
    case = training(7, gang=True)
    bench.start(case, "g")
    (model,) = set(Program(case.plan).models()) - set(case.workshop.kernels)
    for number, blame in enumerate(("p2", "", "p3"), 1):
        ranks = bench.batch([head(bench)], gang=0)
        (outcome,) = bench.store.fail([failure(ranks[0], blame=blame, subgraph=model, node=1)], bench.now)
        assert outcome.finished == (number == 3)
        if number < 3:
            assert bench.store.ready(1)[0].failed_on == ("p2", "p1")[:number]
    problem = bench.store.graph("g").problem
    assert problem is not None
    assert (problem.op, problem.source) == ("train_node", "train.py:7: model.fit(x)")


# ── copies ────────────────────────────────────────────────────────────────────────────────────────
def copies(bench: Bench, task: Task, provider: str = "p2", seconds: float = 30.0) -> tuple[Task, ...]:
    lease = Lease(provider_id=provider, deadline=bench.now + seconds, tasks=(task.task_id,))
    return bench.store.copy([lease], bench.now)[0]


def first_and_copy(bench: Bench, case: Case) -> tuple[Task, Task]:
    bench.start(case, "g")
    first = bench.lease(head(bench), stop=3)
    assert first is not None
    (second,) = copies(bench, first)
    assert (second.task_id, second.attempt) == (first.task_id, first.attempt + 1)
    assert (second.inputs, second.outputs, second.label) == (first.inputs, first.outputs, first.label)
    assert [(h.provider_id, h.attempt) for h in bench.store.held_by()] == [("p1", 1), ("p2", 2)]
    assert [h.attempt for h in bench.store.held_by("p2")] == [2]
    return first, second


@pytest.mark.parametrize("winner", [0, 1])
def test_the_first_result_of_two_attempts_counts(bench: Bench, winner: int) -> None:
    case = training()
    attempts = list(zip(first_and_copy(bench, case), ("p1", "p2"), strict=True))
    results = [bench.compute(case.workshop.kernels, task, provider) for task, provider in attempts]
    task, provider = attempts[1 - winner]
    outcome = bench.complete(results[winner])
    assert outcome.accepted
    lost = HeldTask(task_id=task.task_id, attempt=task.attempt)
    assert outcome.recalls == (Recall(provider_id=provider, task=lost),)
    assert bench.store.held_by() == []
    assert not bench.complete(results[1 - winner]).accepted
    (ready,) = bench.store.ready(9)
    assert ready.start == 3
    again = bench.lease(ready.task_id, stop=5)
    assert again is not None
    assert again.attempt == 3, "a number that no attempt had"
    assert not bench.complete(results[1 - winner]).accepted
    assert bench.complete(bench.compute(case.workshop.kernels, again)).accepted
    check(bench, case)


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("how", ["release", "fail", "expire"])
def test_one_attempt_that_ends_leaves_the_other(bench: Bench, lost: int, how: str) -> None:
    case = training()
    attempts = list(zip(first_and_copy(bench, case), ("p1", "p2"), strict=True))
    task, provider = attempts[lost]
    other, who = attempts[1 - lost]
    late = bench.compute(case.workshop.kernels, task, provider)
    if how == "release":
        assert bench.store.release([back(task, provider)]) == [True]
    elif how == "fail":
        assert bench.store.fail([failure(task, provider)], bench.now)[0].problem == CRASH
    else:
        with bench.store.write() as connection:
            column = "deadline" if lost == 0 else "copy_deadline"
            connection.exec_driver_sql(
                f"UPDATE tasks SET {column} = {bench.now - 1} WHERE id = {task.task_id}"
            )
        (outcome,) = bench.store.expire(bench.now)
        assert [(r.provider_id, r.task.attempt) for r in outcome.recalls] == [(provider, task.attempt)]
    assert [(h.provider_id, h.attempt) for h in bench.store.held_by()] == [(who, other.attempt)]
    assert bench.store.ready(9) == []
    assert not bench.complete(late).accepted
    if how == "release":
        (third,) = copies(bench, other, "p3")
        assert third.attempt == 3
        assert bench.store.release([back(third, "p3")]) == [True]
    assert bench.store.keep([back(other, who)], lambda _: 0.0, bench.now)[0][0].attempt == other.attempt
    assert bench.complete(bench.compute(case.workshop.kernels, other, who)).accepted
    check(bench, case)


def test_a_copy_that_comes_back_keeps_its_attempt(bench: Bench) -> None:
    case = training()
    _, second = first_and_copy(bench, case)
    ((kept, held),) = bench.store.keep([back(second, "p2")], lambda _: 0.0, bench.now)
    assert (kept.attempt, kept.lease_seconds, held.provider_id) == (2, 30.0, "p2")
    assert bench.complete(bench.compute(case.workshop.kernels, kept, "p2")).accepted


def test_two_late_attempts_are_one_expiry(bench: Bench) -> None:
    first, _ = first_and_copy(bench, training())
    bench.now += 31.0
    (outcome,) = bench.store.expire(bench.now)
    assert [recall.provider_id for recall in outcome.recalls] == ["p1", "p2"]
    assert (bench.store.ready(1)[0].task_id, bench.store.held_by()) == (first.task_id, [])


def test_what_may_not_be_copied(bench: Bench) -> None:
    bench.start(chain(3), "g")
    batch = bench.batch([head(bench)], ahead=1)
    assert copies(bench, batch[0], "p1") == ()
    assert copies(bench, batch[1]) == ()
    assert len(copies(bench, batch[0])) == 1
    assert copies(bench, batch[0], "p3") == ()
    bench.start(training(gang=True), "h")
    gang = bench.batch([next(t.task_id for t in bench.store.ready(9) if t.graph_id == "h")], gang=0)
    assert copies(bench, gang[0]) == ()


def test_what_ran_ahead_on_the_beaten_attempt_falls_back(bench: Bench) -> None:
    case = chain(4)
    bench.start(case, "g")
    batch = bench.batch([head(bench)], ahead=2)
    (second,) = copies(bench, batch[0])
    outcome = bench.complete(bench.compute(case.workshop.kernels, second, "p2"))
    assert {recall.task.task_id for recall in outcome.recalls} == {task.task_id for task in batch}
    assert head(bench) == batch[1].task_id
    check(bench, case)


def test_a_graph_does_not_fail_while_another_attempt_runs(bench: Bench) -> None:
    case = training()
    bench.start(case, "g")
    for _ in range(2):
        task = bench.lease(head(bench), stop=3)
        assert task is not None
        bench.store.fail([failure(task)], bench.now)
    task = bench.lease(head(bench), stop=3)
    assert task is not None
    (second,) = copies(bench, task)
    (outcome,) = bench.store.fail([failure(task)], bench.now)
    assert (outcome.problem, outcome.finished) == (CRASH, False)
    assert bench.complete(bench.compute(case.workshop.kernels, second, "p2")).accepted
    check(bench, case)
