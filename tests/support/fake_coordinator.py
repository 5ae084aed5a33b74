"""A small coordinator for tests of providers: speaks the protocol and keeps blobs, and does as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
import older_protocol
import socketio
from aiohttp import web
from socketio.exceptions import ConnectionRefusedError as Refusal

from ravop.errors import RavenError, VersionError
from ravop.protocol import exchange
from ravop.protocol.messages import (
    EVENT,
    VERSION,
    Assign,
    Beat,
    Beaten,
    Done,
    FromProvider,
    HeldTask,
    Hello,
    Message,
    OutputSpec,
    Refused,
    Register,
    Registered,
    Report,
    Reported,
    Task,
    TaskInput,
    decode,
    encode,
)
from ravop.protocol.tensors import Array, Blob, encode_tensor, sha256

T = TypeVar("T")
BEAT_SECONDS = 0.1


class FakeCoordinator:
    """Takes every provider. `answers` replaces what it says to a message; `seen` is what it heard, beats aside."""

    def __init__(self, version: int = VERSION) -> None:
        self.version = version
        self.url = ""
        self.blobs: dict[str, bytes] = {}
        self.transfers: list[tuple[str, str]] = []
        self.seen: asyncio.Queue[Message] = asyncio.Queue()
        self.refusal: RavenError | None = None
        self.drop: tuple[HeldTask, ...] = ()
        self.answers: dict[type[Message], Callable[[Any], Message | Awaitable[Message]]] = {
            Register: lambda _: Registered(beat_seconds=BEAT_SECONDS),
            Beat: lambda _: Beaten(drop=self.drop, waiting="the test has nothing to do"),
            Report: lambda report: Reported(accepted=len(report.done)),
        }
        self.ranks: dict[int, web.WebSocketResponse] = {}
        self.done = 0
        self._sids: list[str] = []
        self._sio = socketio.AsyncServer(async_mode="aiohttp", ping_interval=5, ping_timeout=5)
        self._sio.on("connect", self._connect)
        self._sio.on("disconnect", lambda sid, reason=None: self._sids.remove(sid))
        self._sio.on(EVENT, self._receive)

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[str]:
        app = web.Application(client_max_size=2**30)
        self._sio.attach(app)
        app.router.add_route("*", "/blobs/{sha}", self._blob)
        app.router.add_get(exchange.PATH, self._exchange)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self.url
        finally:
            await self._sio.shutdown()
            await runner.cleanup()

    # ── what tests do ────────────────────────────────────────────────────────────────────────────────────────
    def put(self, data: bytes) -> Blob:
        self.blobs[sha256(data)] = data
        return Blob(sha256(data), len(data))

    def tensor(self, name: str, array: Array) -> TaskInput:
        return TaskInput(name=name, ref=self.put(encode_tensor(array)))

    def task(
        self,
        number: int,
        model: bytes,
        inputs: tuple[TaskInput, ...],
        outputs: tuple[OutputSpec, ...],
        **more: Any,
    ) -> Task:
        subgraph = self.put(model)
        values = {"attempt": 1, "flops": 1e6, "peak_memory": 0, "lease_seconds": 60.0} | more
        values.setdefault("sizes", {subgraph.sha: subgraph.size})
        return Task(
            task_id=number,
            graph_id="g",
            label=f"task {number}",
            subgraph=subgraph.sha,
            inputs=inputs,
            outputs=outputs,
            **values,
        )

    async def send(self, message: Message, place: int = -1) -> Message:
        """Send to the provider that came last, or at this place; its acknowledgement."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        await self._sio.emit(
            EVENT, encode(message, self.version), to=self._sids[place], callback=answer.set_result
        )
        reply: Message = decode(await answer, Done | Refused)
        return reply

    async def assign(self, *tasks: Task, place: int = -1) -> None:
        """The tasks as one batch."""
        assert await self.send(Assign(tasks=tasks), place) == Done()

    async def next(self, kind: type[T]) -> T:
        """The next message of this kind; other kinds before it are a mistake."""
        message = await self.seen.get()
        assert isinstance(message, kind), message
        return message

    async def hang_up(self) -> None:
        """End the connection to the provider that came last."""
        await self._sio.disconnect(self._sids[-1])

    # ── what providers see ───────────────────────────────────────────────────────────────────────────────────
    async def _connect(self, sid: str, environ: object, auth: object) -> None:
        hello = msgspec.convert(auth, Hello)
        assert hello.role == "provider"
        if hello.protocol != self.version:
            refusal = VersionError("different versions", expected=f"version {self.version}")
            raise Refusal("no", msgspec.to_builtins(refusal.problem))
        if self.refusal is not None:
            raise Refusal(self.refusal.problem.message, msgspec.to_builtins(self.refusal.problem))
        self._sids.append(sid)

    async def _receive(self, sid: str, data: bytes) -> bytes:
        message = decode(data, FromProvider)
        if self.version == 2:
            older_protocol.unpacked(data)
        if not isinstance(message, Beat):
            self.seen.put_nowait(message)
        reply = self.answers[type(message)](message)
        return encode(reply if isinstance(reply, Message) else await reply, self.version)

    async def _exchange(self, request: web.Request) -> web.WebSocketResponse:
        """Passes frames on between two ranks, and breaks off when one of them leaves before it is done."""
        assert request.headers["Authorization"] == "Bearer token"
        rank = int(request.query["rank"])
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.ranks[rank] = socket
        both = self.ranks
        if len(both) == 2:
            for one in both.values():
                await one.send_str(exchange.GO)
        async for message in socket:
            frame = exchange.unpack(message.data)
            assert frame.ranks == 1 << (1 - rank)
            header = exchange.pack_header(rank, frame.sequence, frame.last)
            await both[1 - rank].send_bytes(header + bytes(frame.payload))
        if both is self.ranks:
            if socket.close_code == exchange.DONE:
                self.done += 1
            if socket.close_code != exchange.DONE or self.done == 2:
                await self.break_off()
        return socket

    async def break_off(self) -> None:
        """End the exchange between ranks."""
        ranks, self.ranks, self.done = self.ranks, {}, 0
        for socket in ranks.values():
            await socket.close(code=exchange.GONE)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer token"
        sha = request.match_info["sha"]
        self.transfers.append((request.method, sha))
        if request.method == "PUT":
            data = await request.read()
            assert sha256(data) == sha
            self.blobs[sha] = data
            return web.Response(status=201)
        if sha not in self.blobs:
            return web.Response(status=404)
        return web.Response(body=self.blobs[sha])
