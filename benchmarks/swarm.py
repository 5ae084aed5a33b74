"""Simulated providers by the thousand: one process of them, for `benchmarks.connections`.

`python -m benchmarks.swarm URL FILE`: one provider for each token in FILE. They speak the control plane as a real provider
does (websocket, Engine.IO, Socket.IO, our messages), beat as they are told, take every task over, report zeros of the
right shape, and connect again when they are cut off. Nothing is computed. Standard input takes one command a line,
standard output gives one JSON object a line, as `Answer`.
"""

from __future__ import annotations

import asyncio
import json
import random
import struct
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import numpy as np
import uvloop

from ravop.protocol import messages as m
from ravop.protocol.tensors import encode_tensor, reference

HANDSHAKE = (
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
EVENT = '["raven",{"_placeholder":true,"num":0}]'
ANSWER = '[{"_placeholder":true,"num":0}]'
SHORT, MIDDLE = 126, 127
AGAIN_SECONDS = 1.0
"""A provider that was cut off connects again within so long, at random."""
PROFILE: dict[str, Any] = {
    "slots": 1, "threads": 1, "memory": 1 << 30, "matmul_gflops": 10.0, "conv_gflops": 10.0, "engine": "none",
    "opset": 21, "platform": "simulated", "software": "swarm",
}  # fmt: skip


class Answer(msgspec.Struct):
    """What a swarm says of itself since the last time it was asked."""

    registered: int
    """Connected and registered now."""
    lost: int
    """Connections that ended."""
    failed: int
    """Connections that could not be made, or were refused."""
    why: str
    """The last refusal."""
    beats: list[float]
    """Seconds until a beat was acknowledged, each."""
    reports: list[float]
    """Seconds until a report was, each."""


class Swarm:
    def __init__(self, url: str, tokens: list[str]) -> None:
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        self._members = [Member(self, token) for token in tokens]
        self.answer = Answer(0, 0, 0, "", [], [])

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[str] = asyncio.Queue()
        loop.add_reader(sys.stdin, lambda: lines.put_nowait(sys.stdin.readline()))
        while command := (await lines.get()).strip():
            if command == "connect":
                for member in self._members:
                    member.start()
            elif command == "cut":
                for member in self._members:
                    member.cut()
            registered = sum(member.registered for member in self._members)
            self.answer.registered = registered
            sys.stdout.write(msgspec.json.encode(self.answer).decode() + "\n")
            sys.stdout.flush()
            self.answer = Answer(0, 0, 0, "", [], [])


class Member(asyncio.Protocol):
    """One provider."""

    def __init__(self, swarm: Swarm, token: str) -> None:
        self._swarm = swarm
        self._token = token
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reset()

    def _reset(self) -> None:
        self.registered = False
        self._buffer = bytearray()
        self._open = False
        self._calls = 0
        self._asked: dict[int, tuple[m.Message, float]] = {}
        self._head = ""
        self._held: deque[m.HeldTask] = deque()

    def start(self) -> None:
        self._loop.create_task(self._connect())

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _connect(self) -> None:
        try:
            await self._loop.create_connection(lambda: self, self._swarm.host, self._swarm.port)
        except OSError as error:
            self._failed(str(error))
            self._later(AGAIN_SECONDS * random.random(), self.start)

    def _later(self, seconds: float, call: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, call)

    def _failed(self, why: str) -> None:
        self._swarm.answer.failed += 1
        self._swarm.answer.why = why

    # ── the socket ────────────────────────────────────────────────────────────────────────────────
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has a class of its own
        self._transport.write(HANDSHAKE.format(host=self._swarm.host).encode())

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._swarm.answer.lost += self.registered
        if not self.registered:
            self._failed(f"the connection ended: {exc}")
        self._reset()
        self._later(AGAIN_SECONDS * random.random(), self.start)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.split(b"\r\n")[0]:
                self._failed(head.split(b"\r\n")[0].decode())
                self.cut()
                return
            self._open, self._buffer = True, rest
        while (frame := self._next()) is not None:
            self._frame(*frame)

    def _next(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 127, 2
        if size >= SHORT:
            form = "!H" if size == SHORT else "!Q"
            start += struct.calcsize(form)
            if len(buffer) < start:
                return None
            (size,) = struct.unpack_from(form, buffer, 2)
        if len(buffer) < start + size:
            return None
        kind, payload = buffer[0] & 15, bytes(buffer[start : start + size])
        del buffer[: start + size]
        return kind, payload

    def _write(self, kind: int, payload: bytes) -> None:
        """Masked with zeros, which is as good as any mask and costs nothing."""
        size = len(payload)
        if size < SHORT:
            head = struct.pack("!BB", 128 | kind, 128 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 128 | kind, 128 | SHORT, size)
        else:
            head = struct.pack("!BBQ", 128 | kind, 128 | MIDDLE, size)
        if self._transport is not None:
            self._transport.write(b"".join((head, b"\0\0\0\0", payload)))

    # ── packets ───────────────────────────────────────────────────────────────────────────────────
    def _frame(self, kind: int, payload: bytes) -> None:
        if kind == TEXT:
            self._packet(payload.decode())
        elif kind == BINARY:
            self._message(payload)
        elif kind == PING:
            self._write(PONG, payload)
        elif kind == CLOSE:
            self.cut()

    def _packet(self, text: str) -> None:
        if text == "2":
            self._write(TEXT, b"3")
        elif text.startswith("0"):
            hello = m.Hello(token=self._token, role="provider", software="swarm")
            self._write(TEXT, b"40" + msgspec.json.encode(hello))
        elif text.startswith("40"):
            profile = m.Profile(name="swarm", **PROFILE)
            self._call(m.Register(provider_id=self._token[-20:], profile=profile))
        elif text.startswith("44"):
            self._failed(text[:300])
            self.cut()
        else:
            self._head = text

    def _message(self, payload: bytes) -> None:
        kind, number = self._head[:2], int(self._head[4:].partition("[")[0])
        message = m.decode(payload, m.ToProvider)
        if kind == "45":
            self._write(TEXT, f"461-{number}{ANSWER}".encode())
            self._write(BINARY, m.encode(m.Done()))
            if isinstance(message, m.Assign):
                self._work(message.tasks)
            return
        asked, since = self._asked.pop(number)
        seconds = time.perf_counter() - since
        if isinstance(message, m.Refused):
            self._failed(message.problem.text())
            self.cut()
        elif isinstance(asked, m.Register):
            self.registered = True
            self._beat_seconds = message.beat_seconds
            self._later(message.beat_seconds, self._beat)
        elif isinstance(asked, m.Beat):
            self._swarm.answer.beats.append(seconds)
            self._later(self._beat_seconds, self._beat)
        else:
            self._swarm.answer.reports.append(seconds)

    def _call(self, message: m.Message) -> None:
        self._calls += 1
        self._asked[self._calls] = message, time.perf_counter()
        self._write(TEXT, f"451-{self._calls}{EVENT}".encode())
        self._write(BINARY, m.encode(message))

    def _beat(self) -> None:
        self._call(m.Beat(holding=tuple(self._held)))

    def _work(self, tasks: tuple[m.Task, ...]) -> None:
        done = [
            m.TaskResult(
                task_id=task.task_id, attempt=task.attempt, outputs=tuple(map(_zeros, task.outputs)), seconds=1e-3
            )
            for task in tasks
        ]  # fmt: skip
        self._call(m.Report(done=tuple(done)))


def _zeros(spec: m.OutputSpec) -> m.Output:
    array = np.zeros([size or 1 for size in spec.shape], spec.dtype)
    return m.Output(name=spec.name, ref=reference(encode_tensor(array)))


async def main(url: str, path: str) -> None:
    await Swarm(url, json.loads(Path(path).read_text(encoding="utf-8"))).run()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
