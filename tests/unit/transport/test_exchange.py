"""A rank's line against a real websocket that behaves, refuses, breaks off or sends nonsense."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from ravop.errors import MessageError, UnreachableError
from ravop.protocol.exchange import DONE, GO, GONE, HEADER, PATH, PIECE, pack_header, unpack
from ravop.protocol.messages import HeldTask
from ravop.transport.exchange import Exchange, GoneError

ATTEMPT = HeldTask(task_id=7, attempt=2)
MESSAGE = bytes(range(256)) * 2000
Behaviour = Callable[[web.WebSocketResponse], Awaitable[None]]


@asynccontextmanager
async def line(behave: Behaviour, expected: int = len(MESSAGE)) -> AsyncIterator[Exchange]:
    """Rank 0's line to a coordinator that behaves so, over which rank 1 may send messages so large."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        assert request.headers["Authorization"] == "Bearer secret"
        assert dict(request.query) == {"task": "7", "attempt": "2", "rank": "0"}
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await behave(socket)
        await socket.close()
        return socket

    app = web.Application()
    app.router.add_get(PATH, serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    exchange = Exchange(f"http://127.0.0.1:{runner.addresses[0][1]}", "secret", {1: expected})
    try:
        yield exchange
    finally:
        await exchange.close(done=False)
        await runner.cleanup()


def sends(*frames: bytes) -> Behaviour:
    async def behave(socket: web.WebSocketResponse) -> None:
        await socket.send_str(GO)
        for frame in frames:
            await socket.send_bytes(frame)
        await socket.receive()

    return behave


async def receive(exchange: Exchange, frames: int) -> None:
    for _ in range(frames):
        await exchange.receive()


async def test_a_message_is_cut_into_frames_and_comes_back_as_it_was() -> None:
    codes = []

    async def echo(socket: web.WebSocketResponse) -> None:
        await socket.send_str(GO)
        async for message in socket:
            frame = unpack(message.data)
            assert frame.ranks == 0b1010
            await socket.send_bytes(pack_header(1, frame.sequence, frame.last) + bytes(frame.payload))
        codes.append(socket.close_code)

    async with line(echo) as exchange:
        await exchange.connect(ATTEMPT, 0, 10)
        for number in range(2):
            await exchange.send([1, 3], memoryview(MESSAGE))
            frames = [await exchange.receive()]
            while not frames[-1].last:
                frames.append(await exchange.receive())
            assert len(frames) > 1
            assert {frame.sequence for frame in frames} == {number}
            assert b"".join(frame.payload for frame in frames) == MESSAGE
        await exchange.close(done=True)
    assert codes == [DONE]


async def test_a_rank_that_cannot_go_on_says_so() -> None:
    codes = []

    async def listen(socket: web.WebSocketResponse) -> None:
        await socket.send_str(GO)
        await socket.receive()
        codes.append(socket.close_code)

    async with line(listen) as exchange:
        await exchange.connect(ATTEMPT, 0, 10)
        await exchange.close(done=False)
    assert codes == [GONE]


@pytest.mark.parametrize(("code", "error"), [(GONE, GoneError), (1011, UnreachableError)])
async def test_a_gang_that_is_broken_off_is_told_from_a_broken_line(
    code: int, error: type[Exception]
) -> None:
    async def before(socket: web.WebSocketResponse) -> None:
        await socket.close(code=code)

    async def after(socket: web.WebSocketResponse) -> None:
        await socket.send_str(GO)
        await socket.close(code=code)

    async with line(before) as exchange:
        with pytest.raises(error) as caught:
            await exchange.connect(ATTEMPT, 0, 10)
        assert type(caught.value) is error
    async with line(after) as exchange:
        await exchange.connect(ATTEMPT, 0, 10)
        with pytest.raises(error) as caught:
            await exchange.receive()
        assert type(caught.value) is error


async def test_the_others_are_not_waited_for_for_ever() -> None:
    async def silent(socket: web.WebSocketResponse) -> None:
        await socket.receive()

    async with line(silent) as exchange:
        with pytest.raises(UnreachableError, match="did not come together"):
            await exchange.connect(ATTEMPT, 0, 0.05)


async def test_a_coordinator_that_is_not_there_or_refuses_is_unreachable() -> None:
    async def never(socket: web.WebSocketResponse) -> None: ...

    async with line(never) as exchange:
        exchange._url = exchange._url.rpartition(":")[0] + ":9"  # nobody listens there
        with pytest.raises(UnreachableError):
            await exchange.connect(ATTEMPT, 0, 10)


NONSENSE = {
    "no frame": (b"short",),
    "of an unknown rank": (pack_header(2, 0, True),),
    "too large": (pack_header(1, 0, False) + bytes(60_000),) * 10,
    "mixed up": (pack_header(1, 0, False) + b"a", pack_header(1, 1, True) + b"b"),
    "backwards": (pack_header(1, 3, True) + b"a", pack_header(1, 2, True) + b"b"),
}


@pytest.mark.parametrize("frames", NONSENSE.values(), ids=NONSENSE.keys())
async def test_what_should_not_come_is_refused(frames: tuple[bytes, ...]) -> None:
    assert all(len(frame) <= HEADER.size + 60_000 for frame in frames)
    async with line(sends(*frames)) as exchange:
        await exchange.connect(ATTEMPT, 0, 10)
        with pytest.raises(MessageError):
            await receive(exchange, len(frames))


async def test_the_largest_frame_is_taken() -> None:
    async with line(sends(pack_header(1, 0, True) + bytes(PIECE))) as exchange:
        await exchange.connect(ATTEMPT, 0, 10)
        assert len((await exchange.receive()).payload) == PIECE


async def test_text_after_the_beginning_is_refused() -> None:
    async def chats(socket: web.WebSocketResponse) -> None:
        await socket.send_str(GO)
        await socket.send_str("and?")
        await socket.receive()

    async with line(chats) as exchange:
        await exchange.connect(ATTEMPT, 0, 10)
        with pytest.raises(MessageError):
            await exchange.receive()
