"""Two providers compute chunks of a loop together, over real sockets; then one of them fails, lies or leaves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import sqlalchemy as sa
from coordinators import Requester, Served, loop, serving
from gangs import PartProvider, add_gangs, frame

from ravop.errors import ComputeError, MessageError
from ravop.protocol import messages as m
from ravop.protocol.exchange import GONE, PATH, PIECE
from ravop.protocol.tensors import Blob
from ravop.transport.exchange import GoneError
from ravsock.core import teams
from ravsock.server import gangs
from ravsock.server.exchange import INVALID
from ravsock.store.schema import tasks

LENGTH = 40
SLOW = 1e-7
"""GFLOPS that make an iteration seem to take a tenth of a second, and chunks as short as a few iterations."""


@pytest.fixture(autouse=True)
def planned_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    add_gangs(monkeypatch, seconds=1e-10)
    monkeypatch.setattr(teams, "TRY_ALONE_SECONDS", 0.0)


@asynccontextmanager
async def provider(served: Served, name: str, token: str | None = None) -> AsyncIterator[PartProvider]:
    made = PartProvider(served.url, token or served.token("provider", name), name, gflops=SLOW)
    try:
        await made.connect()
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def together(path: Path) -> AsyncIterator[tuple[Served, Requester, PartProvider, PartProvider]]:
    async with (
        serving(path) as served,
        served.requester() as alice,
        provider(served, "one") as one,
        provider(served, "two") as two,
    ):
        yield served, alice, one, two


async def parts(*providers: PartProvider) -> list[m.Task]:
    """The gang's next tasks, by provider; what comes before them is computed."""

    async def part(provider: PartProvider) -> m.Task:
        while (task := await provider.take()).part is None:
            await provider.work(task)
        return task

    return list(await asyncio.gather(*map(part, providers)))


def held(task: m.Task) -> m.HeldTask:
    return m.HeldTask(task_id=task.task_id, attempt=task.attempt)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def finish(alice: Requester, graph_id: str, *providers: PartProvider) -> None:
    """These compute the rest, and the result is right."""
    for provider in providers:
        provider.keep_working()
    await alice.until_state(graph_id, "done")
    total, first, last = await alice.fetch(graph_id, "total", "sum_1", f"sum_{LENGTH}")
    np.testing.assert_array_equal(total, np.full(4, LENGTH, np.float32))
    assert (first, last) == (4.0, 4.0 * LENGTH)


async def test_two_providers_compute_a_loop_together(tmp_path: Path) -> None:
    async with together(tmp_path) as (_, alice, one, two):
        await finish(alice, await alice.run(loop(LENGTH)), one, two)
    mine, its = ([task.part for task in p.done if task.part] for p in (one, two))
    assert len(mine) == len(its) >= 2, "chunk after chunk"
    assert [(a.start, a.stop) for a in mine] == [(b.start, b.stop) for b in its]
    assert {(a.rank, b.rank) for a, b in zip(mine, its, strict=True)} in ({(0, 1)}, {(1, 0)}), "ranks stay"


async def test_both_are_busy_and_answered_when_the_chunk_is_recorded(tmp_path: Path) -> None:
    async with together(tmp_path) as (_, alice, one, two):
        graph_id = await alice.run(loop(LENGTH))
        first, second = await parts(one, two)
        listed = await alice.call(m.ListProviders())
        assert [info.busy for info in listed.providers] == [1, 1]
        assert (await alice.call(m.GetGraph(graph_id=graph_id))).tasks_running == 1
        mine, its = await asyncio.gather(one.compute(first), two.compute(second))
        waiting = asyncio.create_task(one.deliver(first, mine))
        again = asyncio.create_task(one.deliver(first, mine))
        assert not (await asyncio.wait({waiting, again}, timeout=0.3))[0], "half of a chunk is none"
        assert (await two.deliver(second, its)).accepted
        assert (await waiting).accepted
        assert (await again).accepted, "a report that is sent again does no harm"
        assert not (await one.deliver(first, mine)).accepted
        await finish(alice, graph_id, one, two)


