"""Graphs from activation to results, through a real port, with providers that compute when they are told to."""

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from coordinators import WAIT, branches, expected, loop, serving

import ravop as R
from ravop.errors import (
    GraphStateError,
    InvalidModelError,
    NotComputedError,
    UnknownGraphError,
    UnknownNameError,
)
from ravop.protocol import messages as m
from ravop.protocol.tensors import Blob, sha256


async def test_a_graph_is_activated_executed_computed_and_fetched(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        provider.keep_working()
        graph = branches(3)
        activated = await alice.call(await alice.upload(graph))
        assert activated.graph_id == graph.id
        assert activated.plan.useful_providers >= 1
        assert activated.plan.fleet_seconds is not None
        before = await alice.call(m.GetGraph(graph_id=graph.id))
        assert (before.state, before.fraction, before.providers) == ("active", 0.0, 1)
        assert {p.name for p in before.persisted} == {"branch_0", "branch_1", "branch_2"}
        graph_id = await alice.run(graph)
        done = await alice.until_state(graph_id, "done")
        assert done.fraction == 1.0
        assert done.tasks_running == 0
        for index, value in enumerate(await alice.fetch(graph_id, "branch_0", "branch_1", "branch_2")):
            np.testing.assert_allclose(value, expected(index), rtol=1e-5)


async def test_the_end_is_told_when_it_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        graph_id = await alice.run(branches(1))
        task = await provider.take()
        outputs = await provider.compute(task)
        reached, go_on, sync = threading.Event(), threading.Event(), served.store.sync

        def held_up() -> None:
            reached.set()
            assert go_on.wait(WAIT)
            sync()

        monkeypatch.setattr(served.store, "sync", held_up)
        reporting = asyncio.create_task(provider.deliver(task, outputs))
        assert await asyncio.to_thread(reached.wait, WAIT)
        assert served.store.graph(graph_id).state == "done"
        asking = asyncio.create_task(alice.call(m.GetGraph(graph_id=graph_id)))
        await asyncio.wait({asking, reporting}, timeout=0.2)
        assert not asking.done()
        assert not reporting.done()
        assert "done" not in {info.state for info in alice.heard}
        go_on.set()
        assert (await asking).state == "done"
        assert (await reporting).accepted == 1
        await alice.until_state(graph_id, "done")


async def test_large_values_travel_as_blobs(tmp_path: Path) -> None:
    size = 256
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        provider.keep_working()
        graph_id = await alice.run(branches(1, size))
        await alice.until_state(graph_id, "done")
        fetched = await alice.call(m.Fetch(graph_id=graph_id, names=("branch_0",)))
        assert type(fetched.values[0].value).__name__ == "Blob"
        (value,) = await alice.fetch(graph_id, "branch_0")
        np.testing.assert_allclose(value, expected(0, size), rtol=1e-4)


async def test_a_loop_runs_in_growing_chunks_and_shows_its_losses_while_it_runs(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as served,
        served.requester() as alice,
        served.provider(gflops=1e-7) as provider,
    ):
        graph_id = await alice.run(loop(40))
        while "iterations" not in (first := await provider.take()).label:
            await provider.work(first)
        await provider.work(first)
        second = await provider.take()
        assert first.subgraph == second.subgraph
        (early,) = await alice.fetch(graph_id, "sum_1")
        assert early == 4.0
        with pytest.raises(AssertionError, match="not_computed"):
            await alice.fetch(graph_id, "sum_40")
        running = await alice.until(lambda info: 0 < info.steps_done < info.steps_total)
        assert "sum" in running.metrics
        await provider.work(second)
        provider.keep_working()
        await alice.until_state(graph_id, "done")
        total, last = await alice.fetch(graph_id, "total", "sum_40")
        np.testing.assert_array_equal(total, np.full(4, 40.0, np.float32))
        assert last == 160.0
        assert len(provider.done) >= 3, "the loop was not chunked"


async def test_without_a_provider_the_graph_says_what_it_waits_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice:
        graph_id = await alice.run(branches(1))
        info = await alice.until(lambda info: bool(info.waiting))
        assert info.waiting == "no provider is connected"
        async with served.provider() as provider:
            provider.keep_working()
            done = await alice.until_state(graph_id, "done")
        assert done.waiting == ""


async def test_a_provider_with_too_little_memory_gets_nothing_and_both_sides_are_told(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as served,
        served.requester() as alice,
        served.provider(memory=10) as provider,
    ):
        await alice.run(branches(1))
        info = await alice.until(lambda info: bool(info.waiting))
        assert "no provider offers" in info.waiting
        beaten = await provider.connection.call(m.Beat())
        assert "bytes of memory" in beaten.waiting
        assert provider.tasks.empty()


async def test_a_provider_works_only_for_the_graph_it_wishes(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice:
        first, second = branches(2), branches(2)
        async with served.provider(graph_id=second.id) as provider:
            provider.keep_working()
            await alice.run(first)
            await alice.run(second)
            await alice.until_state(second.id, "done")
            info = await alice.call(m.GetGraph(graph_id=first.id))
            assert (info.state, info.tasks_done, info.providers) == ("executing", 0, 0)


async def test_two_requesters_get_equal_shares_whatever_they_queue(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as served,
        served.requester(served.token("requester", "alice")) as alice,
        served.requester(served.token("requester", "bob")) as bob,
    ):
        many, few = branches(40), branches(6)
        await alice.run(many)
        await bob.run(few)
        async with served.provider() as provider:
            provider.keep_working()
            await bob.until_state(few.id, "done")
            order = [batch[0].graph_id for batch in provider.batches]
            last = len(order) - order[::-1].index(few.id)
            assert order[:last].count(many.id) <= order.count(few.id) + 3
            await alice.until_state(many.id, "done")
        with pytest.raises(UnknownGraphError):
            await bob.call(m.GetGraph(graph_id=many.id))
        mine = await bob.call(m.ListGraphs())
        assert [info.graph_id for info in mine.graphs] == [few.id]


async def test_what_cannot_be_asked_for_is_refused_with_a_reason(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice:
        with pytest.raises(UnknownGraphError):
            await alice.call(m.Execute(graph_id="nothing"))
        graph = branches(1)
        await alice.call(await alice.upload(graph))
        fetched = await alice.call(m.Fetch(graph_id=graph.id, names=("branch_0", "other")))
        assert [value.problem.code for value in fetched.values] == [
            NotComputedError.code,
            UnknownNameError.code,
        ]
        await alice.call(m.Cancel(graph_id=graph.id))
        with pytest.raises(GraphStateError):
            await alice.call(m.Execute(graph_id=graph.id))


async def test_activating_again_changes_nothing_and_another_graph_under_its_id_is_refused(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as served, served.requester() as alice:
        graph = branches(2)
        activate = await alice.upload(graph)
        assert await alice.call(activate) == await alice.call(activate)
        other = branches(1)
        other.id = graph.id
        with pytest.raises(GraphStateError, match="id"):
            await alice.call(await alice.upload(other))


async def test_a_model_that_nobody_should_run_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice:
        graph = branches(1)
        activate = await alice.upload(graph)
        await alice.blobs.put(b"no model at all", sha := sha256(b"no model at all"))
        with pytest.raises(InvalidModelError):
            await alice.call(m.Activate(graph_id=graph.id, model=sha, manifest=activate.manifest))
        with pytest.raises(R.errors.RavenError, match="not uploaded"):
            await alice.call(m.Activate(graph_id=graph.id, model="0" * 64, manifest=activate.manifest))


async def test_flush_forgets_what_is_not_running(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        done, running = branches(1), branches(1)
        provider.keep_working()
        await alice.run(done)
        await alice.until_state(done.id, "done")
        await provider.close()
        await alice.run(running)
        left = await alice.call(m.Flush())
        assert [info.graph_id for info in left.graphs] == [running.id]


async def test_cancelling_recalls_what_is_being_computed(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        graph_id = await alice.run(branches(1))
        task = await provider.take()
        await alice.call(m.Cancel(graph_id=graph_id))
        await alice.until_state(graph_id, "cancelled")
        beaten = await provider.connection.call(m.Beat(holding=(_held(task),)))
        assert beaten.drop == (_held(task),)
        late = await provider.deliver(task, (await provider.output("any", np.zeros(1, np.float32)),))
        assert (late.accepted, late.missing) == (0, ())


async def test_providers_are_listed_with_what_they_do(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice:
        token = served.token("provider")
        async with served.provider("here", token), served.provider("gone"):
            pass
        async with served.provider("here", token, slots=3) as provider:
            await alice.run(branches(1))
            await provider.take()
            listed = {p.name: p for p in (await alice.call(m.ListProviders())).providers}
        assert (listed["here"].connected, listed["here"].busy, listed["here"].slots) == (True, 1, 3)
        assert not listed["gone"].connected


async def test_a_watcher_hears_the_last_state_and_not_every_step(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        provider.keep_working()
        graph_id = await alice.run(branches(60))
        await alice.until_state(graph_id, "done")
        heard = [info for info in alice.heard if info.graph_id == graph_id]
        assert heard[-1].state == "done"
        assert len(heard) < 60
        assert all(info.persisted == () for info in heard)


def _held(task: m.Task) -> m.HeldTask:
    return m.HeldTask(task_id=task.task_id, attempt=task.attempt)


async def test_many_small_values_travel_as_blobs_where_they_are_too_much_for_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ravsock.core.fitting.BUDGET", 2_000)
    data = np.random.default_rng(5).normal(size=(12, 40, 40)).astype(np.float32)  # too large for a constant
    graph = R.Graph(name="join", rules={"unit_seconds": 0.0})
    source = R.t(data)
    parts = [R.matmul(source[index], source[index]) for index in range(12)]
    for index, part in enumerate(parts):
        part.persist_op(name=f"part_{index}")
    R.concat(parts, axis=0).persist_op(name="all")
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        provider.keep_working()
        await alice.run(graph)
        await alice.until_state(graph.id, "done")
        assert any(isinstance(value.ref, Blob) for task in provider.done for value in task.inputs)
        *each, together = await alice.fetch(graph.id, *(f"part_{index}" for index in range(12)), "all")
        np.testing.assert_allclose(each, data @ data, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(together, (data @ data).reshape(-1, 40), rtol=1e-4, atol=1e-5)
