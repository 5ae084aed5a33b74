"""The client's connection against a real Socket.IO server that behaves, refuses, breaks off or is silent."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import older_protocol as old
import pytest
import socketio
from aiohttp import web

from ravop.errors import (
    ArgumentError,
    GraphStateError,
    MessageError,
    TokenError,
    UnreachableError,
    VersionError,
    WaitTimeoutError,
)
from ravop.protocol.messages import (
    EVENT,
    Cancel,
    Done,
    Execute,
    FromRequester,
    GraphInfo,
    Hello,
    Message,
    Refused,
    ToRequester,
    decode,
    encode,
)
from ravop.transport import ControlConnection

HELLO = Hello(token="secret", role="requester", software="ravenverse 9")
CALL = Cancel(graph_id="g1")
INFO = GraphInfo(
    graph_id="g1",
    name="g",
    state="executing",
    fraction=0.5,
    steps_done=1,
    steps_total=2,
    tasks_done=1,
    tasks_running=1,
    tasks_queued=0,
    providers=1,
    created=0.0,
)


@asynccontextmanager
async def serving(sio: socketio.AsyncServer) -> AsyncIterator[str]:
    app = web.Application()
    sio.attach(app)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await sio.shutdown()
        await runner.cleanup()


def server(answer: Any) -> socketio.AsyncServer:
    """A coordinator that accepts everybody and answers every call with `answer(message)`."""
    sio = socketio.AsyncServer(async_mode="aiohttp", ping_interval=5, ping_timeout=5)

    async def receive(sid: str, data: bytes) -> object:
        reply = answer(sid, decode(data, FromRequester))
        return await reply if asyncio.iscoroutine(reply) else reply

    sio.on("connect", lambda sid, environ, auth: None)
    sio.on(EVENT, receive)
    return sio


async def ignore(message: Message) -> Message:
    return Done()


@asynccontextmanager
async def connected(url: str, on_message: Any = ignore) -> AsyncIterator[ControlConnection]:
    connection = ControlConnection(url, HELLO, on_message, ToRequester)
    await connection.connect()
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_call_gets_its_acknowledgement_and_the_server_its_message() -> None:
    seen: list[Message] = []

    def answer(sid: str, message: Message) -> bytes:
        seen.append(message)
        return encode(Done())

    async with serving(server(answer)) as url, connected(url) as connection:
        assert await connection.call(CALL) == Done()
    assert seen == [CALL]
    assert connection.closed.is_set()


async def test_large_messages_pass_in_both_directions() -> None:
    reply = Refused(problem=GraphStateError("no", hint="x").problem)
    info = msgspec.structs.replace(INFO, metrics={f"metric_{i}": float(i) for i in range(250_000)})

    sio = server(lambda sid, message: encode(info))
    sio.eio.max_http_buffer_size = 9_000_000
    async with serving(sio) as url, connected(url) as connection:
        assert len(encode(info)) > 5_000_000
        assert await connection.call(CALL) == info
    assert reply.problem.code == "graph_state"


async def test_a_refused_call_raises_the_error_it_carries() -> None:
    problem = GraphStateError("the graph is done", expected="active", received="done").problem
    async with (
        serving(server(lambda *_: encode(Refused(problem=problem)))) as url,
        connected(url) as connection,
    ):
        with pytest.raises(GraphStateError) as caught:
            await connection.call(CALL)
    assert caught.value.problem == problem


async def test_events_reach_the_handler_and_are_acknowledged() -> None:
    heard: list[Message] = []

    async def on_message(message: Message) -> Message:
        heard.append(message)
        if len(heard) == 2:
            raise GraphStateError("enough")
        return Done()

    sio = server(lambda *_: encode(Done()))
    sids: list[str] = []
    sio.on("connect", lambda sid, environ, auth: sids.append(sid))
    async with serving(sio) as url, connected(url, on_message):
        first = await sio.call(EVENT, encode(INFO), to=sids[0])
        second = await sio.call(EVENT, encode(INFO), to=sids[0])
        third = await sio.call(EVENT, b"rubbish", to=sids[0])
    assert heard == [INFO, INFO]
    assert decode(first, Done) == Done()
    assert decode(second, Refused).problem.code == "graph_state"
    assert decode(third, Refused).problem.code == "message"


async def test_a_refused_connection_raises_the_problem() -> None:
    sio = socketio.AsyncServer(async_mode="aiohttp")
    problem = TokenError("this token was revoked", hint="ask for another").problem
    seen: list[object] = []

    async def connect(sid: str, environ: object, auth: object) -> None:
        seen.append(auth)
        raise socketio.exceptions.ConnectionRefusedError(problem.message, msgspec.to_builtins(problem))

    sio.on("connect", connect)
    async with serving(sio) as url:
        connection = ControlConnection(url, HELLO, ignore, ToRequester)
        with pytest.raises(TokenError, match="revoked") as caught:
            await connection.connect()
    assert caught.value.problem == problem
    assert seen == [msgspec.to_builtins(HELLO)]


def speaking(version: int) -> socketio.AsyncServer:
    """A coordinator that speaks one version, as it was before clients could try an older one."""
    sio = socketio.AsyncServer(async_mode="aiohttp", ping_interval=5, ping_timeout=5)

    async def connect(sid: str, environ: object, auth: dict[str, Any]) -> None:
        if auth["protocol"] != version:
            error = VersionError(
                "different", expected=f"version {version}", received=auth["protocol"], hint="install"
            )
            raise socketio.exceptions.ConnectionRefusedError("no", msgspec.to_builtins(error.problem))

    sio.on("connect", connect)
    return sio


async def test_a_coordinator_of_version_2_is_spoken_to_as_it_understands() -> None:
    seen: list[dict[str, Any]] = []

    async def receive(sid: str, data: bytes) -> bytes:
        seen.append(old.unpacked(data))
        acknowledged = await sio.call(EVENT, old.packed("Graphs", graphs=()), to=sid)
        assert old.unpacked(acknowledged) == {"t": "Done"}
        return old.packed("Done")

    sio = speaking(2)
    sio.on(EVENT, receive)
    async with serving(sio) as url, connected(url) as connection:
        assert connection.version == 2
        assert await connection.call(Execute(graph_id="g1", trace=f"00-{'a' * 32}-{'b' * 16}-01")) == Done()
    assert seen == [{"t": "Execute", "graph_id": "g1"}]


@pytest.mark.parametrize("version", [1, 4])
async def test_a_coordinator_of_no_common_version_is_told_of_with_what_it_said(version: int) -> None:
    async with serving(speaking(version)) as url:
        connection = ControlConnection(url, HELLO, ignore, ToRequester)
        with pytest.raises(VersionError, match="install") as caught:
            await connection.connect()
    problem = caught.value.problem
    assert problem.expected == "a coordinator that speaks version 2 to 3, as ravenverse 9 does"
    assert problem.received == f"one that speaks version {version}"


async def test_nothing_listening_is_told_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        connection = ControlConnection(
            f"http://127.0.0.1:{taken.getsockname()[1]}", HELLO, ignore, ToRequester
        )
        async with asyncio.timeout(3):
            with pytest.raises(UnreachableError, match="does not answer"):
                await connection.connect()


async def test_another_kind_of_server_is_no_coordinator() -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    connection = ControlConnection(f"http://127.0.0.1:{runner.addresses[0][1]}", HELLO, ignore, ToRequester)
    with pytest.raises(UnreachableError):
        await connection.connect()
    await runner.cleanup()


@pytest.mark.parametrize("url", ["127.0.0.1:9999", "ftp://host", "http://", ""])
async def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ArgumentError, match="URL"):
        ControlConnection(url, HELLO, ignore, ToRequester)


async def test_a_waiting_call_fails_when_the_line_breaks() -> None:
    sio = server(lambda sid, message: sio.disconnect(sid))
    async with serving(sio) as url, connected(url) as connection:
        with pytest.raises(UnreachableError, match="lost"):
            await connection.call(CALL)
        await asyncio.wait_for(connection.closed.wait(), 5)
        with pytest.raises(UnreachableError, match="not connected"):
            await connection.call(CALL)


async def test_a_silent_coordinator_is_not_waited_for_endlessly() -> None:
    never = asyncio.Event()
    sio = server(lambda *_: never.wait())
    async with serving(sio) as url, connected(url) as connection:
        with pytest.raises(WaitTimeoutError):
            await connection.call(CALL, timeout=0.05)
        never.set()


@pytest.mark.parametrize("reply", [b"rubbish", "text", None, encode(CALL)])
async def test_an_acknowledgement_that_does_not_fit_is_a_typed_error(reply: object) -> None:
    async with serving(server(lambda *_: reply)) as url, connected(url) as connection:
        with pytest.raises(MessageError):
            await connection.call(CALL)


async def test_a_server_without_tls_is_told_from_one_that_is_not_there() -> None:
    async with serving(server(lambda sid, message: Done())) as url:
        connection = ControlConnection(url.replace("http:", "https:"), HELLO, ignore, ToRequester)
        with pytest.raises(UnreachableError, match="it speaks http, not https"):
            await connection.connect()
