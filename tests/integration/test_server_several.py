"""Two coordinators on one PostgreSQL database, over real sockets: providers and requesters on either, news by Redis, by
LISTEN or by nothing, clocks that differ, a newer program.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from coordinators import FakeProvider, Requester, Served, branches, expected, loop, serving
from databases import postgresql_server, schema
from gangs import PartProvider, add_gangs
from processes import Lab, free_port
from redis_server import redis_server

from ravop.errors import ArgumentError, ForbiddenBlobError
from ravop.protocol import messages as m
from ravop.protocol.tensors import sha256
from ravop.transport import BlobClient
from ravsock.core import deadlines, teams
from ravsock.core.clock import Clock
from ravsock.server import clock, coordinator, elsewhere, news, sharing
from ravsock.server.health import Health
from ravsock.server.peers import Peers
from ravsock.server.wires import make_wire
from ravsock.store import FolderBlobs
from ravsock.store.schema import tasks

LARGE = 160
"""Rows and columns of values that travel as blobs."""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.fixture
def database(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(deadlines, "HEARD_SECONDS", 0.1)
    with schema(postgresql) as url:
        yield url


@asynccontextmanager
async def two(folder: Path, database: str, **options: Any) -> AsyncIterator[tuple[Served, Served]]:
    """Both know of each other."""
    async with AsyncExitStack() as stack:
        both = [
            await stack.enter_async_context(serving(folder, database=database, **options)) for _ in range(2)
        ]
        await until(lambda: all(others(served) == 1 for served in both))
        yield both[0], both[1]


def others(served: Served) -> int:
    return len(served.coordinator._peers.others)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def status(url: str, path: str) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/api/{path}") as answer:
        return answer.status, await answer.json()


async def results_are_right(alice: Requester, graph_id: str, count: int, size: int = 8) -> None:
    for index, value in enumerate(await alice.fetch(graph_id, *(f"branch_{n}" for n in range(count)))):
        np.testing.assert_allclose(value, expected(index, size), rtol=1e-5)


@pytest.mark.parametrize("wire", ["listen", "redis", "nothing"])
async def test_work_of_one_is_done_at_the_other_and_seen_by_both(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wire: str
) -> None:
    async with AsyncExitStack() as stack:
        options: dict[str, Any] = {}
        if wire == "redis":
            options["redis_url"], _ = stack.enter_context(redis_server(tmp_path))
        if wire == "nothing":
            monkeypatch.setattr(coordinator, "make_wire", lambda *_: None)
        if wire != "nothing":  # then nobody looks by himself before the test is over
            monkeypatch.setattr(news, "POLL_SECONDS", 3600.0)
            monkeypatch.setattr(news, "POLL_ALONE_SECONDS", 3600.0)
        here, there = await stack.enter_async_context(two(tmp_path, database, **options))
        if wire != "nothing":
            await until(lambda: here.coordinator._news._connected and there.coordinator._news._connected)
        alice = await stack.enter_async_context(here.requester())
        provider = await stack.enter_async_context(there.provider("far"))
        provider.blobs = BlobClient(here.url, provider.token)  # a load balancer sends it where it likes
        stack.push_async_callback(provider.blobs.close)
        with pytest.raises(ForbiddenBlobError):
            await provider.blobs.put(b"unasked", sha256(b"unasked"))
        provider.keep_working()
        graph = branches(6, LARGE)
        graph_id = await alice.run(graph)
        seen = await alice.until(lambda info: info.state == "executing")
        assert seen.providers == 1
        await alice.until_state(graph_id, "done")
        await results_are_right(alice, graph_id, 6, LARGE)
        (listed,) = (await alice.call(m.ListProviders())).providers
        assert (listed.connected, listed.name, listed.tasks_done) == (True, "far", len(provider.done))


async def test_providers_of_both_get_work_and_no_task_is_computed_twice(
    database: str, tmp_path: Path
) -> None:
    async with (
        two(tmp_path, database) as (here, there),
        here.requester() as alice,
        here.provider("one") as one,
        there.provider("two") as other,
    ):
        graph_id = await alice.run(branches(40))
        for provider in (one, other):
            provider.keep_working()
        await alice.until_state(graph_id, "done")
        await results_are_right(alice, graph_id, 40)
        mine, its = ({task.task_id for task in provider.done} for provider in (one, other))
        assert mine
        assert its
        assert not mine & its


async def test_what_is_cancelled_at_one_is_recalled_at_the_other(database: str, tmp_path: Path) -> None:
    async with two(tmp_path, database) as (here, there), here.requester() as alice, there.provider() as far:
        graph_id = await alice.run(branches(1))
        task = await far.take()
        await alice.call(m.Cancel(graph_id=graph_id))
        await until(lambda: far.recalled)
        assert far.recalled == [m.HeldTask(task_id=task.task_id, attempt=task.attempt)]


async def test_a_recall_that_was_lost_is_found_by_looking(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ravsock.server.orphans.COMPARE_SECONDS", 0.0)
    monkeypatch.setattr(coordinator, "make_wire", lambda *_: None)
    async with two(tmp_path, database) as (here, there), here.requester() as alice, there.provider() as far:
        graph_id = await alice.run(branches(1))
        await far.take()
        await alice.call(m.Cancel(graph_id=graph_id))
        await until(lambda: far.recalled)


async def test_a_provider_that_comes_to_the_other_one_keeps_what_it_has(
    database: str, tmp_path: Path
) -> None:
    async with two(tmp_path, database) as (here, there), here.requester() as alice, there.provider() as far:
        graph_id = await alice.run(branches(1))
        task = await far.take()
        holding = (m.HeldTask(task_id=task.task_id, attempt=task.attempt),)
        again = FakeProvider(here.url, far.token, far.name)  # the other connection seems alive
        assert (await again.connect(holding)).drop == ()
        await far.close()
        again.batches = far.batches
        assert (await again.work(task)).accepted
        await alice.until_state(graph_id, "done")
        await again.close()


async def test_ranks_reach_their_gang_through_the_other_coordinator(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_gangs(monkeypatch, seconds=1e-10)
    monkeypatch.setattr(teams, "TRY_ALONE_SECONDS", 0.0)
    async with two(tmp_path, database) as (here, there), here.requester() as alice:
        ranks = [PartProvider(here.url, here.token("provider"), name, gflops=1e-7) for name in ("p", "q")]
        for rank in ranks:
            await rank.connect()
            await rank.blobs.close()
            rank.url, rank.blobs = there.url, BlobClient(there.url, rank.token)
            rank.keep_working()
        graph_id = await alice.run(loop(40))
        await alice.until_state(graph_id, "done")
        (total,) = await alice.fetch(graph_id, "total")
        np.testing.assert_array_equal(total, np.full(4, 40, np.float32))
        assert all(any(task.part for task in rank.done) for rank in ranks)
        for rank in ranks:
            await rank.close()


async def test_all_go_by_the_clock_of_the_database(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = 3600.0
    monkeypatch.setattr(clock, "_clock", Clock(time.time() + hour, time.monotonic()))
    async with (
        serving(tmp_path, database=database) as served,
        served.requester() as alice,
        served.provider() as provider,
    ):
        await alice.run(branches(1))
        await provider.take()
        with served.store.read() as connection:
            age, left = connection.execute(
                sa.select(
                    sa.func.extract("epoch", sa.func.clock_timestamp()) - tasks.c.leased,
                    tasks.c.deadline - tasks.c.leased,
                ).where(tasks.c.state == "leased")
            ).one()
        assert -1 < age < 20
        assert left < hour
        beat = served.store.beat
        monkeypatch.setattr(
            served.store, "beat", lambda *it: msgspec.structs.replace(p := beat(*it), now=p.now + hour)
        )
        await until(lambda: clock.now() - time.time() > hour - 20)
        (held,) = served.store.held_by()
        assert abs(held.deadline - clock.now() - left) < 20, "the database's clock jumps, and leases with it"


async def test_a_coordinator_whose_blobs_lie_elsewhere_is_refused(database: str, tmp_path: Path) -> None:
    folder, same, other = (tmp_path / name for name in ("blobs", "same", "other"))
    async with serving(tmp_path, database=database) as first:

        def join(blobs: Path) -> Peers:
            peers = Peers(first.store, FolderBlobs(blobs), Health(), "http://b:1", lambda: None)
            peers.join()
            return peers

        with pytest.raises(ArgumentError, match="keep their blobs elsewhere") as refused:
            join(other)
        assert first.url in str(refused.value)
        (same / "incoming").mkdir(parents=True)
        shutil.copy(folder / "identity", same)  # as where machines see a folder at different places
        assert len(join(same).others) == 1
        await until(lambda: others(first) == 1)
        assert not first.coordinator.health.notes
        first.store.beat("moved", "http://c:1", "ravenverse 1", False, "another folder")
        await until(lambda: first.coordinator.health.notes)
        assert "http://c:1" in first.coordinator.health.notes[0]


async def test_a_database_that_answers_late_is_no_jump_of_the_clock(database: str, tmp_path: Path) -> None:
    async with serving(tmp_path, database=database) as served:
        peers = Peers(served.store, FolderBlobs(tmp_path / "blobs"), Health(), "http://b:1", lambda: None)
        peers._keep_time(2.4, 5.0)
        assert peers.jump() == 0.0
        peers._keep_time(2.6, 5.0)
        assert peers.jump() == 2.6


async def test_an_older_program_stops_when_a_newer_one_has_changed_the_database(
    database: str, tmp_path: Path
) -> None:
    async with serving(tmp_path, database=database) as served:
        ended = asyncio.Event()
        served.coordinator._on_outdated = ended.set
        with served.store.write() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        async with asyncio.timeout(20):
            await ended.wait()
        code, told = await status(served.url, "ready")
        assert code == 503
        assert "newer version" in told["problem"]


async def test_redis_may_end_and_come_back_in_the_middle(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "RETRY_SECONDS", 0.1)
    port = free_port()
    with redis_server(tmp_path, port) as (url, process):
        async with (
            two(tmp_path, database, redis_url=url) as (here, there),
            here.requester() as alice,
            there.provider() as far,
        ):
            far.keep_working()
            process.kill()
            await until(lambda: here.coordinator._peers._health.notes)
            graph_id = await alice.run(branches(2))
            await alice.until_state(graph_id, "done")
            code, told = await status(here.url, "health")
            assert (code, told["status"]) == (200, "degraded")
            assert "Redis does not answer" in told["notes"][0]
            with redis_server(tmp_path, port):
                await until(lambda: not here.coordinator._peers._health.notes)


@pytest.mark.parametrize(
    ("given", "words"),
    [("http://127.0.0.1", "not a URL of Redis"), ("redis://host:port", "not a URL of Redis")],
)
def test_a_wrong_url_of_redis_is_told(store: Any, given: str, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make_wire(store, given)


@pytest.fixture
def store(database: str) -> Iterator[Any]:
    from ravsock.store import Store

    made = Store(database)
    made.migrate()
    yield made
    made.close()


def test_letters_of_strangers_are_bounded_and_typed() -> None:
    for data in (b"{}", b"x" * 9000, b'{"sender":"x","items":[{"type":"Ready"},{"type":"Drop"}]}'):
        with pytest.raises(msgspec.DecodeError):
            news.decode_letter(data)


def test_a_coordinator_drains_before_it_ends(database: str, tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.database = database
    try:
        process = lab.another("--drain-seconds", "3600")
        url = process.wait_for(r"^http://\S+$")[0]
        assert asyncio.run(status(url, "ready")) == (200, {"status": "ok"})
        process.terminate()
        process.wait_for("draining")
        assert asyncio.run(status(url, "ready")) == (503, {"status": "draining"})
        assert asyncio.run(status(url, "health")) == (200, {"status": "ok"})
        process.terminate()  # the second time, at once
        assert process.end() == 0
        assert "Traceback" not in process.output
    finally:
        lab.close()


async def test_few_tasks_go_to_idle_providers_of_both_before_anyone_gets_two(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "LEAVE_SECONDS", 30.0)  # however busy this machine is
    monkeypatch.setattr(elsewhere, "FRESH_SECONDS", 0.0)
    async with (
        two(tmp_path, database) as (here, there),
        here.requester() as alice,
        here.provider("one") as one,
        there.provider("two") as other,
    ):
        await until(lambda: here.coordinator._news._connected and there.coordinator._news._connected)
        await alice.run(branches(2))
        first, second = await one.take(), await other.take()
        assert first.task_id != second.task_id