async def test_who_leaves_breaks_the_gang_off_and_the_other_goes_on_alone(tmp_path: Path) -> None:
    async with together(tmp_path) as (served, alice, one, two):
        graph_id = await alice.run(loop(LENGTH))
        first, second = await parts(one, two)
        mine, its = await asyncio.gather(one.join(first), two.join(second))
        await two.close()
        with pytest.raises(GoneError):
            await mine.receive()
        await mine.close(done=False)
        await its.close(done=False)
        await until(lambda: one.recalled)
        assert one.recalled == [held(first)]
        await finish(alice, graph_id, one)
        assert not blamed(served)


async def test_one_that_joins_later_takes_part_in_the_next_chunk(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, provider(served, "one") as one:
        graph_id = await alice.run(loop(LENGTH))
        while "iterations" not in (alone := await one.take()).label:
            await one.work(alone)
        assert alone.part is None
        async with provider(served, "two") as two:
            await one.work(alone)
            assert all(task.part for task in await parts(one, two)), "no gang"
            await two.close()
            await finish(alice, graph_id, one)


async def test_the_rank_that_fails_is_blamed_and_the_chunk_goes_to_one(tmp_path: Path) -> None:
    async with together(tmp_path) as (served, alice, one, two):
        graph_id = await alice.run(loop(LENGTH))
        first, second = await parts(one, two)
        assert second.part is not None
        failed = m.TaskFailure(
            task_id=second.task_id, attempt=second.attempt, problem=ComputeError("no").problem, node=1,
            subgraph=sorted(m.models_needed(second))[0],
        )  # fmt: skip
        await two.connection.call(m.Report(failed=(failed,)))
        await until(lambda: one.recalled)
        assert blamed(served) == ["two"]
        alone = await one.take()
        assert (alone.task_id, alone.part) == (first.task_id, None)
        await one.work(alone)
        await finish(alice, graph_id, one, two)


async def test_who_hears_nonsense_is_not_blamed_and_one_gets_the_chunk_in_the_end(tmp_path: Path) -> None:
    async with together(tmp_path) as (served, alice, one, two):
        graph_id = await alice.run(loop(LENGTH))
        for _ in range(teams.MAX_TRIES):
            first, _ = await parts(one, two)
            await one.fail(first, MessageError("rank 1 sent a message of another length").problem)
        await finish(alice, graph_id, one, two)
        assert not blamed(served)
        assert any(task.part is None for task in one.done + two.done if task.task_id == first.task_id)


async def test_a_wrong_output_is_blamed_on_its_rank(tmp_path: Path) -> None:
    async with together(tmp_path) as (served, alice, one, two):
        graph_id = await alice.run(loop(LENGTH))
        first, second = await parts(one, two)
        mine, _ = await asyncio.gather(one.compute(first), two.compute(second))
        wrong = (await two.output(second.outputs[0].name, np.zeros((2, 2, 2), np.float32)),)
        waiting = asyncio.create_task(one.deliver(first, mine))
        assert not (await two.deliver(second, wrong)).accepted
        assert not (await waiting).accepted
        assert blamed(served) == ["two"]
        await finish(alice, graph_id, one, two)


async def test_a_rank_whose_blob_is_missing_uploads_it_while_the_other_waits(tmp_path: Path) -> None:
    async with together(tmp_path) as (_, alice, one, two):
        graph_id = await alice.run(loop(LENGTH))
        first, second = await parts(one, two)
        mine, its = await asyncio.gather(one.compute(first), two.compute(second))
        lost = (m.Output(name=its[0].name, ref=Blob("0" * 64, 100)),)
        waiting = asyncio.create_task(one.deliver(first, mine))
        assert (await two.deliver(second, lost)).missing == ("0" * 64,)
        assert not waiting.done()
        assert (await two.deliver(second, its)).accepted
        assert (await waiting).accepted
        await finish(alice, graph_id, one, two)


async def test_a_part_given_back_leaves_the_chunk_to_others(tmp_path: Path) -> None:
    async with together(tmp_path) as (served, alice, one, two):
        graph_id = await alice.run(loop(LENGTH))
        _, second = await parts(one, two)
        await two.hand_back(second)
        await until(lambda: one.recalled)
        await finish(alice, graph_id, one, two)
        assert not blamed(served)


async def test_a_cancelled_graph_ends_the_exchange_of_all(tmp_path: Path) -> None:
    async with together(tmp_path) as (_, alice, one, two):
        graph_id = await alice.run(loop(LENGTH))
        first, second = await parts(one, two)
        lines = await asyncio.gather(one.join(first), two.join(second))
        await alice.call(m.Cancel(graph_id=graph_id))
        for line in lines:
            with pytest.raises(GoneError):
                await line.receive()
            await line.close(done=False)
        await until(lambda: one.recalled and two.recalled)


async def test_after_a_restart_gangs_are_void(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        tokens = [served.token("provider", name) for name in ("one", "two")]
        requester = served.token("requester")
        async with (
            served.requester(requester) as alice,
            provider(served, "one", tokens[0]) as one,
            provider(served, "two", tokens[1]) as two,
        ):
            graph_id = await alice.run(loop(LENGTH))
            given = await parts(one, two)
            served.coordinator.prepare_to_stop()  # as if it was killed: what was leased stays leased
    async with serving(tmp_path) as served, served.requester(requester) as alice:
        await alice.call(m.Watch(graph_id=graph_id))
        one, two = (
            PartProvider(served.url, t, n, gflops=SLOW) for t, n in zip(tokens, ("one", "two"), strict=True)
        )
        for returning, task in zip((one, two), given, strict=True):
            registered = await returning.connect(holding=(held(task),))
            assert registered.drop == (held(task),)
            returning.keep_working()
        await finish(alice, graph_id)
        await one.close()
        await two.close()


async def test_one_that_never_comes_to_the_exchange_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gangs, "JOIN_SECONDS", 0.2)
    async with together(tmp_path) as (served, alice, one, two):
        graph_id = await alice.run(loop(LENGTH))
        first, _ = await parts(one, two)
        with pytest.raises(GoneError):
            await one.join(first)
        await finish(alice, graph_id, one, two)
        assert not blamed(served)


async def test_only_ranks_of_the_gang_may_exchange(tmp_path: Path) -> None:
    async with together(tmp_path) as (served, alice, one, two), aiohttp.ClientSession() as http:
        await alice.run(loop(LENGTH))
        first, second = await parts(one, two)
        assert first.part is not None

        async def refused(token: str, **query: object) -> int | None:
            asked = {"task": first.task_id, "attempt": first.attempt, "rank": first.part.rank} | query
            async with http.ws_connect(served.url + PATH, headers=bearer(token), params=asked) as socket:
                assert (await socket.receive()).type == aiohttp.WSMsgType.CLOSE
                return socket.close_code

        assert await refused("nonsense") == INVALID
        assert await refused(served.token("requester")) == INVALID
        assert await refused(served.token("provider")) == INVALID
        assert await refused(two.token) == INVALID
        assert await refused(one.token, rank=1 - first.part.rank) == INVALID
        assert await refused(one.token, rank=7) == INVALID
        assert await refused(one.token, task="x") == INVALID
        assert await refused(one.token, attempt=99) == GONE
        async with http.get(served.url + PATH, headers=bearer(one.token)) as answer:
            assert answer.status == 426
        lines = await asyncio.gather(one.join(first), two.join(second))
        assert await refused(one.token) == INVALID, "one connection of each rank"
        for line in lines:
            await line.close(done=False)


@pytest.mark.parametrize(
    "sent", [frame([7], b"x"), b"short", frame([0], b"x" * (PIECE + 1)), "text"], ids=["stranger", "short", "long", "text"]
)  # fmt: skip
async def test_what_is_no_frame_ends_the_gang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes | str
) -> None:
    monkeypatch.setattr(gangs, "LOST_SECONDS", 0.0)
    async with together(tmp_path) as (_, alice, one, two):
        graph_id = await alice.run(loop(LENGTH))
        first, second = await parts(one, two)
        mine, its = await asyncio.gather(one.join(first), two.join(second))
        socket = mine._socket
        assert socket is not None
        await (socket.send_str(sent) if isinstance(sent, str) else socket.send_bytes(sent))
        with pytest.raises(GoneError):
            await its.receive()
        await mine.close(done=False)
        await its.close(done=False)
        await finish(alice, graph_id, one, two)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def blamed(served: Served) -> list[str]:
    """Whom the tasks failed on that are not done."""
    with served.store.read() as connection:
        return list(connection.execute(sa.select(tasks.c.failed_on).where(tasks.c.failed_on != "")).scalars())
