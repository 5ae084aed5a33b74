"""Many connections at one coordinator: when it runs out of open files or a token out of its share, what it asks the
database of them, and whether ends are noticed.
"""

import asyncio
import json
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from coordinators import serving
from processes import Lab

from ravop.errors import TokenError, UnreachableError
from ravop.protocol import messages as m
from ravop.transport import ControlConnection
from ravsock.core import deadlines
from ravsock.server import sweeper
from ravsock.server.auth import Authenticator
from ravsock.server.data import open_store

OPEN_FILES = 160
FEW_FILES = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({OPEN_FILES}, {OPEN_FILES}))
from ravsock.cli import main
main()
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


@asynccontextmanager
async def connected(url: str, token: str) -> AsyncIterator[ControlConnection]:
    async def ignore(_: m.Message) -> m.Message:
        return m.Done()

    hello = m.Hello(token=token, role="requester", software="test")
    connection = ControlConnection(url, hello, ignore, m.ToRequester)
    await connection.connect()
    try:
        yield connection
    finally:
        await connection.close()


def health(url: str) -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(f"{url}/api/health", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not bound the open files of a process")
async def test_who_is_connected_goes_on_when_there_are_no_more_files_for_others(lab: Lab) -> None:
    place = ["serve", "--port", "0", "--data", str(lab.data)]
    coordinator = lab.start([sys.executable, "-c", FEW_FILES, *place])
    url = coordinator.wait_for(r"^http://.*$").group()
    host, port = url.removeprefix("http://").split(":")
    others = AsyncExitStack()
    client = await others.enter_async_context(connected(url, lab.token("requester", "alice")))
    with ExitStack() as crowd:
        for count in (
            OPEN_FILES // 2,
            OPEN_FILES,
        ):  # so that others can be told why; more than there are files
            for _ in range(count):
                crowd.enter_context(socket.create_connection((host, int(port)), timeout=10))
            coordinator.wait_for("connections are open, and new ones are refused")
            if count < OPEN_FILES:
                status, problem = await asyncio.to_thread(health, url)
                assert (status, problem["code"]) == (503, "unreachable")
                assert "no room for more connections" in problem["message"]
            with pytest.raises(UnreachableError):
                await others.enter_async_context(connected(url, "whoever"))
            assert isinstance(await client.call(m.ListGraphs()), m.Graphs)
    while await asyncio.to_thread(health, url) != (200, {"status": "ok"}):
        pass
    assert isinstance(await client.call(m.ListGraphs()), m.Graphs)
    await others.aclose()
    coordinator.terminate()
    assert coordinator.end() == 0
    assert "Traceback" not in coordinator.output
    told = [line for line in coordinator.output.splitlines() if "connections are open" in line]
    assert ["well again" in line for line in told] == [False, True]


async def test_a_token_has_a_share_of_the_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ravsock.server.sockets.MAX_OF_TOKEN", 2)
    async with serving(tmp_path) as served, AsyncExitStack() as others:

        async def connect(token: str) -> ControlConnection:
            return await others.enter_async_context(connected(served.url, token))

        token = served.token("requester", "alice")
        first, _ = [await connect(token) for _ in range(2)]
        with pytest.raises(UnreachableError, match="'alice' has too many connections"):
            await connect(token)
        await connect(served.token("requester", "bob"))
        await first.close()
        async with asyncio.timeout(10):
            while True:  # until the coordinator has noticed
                with suppress(UnreachableError):
                    await connect(token)
                    break


async def test_nobody_was_silent_while_the_coordinator_did_not_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(deadlines, "SILENT_SECONDS", 0.5)
    async with serving(tmp_path) as served, served.provider() as provider:
        began = time.monotonic()
        while time.monotonic() - began < 1.0:
            pass  # the coordinator, on the same loop, does not listen
        for _ in range(5):
            assert isinstance(await provider.connection.call(m.Beat()), m.Beaten)


async def test_tokens_that_were_seen_cost_one_query_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path, None)
    store.migrate()
    tokens = [store.create_token("provider", f"provider {number}", 0.0) for number in range(20)]
    auth = Authenticator(store)
    for token in tokens:
        await auth.authenticate(token, "provider")
    asked: list[str] = []
    sa.event.listen(store._engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    monkeypatch.setattr("ravsock.server.auth.REMEMBER_SECONDS", 0.0)
    await asyncio.gather(*(auth.authenticate(token, "provider") for token in tokens))
    assert sum(text.startswith("SELECT") for text in asked) == 1
    store.revoke_token("provider 3", 1.0)
    found = await asyncio.gather(*(auth.authenticate(t, "provider") for t in tokens), return_exceptions=True)
    assert [number for number, who in enumerate(found) if isinstance(who, TokenError)] == [3]
    store.close()
