"""Graphs run to their end by fake providers give what NumPy gives, and are advanced, shown and deleted as
promised.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from plans import CASES, Bench, chain, epochs, mapped, training, wide

from ravop.errors import (
    ArgumentError,
    BlobError,
    GraphCancelledError,
    GraphFailedError,
    GraphStateError,
    NotComputedError,
    Problem,
    UnknownGraphError,
    UnknownNameError,
)
from ravop.graph.manifest import Manifest
from ravsock.store.schema import bindings, scopes, tasks


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_a_graph_gives_what_numpy_gives(bench: Bench, name: str, chunk: int) -> None:
    case = CASES[name]()
    bench.start(case, "g")
    bench.drive(case, chunk)
    assert bench.store.graph("g", bench.owner).state == "done"
    expected = case.expected()
    for persisted in case.persisted:
        np.testing.assert_allclose(bench.fetch("g", persisted.name), expected[persisted.value], rtol=1e-12)
    info = bench.store.progress("g", bench.owner, bench.now, detailed=True)
    assert (info.fraction, info.tasks_running, info.tasks_queued) == (1.0, 0, 0)
    assert info.steps_done == info.steps_total
    assert all(p.done for p in info.persisted)


def test_results_are_there_as_soon_as_they_are_computed(bench: Bench) -> None:
    case = epochs(3, 5)
    bench.start(case, "g")
    expected = case.expected()
    with pytest.raises(NotComputedError, match="is executing"):
        bench.fetch("g", "loss_epoch_1_batch_1")
    for _ in range(3):  # prepare, grow, and the first chunk of two batches
        bench.step(case)
    assert bench.fetch("g", "loss_epoch_1_batch_2") == pytest.approx(expected["losses"][0, 1])
    for name in (
        "loss_epoch_1_batch_3",
        "loss_epoch_2_batch_1",
        "weights",
        "val_1",
        "loss_epoch_{}_batch_{}",
    ):
        with pytest.raises(NotComputedError):
            bench.fetch("g", name)
    while bench.store.progress("g", None, bench.now).steps_done < 7:
        bench.step(case)
    assert bench.fetch("g", "val_1") == pytest.approx(expected["vals"][0])
    assert bench.fetch("g", "loss_epoch_1_batch_5") == pytest.approx(expected["losses"][0, 4])
    info = bench.store.progress("g", bench.owner, bench.now, detailed=True)
    assert info.metrics["val"] == pytest.approx(expected["vals"][0])
    assert info.metrics["loss"] == pytest.approx(expected["losses"][1, info.steps_done - 7])
    assert {p.name: p.available for p in info.persisted}["val_{}"] == 1
    assert 0.2 < info.fraction < 0.6
    assert info.eta is not None
    assert info.eta > 0


def test_the_ranges_of_a_loop_are_done_in_any_order(bench: Bench) -> None:
    case = mapped((3, 1, 4, 2))
    bench.start(case, "g")
    expected, kernels = case.expected(), case.workshop.kernels
    ranges = sorted(task.task_id for task in bench.store.ready(9))

    def finish(number: int, stop: int) -> None:
        task = bench.lease(ranges[number], stop=stop)
        assert task is not None
        assert bench.complete(bench.compute(kernels, task)).accepted

    seen: list[int] = []
    for number, stop, there in (
        (2, 2, range(4, 6)),
        (0, 3, range(3)),
        (3, 2, range(8, 10)),
        (2, 4, range(6, 8)),
    ):
        finish(number, stop)
        seen += there
        info = bench.store.progress("g", bench.owner, bench.now, detailed=True)
        assert {p.name: (p.available, p.done) for p in info.persisted}["norm_{}"] == (len(seen), False)
        assert info.metrics["norm"] == pytest.approx(expected["norms"][max(seen)])
        for element in range(10):
            if element in seen:
                assert bench.fetch("g", f"norm_{element}") == pytest.approx(expected["norms"][element])
            else:
                with pytest.raises(NotComputedError):
                    bench.fetch("g", f"norm_{element}")
        with pytest.raises(NotComputedError):
            bench.fetch("g", "rows")
    left = [task.task_id for task in bench.store.ready(9)]
    assert left == [ranges[1]], "who reads the whole waits for all ranges"
    finish(1, 1)
    np.testing.assert_allclose(bench.fetch("g", "rows"), expected["rows"])
    assert [task.label for task in bench.store.ready(9)] == ["mean"]
    bench.drive(case)
    np.testing.assert_allclose(bench.fetch("g", "score"), expected["score"])


def test_the_time_left_is_told_from_the_first_task_on_and_not_before(bench: Bench) -> None:
    case = chain(300)
    bench.start(case, "g")
    bench.now += 3600.0  # nobody came for an hour, which says nothing about the speed
    seen = [bench.store.progress("g", None, bench.now)]
    for _ in range(11):
        bench.step(case)  # takes a second
        seen.append(bench.store.progress("g", None, bench.now))
    assert [info.eta is None for info in seen] == [number < 3 for number in range(12)]
    assert seen[-1].eta == pytest.approx(289, rel=0.01)
    assert seen[-1].fraction == pytest.approx(11 / 300, rel=0.01)


def test_names_that_stand_for_nothing_are_refused(bench: Bench) -> None:
    bench.start(epochs(), "g")
    for name in ("nonsense", "loss_epoch_4_batch_1", "loss_epoch_0_batch_1", "val_99"):
        with pytest.raises(UnknownNameError):
            bench.fetch("g", name)
    with pytest.raises(UnknownGraphError):
        bench.fetch("other", "weights")
    stranger = bench.store.authenticate(bench.store.create_token("requester", "eve", 0.0)).token_id
    with pytest.raises(UnknownGraphError):
        bench.store.fetch("g", stranger, "weights")


def test_many_names_are_fetched_at_once(bench: Bench) -> None:
    case = training(7)
    bench.start(case, "g")
    bench.step(case, chunk=4)
    found = bench.store.fetch_all("g", bench.owner, [f"loss_{i}" for i in range(1, 9)])
    values = [bench.value(ref) for ref in found[:4] if not isinstance(ref, Exception)]
    np.testing.assert_allclose(values, case.expected()["losses"][:4])
    assert [type(error) for error in found[4:]] == [NotComputedError] * 3 + [UnknownNameError]


def test_the_store_does_not_grow_with_steps(bench: Bench) -> None:
    sizes = {}
    for length in (30, 180):
        case = training(length)
        bench.start(case, f"g{length}")
        for _ in range(length // 6):
            bench.step(case, chunk=6)
        sizes[length] = rows(bench, f"g{length}")
        bench.drive(case, 6)
        np.testing.assert_allclose(bench.fetch(f"g{length}", "loss_{}"), case.expected()["losses"])
    assert sizes[180]["tasks"] == sizes[30]["tasks"] == 2
    assert sizes[180]["bindings"] <= sizes[30]["bindings"] + 4


def test_an_iteration_leaves_nothing_behind_but_what_is_stacked(bench: Bench) -> None:
    case = epochs(4)
    bench.start(case, "g")
    seen = set()
    for _ in range(24):
        bench.step(case, chunk=5)
        counts = rows(bench, "g")
        assert counts["tasks"] <= 3 + 5
        assert counts["scopes"] <= 2
        seen.add(counts["bindings"])
    assert max(seen) <= 4 + 1 + 2 * 3 + 8


def rows(bench: Bench, graph_id: str) -> dict[str, int]:
    """Rows that a graph has in each table."""
    number = bench.store.graph(graph_id).number
    with bench.store.read() as connection:
        return {
            table.name: connection.execute(
                sa.select(sa.func.count()).select_from(table).where(table.c.graph == number)
            ).scalar_one()
            for table in (tasks, scopes, bindings)
        }


def test_activating_again_changes_nothing_and_another_graph_may_not_take_the_name(bench: Bench) -> None:
    case = chain()
    bench.add(case, "g")
    number = bench.store.graph("g").number
    bench.add(case, "g")
    assert bench.store.graph("g").number == number
    with pytest.raises(GraphStateError, match="another graph"):
        bench.add(wide(), "g")


def test_a_graph_needs_its_blobs_and_they_must_be_the_owners(bench: Bench) -> None:
    stranger = bench.store.authenticate(bench.store.create_token("requester", "eve", 0.0)).token_id
    bench.add(chain(), "g")
    row, manifest = bench.store.graph("g"), bench.store.manifest("g")
    with pytest.raises(BlobError, match="missing"):
        bench.store.add_graph(
            stranger, _renamed(manifest, "theirs"), row.model_sha, row.manifest_sha, chain().plan, bench.now
        )
    with pytest.raises(BlobError, match="missing"):
        bench.store.add_graph(
            bench.owner, _renamed(manifest, "mine"), "0" * 64, row.manifest_sha, chain().plan, bench.now
        )


def test_what_cannot_run_is_not_taken(bench: Bench) -> None:
    case = chain()
    turned = msgspec.structs.replace(case.plan.main, units=case.plan.main.units[::-1])
    plan = msgspec.structs.replace(case.plan, main=turned)
    bench.add(case, "g")
    row, manifest = bench.store.graph("g"), bench.store.manifest("g")
    with pytest.raises(ArgumentError, match="must come after"):
        bench.store.add_graph(
            bench.owner, _renamed(manifest, "h"), row.model_sha, row.manifest_sha, plan, 0.0
        )
    unbound = msgspec.structs.replace(manifest, graph_id="h", bindings=())
    with pytest.raises(ArgumentError, match="without a value"):
        bench.store.add_graph(bench.owner, unbound, row.model_sha, row.manifest_sha, case.plan, 0.0)


def _renamed(manifest: Manifest, graph_id: str) -> Manifest:
    return msgspec.structs.replace(manifest, graph_id=graph_id)


def test_a_graph_waits_for_execute(bench: Bench) -> None:
    case = chain()
    bench.add(case, "g")
    assert bench.store.ready(10) == []
    with pytest.raises(NotComputedError, match="not executed yet"):
        bench.fetch("g", "result")
    assert bench.store.progress("g", None, bench.now).tasks_queued == 3
    bench.store.start_graph("g", bench.owner, bench.now)
    assert bench.store.start_graph("g", bench.owner, bench.now).state == "executing"
    assert len(bench.store.ready(10)) == 1
    bench.drive(case)
    with pytest.raises(GraphStateError):
        bench.store.start_graph("g", bench.owner, bench.now)
    with pytest.raises(GraphStateError):
        bench.store.cancel_graph("g", bench.owner, bench.now)


def test_a_cancelled_graph_recalls_its_tasks_and_keeps_its_results(bench: Bench) -> None:
    case = training()
    bench.start(case, "g")
    bench.step(case, chunk=3)
    task = bench.lease(bench.store.ready(1)[0].task_id, stop=5)
    assert task is not None
    recalls = bench.store.cancel_graph("g", bench.owner, bench.now)
    assert [(r.provider_id, r.task.task_id, r.task.attempt) for r in recalls] == [
        ("p1", task.task_id, task.attempt)
    ]
    assert bench.store.cancel_graph("g", bench.owner, bench.now) == []
    assert bench.store.ready(10) == []
    assert bench.store.held_by() == []
    assert not bench.complete(bench.compute(case.workshop.kernels, task)).accepted
    assert bench.fetch("g", "loss_3") == pytest.approx(case.expected()["losses"][2])
    with pytest.raises(GraphCancelledError):
        bench.fetch("g", "loss_4")
    with pytest.raises(GraphStateError):
        bench.store.start_graph("g", bench.owner, bench.now)


def test_a_failed_graph_goes_on_from_what_it_has(bench: Bench) -> None:
    case = training()
    bench.start(case, "g")
    bench.step(case, chunk=3)
    task = bench.lease(bench.store.ready(1)[0].task_id)
    recalls = bench.store.fail_graph(
        "g", Problem(code="graph_failed", message="the model is gone"), bench.now
    )
    assert len(recalls) == 1
    assert task is not None
    with pytest.raises(GraphFailedError, match="the model is gone"):
        bench.fetch("g", "weights")
    assert bench.store.ready(10) == []
    bench.store.start_graph("g", bench.owner, bench.now)
    assert bench.store.graph("g").problem is None
    assert bench.store.ready(10)[0].start == 3
    bench.drive(case)
    np.testing.assert_allclose(bench.fetch("g", "weights"), case.expected()["w_end"])


def test_flush_deletes_what_does_not_run_and_is_ones_own(bench: Bench) -> None:
    other = bench.store.authenticate(bench.store.create_token("requester", "eve", 0.0)).token_id
    bench.add(chain(), "theirs", other)
    bench.add(chain(), "active")
    done, running = chain(), chain()
    bench.start(done, "done")
    bench.drive(done)
    bench.start(running, "running")
    assert sorted(bench.store.flush(bench.owner)) == ["active", "done"]
    assert [g.graph_id for g in bench.store.graphs(bench.owner)] == ["running"]
    assert [g.graph_id for g in bench.store.graphs()] == ["running", "theirs"]
    bench.store.cancel_graph("running", bench.owner, bench.now)
    bench.start(done, "done")
    bench.drive(done)
    np.testing.assert_allclose(bench.fetch("done", "result"), done.expected()["y2"])
