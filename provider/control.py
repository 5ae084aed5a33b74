"""How `provider status` and `provider stop` reach the daemon: one JSON line each way over loopback TCP.

The daemon writes port and secret into a file that only its user can read; works alike on all systems.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from typing import Literal

import msgspec

from provider.home import Control, Home
from provider.status import Status
from ravop.errors import NotRunningError

HOST = "127.0.0.1"
MAX_LINE = 1024 * 1024
TALK_SECONDS = 5.0


class Request(msgspec.Struct, frozen=True):
    secret: str
    command: Literal["status", "stop"]


@contextlib.asynccontextmanager
async def listening(
    home: Home, status: Callable[[], Status], stop: Callable[[], None]
) -> AsyncIterator[None]:
    """Answer status requests and take stop requests as long as the block lasts."""
    secret = secrets.token_hex(32)
    talks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(talk(reader, writer))
        talks.add(task)
        task.add_done_callback(talks.discard)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(TALK_SECONDS):
                request = msgspec.json.decode(await reader.readline(), type=Request)
                if hmac.compare_digest(request.secret.encode(), secret.encode()):
                    if request.command == "stop":
                        stop()
                    writer.write(msgspec.json.encode(status()) + b"\n")
                    await writer.drain()
        except (msgspec.MsgspecError, TimeoutError, ConnectionError, ValueError):
            pass  # not one of ours: it gets no answer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(accept, HOST, 0, limit=MAX_LINE)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with home.announce(Control(port=port, secret=secret, pid=os.getpid())):
            yield
        server.close()
        if talks:
            await asyncio.wait(talks)  # whoever asked to stop still gets its answer


def ask(home: Home, command: Literal["status", "stop"]) -> Status:
    """Send a command to the daemon of this name. Raises `NotRunningError`."""
    control = home.control()
    if control is not None:
        request = msgspec.json.encode(Request(control.secret, command)) + b"\n"
        try:
            with socket.create_connection((HOST, control.port), timeout=TALK_SECONDS) as line:
                line.sendall(request)
                return msgspec.json.decode(line.makefile("rb").readline(MAX_LINE), type=Status)
        except (OSError, msgspec.MsgspecError):
            pass  # the daemon was killed and could not remove its file
    raise NotRunningError(
        f"no provider called {home.name!r} runs here",
        expected=f"one that listens as {home.folder} says",
        hint="start one with `provider start`",
    )
