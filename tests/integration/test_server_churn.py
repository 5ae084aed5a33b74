"""Providers that leave, come back, fail, go silent or are late, and a coordinator that is started again."""

import asyncio
import time
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from coordinators import FakeProvider, branches, expected, loop, serving
from sqlalchemy.exc import OperationalError

from ravop.errors import ComputeError, UnreachableError
from ravop.protocol import messages as m
from ravop.protocol.tensors import Blob
from ravsock.core import deadlines, placement
from ravsock.server import clock, sweeper


def held(task: m.Task) -> m.HeldTask:
    return m.HeldTask(task_id=task.task_id, attempt=task.attempt)


def result(task: m.Task, outputs: tuple[m.Output, ...]) -> m.TaskResult:
    return m.TaskResult(task_id=task.task_id, attempt=task.attempt, outputs=outputs, seconds=0.01)


async def test_a_task_goes_elsewhere_when_its_provider_leaves_and_the_late_result_is_discarded(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as served, served.requester() as alice:
        token = served.token("provider")
        async with served.provider("leaves", token) as leaves:
            graph_id = await alice.run(branches(1))
            task = await leaves.take()
            outputs = await leaves.compute(task)
            await leaves.connection.close()
            async with served.provider("stays") as stays:
                again = await stays.take()
                assert (again.task_id, again.attempt) == (task.task_id, task.attempt + 1)
                registered = await leaves.connect(holding=(held(task),))
                assert registered.drop == (held(task),)
                late = await leaves.deliver(task, outputs)
                assert (late.accepted, late.missing) == (0, ())
                assert (await stays.work(again)).accepted
                await alice.until_state(graph_id, "done")
                twice = await stays.deliver(again, outputs)
                assert not twice.accepted
                info = await alice.call(m.GetGraph(graph_id=graph_id))
                assert info.tasks_done == 1


async def test_a_provider_that_comes_back_keeps_what_nobody_took(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        graph_id = await alice.run(branches(1))
        task = await provider.take()
        outputs = await provider.compute(task)
        await provider.connection.close()
        registered = await provider.connect(holding=(held(task),))
        assert registered.drop == ()
        assert provider.tasks.empty()
        assert (await provider.deliver(task, outputs)).accepted
        await alice.until_state(graph_id, "done")


async def test_a_provider_that_grows_on_its_line_keeps_what_it_has(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        graph_id = await alice.run(branches(1))
        task = await provider.take()
        outputs = await provider.compute(task)
        provider.slots = 3
        registered = await provider.connection.call(
            m.Register(provider_id=provider.name, profile=provider.profile, holding=(held(task),))
        )
        assert isinstance(registered, m.Registered)
        assert registered.drop == ()
        (info,) = (await alice.call(m.ListProviders())).providers
        assert (info.slots, info.busy) == (3, 1)
        assert (await provider.deliver(task, outputs)).accepted
        assert provider.tasks.empty()
        await alice.until_state(graph_id, "done")


async def test_a_provider_that_comes_back_with_less_gets_it_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        await alice.run(branches(1))
        task = await provider.take()
        await provider.connection.close()
        stranger = m.HeldTask(task_id=999, attempt=1)
        registered = await provider.connect(holding=(stranger,))
        assert registered.drop == (stranger,)
        again = await provider.take()
        assert (again.task_id, again.attempt) == (task.task_id, task.attempt + 1)


async def test_a_task_handed_back_goes_to_another(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider("first") as first:
        await alice.run(branches(1))
        task = await first.take()
        async with served.provider("second", gflops=100.0) as second:
            assert second.tasks.empty()
            await first.hand_back(task)
            assert (await second.take()).task_id == task.task_id


async def test_a_task_that_is_late_is_given_to_an_idle_provider_too_and_the_first_result_counts(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider("late") as late:
        graph_id = await alice.run(branches(1))
        task = await late.take()
        async with served.provider("leaves") as leaves:
            assert (await leaves.take()).task_id == task.task_id
        async with served.provider("idle") as idle:  # nobody else has it any more
            copy = await idle.take()
            assert (copy.task_id, copy.subgraph, copy.inputs) == (task.task_id, task.subgraph, task.inputs)
            assert copy.attempt != task.attempt
            assert (await idle.work(copy)).accepted
            await alice.until_state(graph_id, "done")
            late_result = await late.output(task.outputs[0].name, expected(0))
            assert not (await late.deliver(task, (late_result,))).accepted
            assert held(task) in late.recalled
            assert (await alice.call(m.GetGraph(graph_id=graph_id))).tasks_done == 1


async def test_a_provider_that_refuses_a_task_rests_and_another_gets_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider("no") as refusing:
        refusing.refuses = True
        await alice.run(branches(1))
        await alice.until(lambda info: "rest" in info.waiting)
        async with served.provider("yes") as accepting:
            await accepting.take()


async def test_coming_back_ends_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "FIRST_REST_SECONDS", 60.0)
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as failing:
        await alice.run(branches(1))
        await failing.fail(await failing.take(), ComputeError("no").problem)
        await failing.connection.close()
        await failing.connect()
        (info,) = (await alice.call(m.ListProviders())).providers
        assert info.connected
        assert "after 1 failures in a row" in info.resting


async def test_a_task_that_fails_three_times_fails_its_graph_with_the_providers_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "FIRST_REST_SECONDS", 0.01)
    problem = ComputeError("MatMul: dimension mismatch").problem
    async with (
        serving(tmp_path) as served,
        served.requester() as alice,
        served.provider("a") as a,
        served.provider("b") as b,
        served.provider("c") as c,
    ):
        graph_id = await alice.run(branches(1))
        tried = []
        for _ in range(3):
            provider, task = await first_to_take(a, b, c)
            tried.append(provider.name)
            await provider.fail(task, problem)
        assert sorted(tried) == ["a", "b", "c"]
        failed = await alice.until_state(graph_id, "failed")
        assert "dimension mismatch" in failed.problem.message
        fetched = await alice.call(m.Fetch(graph_id=graph_id, names=("branch_0",)))
        assert fetched.values[0].problem.code == "graph_failed"
        await alice.call(m.Execute(graph_id=graph_id))
        for provider in (a, b, c):
            provider.keep_working()
        await alice.until_state(graph_id, "done")


async def first_to_take(*providers: FakeProvider) -> tuple[FakeProvider, m.Task]:
    """Whichever of them is given a task next."""
    taking = {asyncio.create_task(provider.take()): provider for provider in providers}
    done, others = await asyncio.wait(taking, return_when=asyncio.FIRST_COMPLETED)
    for other in others:
        other.cancel()
    (took,) = done
    return taking[took], took.result()


async def test_a_wrong_result_counts_as_a_failure(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        graph_id = await alice.run(branches(1))
        task = await provider.take()
        wrong = await provider.output(task.outputs[0].name, np.zeros((3, 3), np.float32))
        assert not (await provider.deliver(task, (wrong,))).accepted
        provider.keep_working()
        await alice.until_state(graph_id, "done")
        (value,) = await alice.fetch(graph_id, "branch_0")
        np.testing.assert_allclose(value, expected(0), rtol=1e-5)


async def test_a_report_that_names_a_missing_blob_takes_nothing_in_and_may_be_sent_again(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider(slots=2) as provider:
        graph_id = await alice.run(branches(3))
        good, bad, back = [await provider.take() for _ in range(3)]
        ghost = m.Output(name=bad.outputs[0].name, ref=Blob("1" * 64, 999))
        results = [result(good, await provider.compute(good)), result(bad, (ghost,))]
        told = await provider.report(done=tuple(results), returned=(held(back),))
        assert (told.accepted, told.missing) == (0, (ghost.ref.sha,))
        assert (await alice.call(m.GetGraph(graph_id=graph_id))).tasks_running == 3
        results[1] = result(bad, await provider.compute(bad))
        accepted = [
            (await provider.report(done=tuple(results), returned=(held(back),))).accepted for _ in range(2)
        ]
        assert accepted == [2, 0]
        async with served.provider("other") as other:
            assert (await other.take()).task_id == back.task_id


async def test_nothing_is_lost_while_the_database_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sweeper, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr("ravsock.server.auth.REMEMBER_SECONDS", 0.0)

    def gone(*_: object, **__: object) -> None:
        raise OperationalError("connect", None, ConnectionError("no route to host"))

    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        graph_id = await alice.run(branches(8))
        task = await provider.take()
        outputs = await provider.compute(task)
        with monkeypatch.context() as outage:
            outage.setattr(served.store._engine, "connect", gone)
            await alice.until(lambda info: "database does not answer" in info.waiting)
            for _ in range(20):
                with pytest.raises(UnreachableError, match="database"):
                    await provider.deliver(task, outputs)
            assert await provider.connection.call(m.Beat(holding=(held(task),)))
            status, body = await health(served.url)
            assert (status, "database does not answer" in body) == (503, True)
        assert (await provider.deliver(task, outputs)).accepted
        provider.keep_working()
        await alice.until_state(graph_id, "done")
        assert await health(served.url) == (200, '{"status":"ok"}')
    assert sum(record.levelname == "ERROR" for record in caplog.records) < 8


async def health(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/api/health") as response:
        return response.status, await response.text()


async def test_a_clock_that_jumps_ends_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "SWEEP_SECONDS", 0.05)
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        graph_id = await alice.run(branches(1))
        task = await provider.take()
        real = time.time
        for jump in (86_400.0, -86_400.0):
            (before,) = served.store.held_by()
            monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
            async with asyncio.timeout(10):
                while (after := served.store.held_by()[0]).deadline == before.deadline:
                    await asyncio.sleep(0.02)
            moved = jump if jump > 0 else 2 * jump
            assert after.deadline - before.deadline == pytest.approx(moved, abs=1.0)
            assert after.attempt == task.attempt
        assert (await provider.work(task)).accepted
        await alice.until_state(graph_id, "done")
        monkeypatch.setattr(time, "time", real)
        clock.follow(clock.jump())


async def test_a_silent_provider_loses_its_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(sweeper, "SWEEP_SECONDS", 0.1)
    async with serving(tmp_path) as served, served.requester() as alice, served.provider("silent") as silent:
        await alice.run(branches(1))
        task = await silent.take()
        await asyncio.wait_for(silent.connection.closed.wait(), 10)
        async with served.provider("speaks") as speaks:
            again = await speaks.take()
            assert (again.task_id, again.attempt) == (task.task_id, task.attempt + 1)


async def test_an_attempt_out_of_time_is_recalled_and_given_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "MIN_LEASE_SECONDS", 0.3)
    monkeypatch.setattr(sweeper, "SWEEP_SECONDS", 0.1)
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        graph_id = await alice.run(branches(1))
        first = await provider.take()
        second = await provider.take()
        assert second.attempt == first.attempt + 1
        assert second.lease_seconds > first.lease_seconds
        assert held(first) in provider.recalled
        assert (await provider.work(second)).accepted
        await alice.until_state(graph_id, "done")


async def test_a_beat_tells_what_to_drop_and_what_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ravsock.server.work.LOST_BEATS", 0.0)
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        await alice.run(branches(1))
        task = await provider.take()
        unknown = m.HeldTask(task_id=task.task_id, attempt=task.attempt + 5)
        beaten = await provider.connection.call(m.Beat(holding=(held(task), unknown)))
        assert beaten.drop == (unknown,)
        await provider.connection.call(m.Beat(holding=()))
        again = await provider.take()
        assert again.attempt == task.attempt + 1


async def test_a_provider_has_at_most_one_batch_more_than_slots(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider(slots=2) as provider:
        await alice.run(branches(20))
        tasks = [await provider.take() for _ in range(2 + placement.PREFETCH)]
        await provider.connection.call(m.Beat(holding=tuple(held(task) for task in tasks)))
        assert len(provider.batches) == 2 + placement.PREFETCH
        assert sum(map(len, provider.batches)) < 20, "a share is left for others"
        first = provider.batches[0]
        done = [result(task, await provider.compute(task)) for task in first]
        assert (await provider.report(done=tuple(done))).accepted == len(first)
        while len(provider.batches) == 2 + placement.PREFETCH:
            await provider.take()


async def test_a_coordinator_started_again_goes_on_where_it_was(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        port = int(served.url.rsplit(":", 1)[1])
        requester, token = served.token("requester"), served.token("provider")
        async with (
            served.requester(requester) as alice,
            served.provider("one", token, gflops=1e-7) as provider,
        ):
            graph_id = await alice.run(loop(40))
            while "iterations" not in (task := await provider.take()).label:
                await provider.work(task)
            await provider.work(task)
            task = await provider.take()
            outputs = await provider.compute(task)
            steps = (await alice.call(m.GetGraph(graph_id=graph_id))).steps_done
    async with serving(tmp_path, port=port) as served, served.requester(requester) as alice:
        info = await alice.call(m.Watch(graph_id=graph_id))
        assert (info.state, info.steps_done) == ("executing", steps)
        registered = await provider.connect(holding=(held(task),))
        assert registered.drop == ()
        assert (await provider.deliver(task, outputs)).accepted
        provider.keep_working()
        await alice.until_state(graph_id, "done")
        (total,) = await alice.fetch(graph_id, "total")
        np.testing.assert_array_equal(total, np.full(4, 40.0, np.float32))
        await provider.close()


async def test_what_providers_held_that_do_not_come_back_is_given_to_others_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(deadlines, "GRACE_SECONDS", 0.5)
    async with serving(tmp_path) as served:
        requester = served.token("requester")
        async with served.requester(requester) as alice, served.provider("gone") as gone:
            graph_id = await alice.run(branches(1))
            task = await gone.take()
            served.coordinator.prepare_to_stop()  # as when it is killed: nothing is released
    started = time.monotonic()
    async with (
        serving(tmp_path) as served,
        served.requester(requester) as alice,
        served.provider("other") as other,
    ):
        again = await other.take()
        assert time.monotonic() - started >= deadlines.GRACE_SECONDS
        assert (again.task_id, again.attempt) == (task.task_id, task.attempt + 1)
        await other.work(again)
        await alice.call(m.Watch(graph_id=graph_id))
        assert (await alice.call(m.GetGraph(graph_id=graph_id))).state == "done"
