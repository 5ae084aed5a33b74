"""The control plane seen from a client: one Socket.IO connection that carries encoded messages, each
acknowledged.

Lives here: connecting, agreeing on a version of the protocol, refusals as typed errors, calls with a time limit, and
noticing that the line is gone. A call that waits when the line breaks fails at once. Reconnecting is the caller's
business: make a new `ControlConnection`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import socketio
from socketio.exceptions import SocketIOError

from ravop.errors import (
    ArgumentError,
    MessageError,
    Problem,
    RavenError,
    UnreachableError,
    VersionError,
    WaitTimeoutError,
    error_from_problem,
)
from ravop.protocol.messages import EVENT, MAX_MESSAGE, Hello, Message, Refused, decode, encode
from ravop.protocol.versions import OLDEST, VERSION, no_common
from ravop.transport.causes import cause_of

CONNECT_SECONDS = 10.0
CALL_SECONDS = 30.0
CLOSE_SECONDS = 2.0

OnMessage = Callable[[Any], Awaitable[Message]]

log = logging.getLogger(__name__)


class ControlConnection:
    """One connection; `connect`, then `call` as often as wanted, then `close`. For one event loop.

    `expect` is the union of messages this side may receive (`ToRequester` or `ToProvider`); `on_message` gets
    those that the coordinator sends by itself, and its return value is the acknowledgement. A `RavenError` it
    raises is sent back as `Refused`. `closed` is set when the connection ends, for whatever reason.
    """

    def __init__(self, url: str, hello: Hello, on_message: OnMessage, expect: Any) -> None:
        self.url = base_url(url)
        self.closed = asyncio.Event()
        self.version = VERSION
        """Of the protocol, that both sides speak on this connection."""
        self._hello = hello
        self._on_message = on_message
        self._expect = expect
        self._refusal: Problem | None = None
        self._waiting: set[asyncio.Future[bytes]] = set()
        self._http: aiohttp.ClientSession | None = None
        self._client: Any = None

    async def connect(self) -> None:
        """In the newest version of the protocol that the coordinator speaks too.

        Raises `UnreachableError` when nothing answers, or the coordinator's refusal (`TokenError`, `RoleError`,
        `VersionError` where it speaks none of ours, …).
        """
        refusals = []
        for self.version in range(VERSION, OLDEST - 1, -1):
            self._hello = msgspec.structs.replace(self._hello, protocol=self.version)
            try:
                return await self._connect()
            except VersionError as error:
                refusals.append(error.problem)
        raise no_common(refusals[0], self._hello.software)

    async def _connect(self) -> None:
        self.closed.clear()
        self._refusal = None
        self._http = aiohttp.ClientSession()
        self._client = socketio.AsyncClient(
            reconnection=False,
            handle_sigint=False,
            http_session=self._http,
            request_timeout=CLOSE_SECONDS,
            websocket_extra_options={"max_msg_size": MAX_MESSAGE + 1024},
        )
        self._client.on(EVENT, self._received)
        self._client.on("connect_error", self._refused)
        self._client.on("disconnect", self._disconnected)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._client.connect(
                    self.url,
                    auth=msgspec.to_builtins(self._hello),
                    transports=["websocket"],
                    wait_timeout=CONNECT_SECONDS,
                )
        except (SocketIOError, aiohttp.ClientError, OSError, ValueError) as error:  # OSError: a time-out too
            await self._abandon()
            if self._refusal is not None:
                raise error_from_problem(self._refusal) from error
            cause = cause_of(error, self.url)
            raise self._unreachable("the coordinator does not answer", cause.received, cause.hint) from error
        except BaseException:
            await self._abandon()
            raise

    async def call(self, message: Message, timeout: float = CALL_SECONDS) -> Any:
        """Send `message` and return its acknowledgement, one of `expect`.

        Raises the error in a `Refused`, `UnreachableError` when the connection is or gets lost,
        `WaitTimeoutError` after `timeout` seconds, `MessageError` for an acknowledgement that does not fit.
        """
        data = encode(message, self.version)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.add(answer)
        try:
            if self._client is None or self.closed.is_set():
                raise self._unreachable("not connected to the coordinator")
            async with asyncio.timeout(timeout):
                await self._client.emit(EVENT, data, callback=lambda *values: _settle(answer, values))
                reply = decode(await answer, self._expect)
        except TimeoutError as error:
            raise WaitTimeoutError(
                f"the coordinator did not answer {type(message).__name__} in time",
                expected=f"within {timeout:g} s",
                received="nothing",
                hint="it may be overloaded; try again",
            ) from error
        except SocketIOError as error:
            raise self._unreachable("the connection to the coordinator was lost", error) from error
        finally:
            self._waiting.discard(answer)
        if isinstance(reply, Refused):
            raise error_from_problem(reply.problem)
        return reply

    async def close(self) -> None:
        """End the connection; does nothing when it has ended."""
        if self._client is not None and not self.closed.is_set():
            with contextlib.suppress(TimeoutError):  # a frozen coordinator does not take part in closing
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._client.disconnect()
        await self._abandon()

    async def _received(self, data: object) -> bytes:
        try:
            message = decode(data, self._expect)
            return encode(await self._on_message(message), self.version)
        except RavenError as error:
            log.warning("a message from the coordinator was refused: %s", error)
            return encode(Refused(problem=error.problem), self.version)
        except Exception as error:
            log.exception("a message from the coordinator could not be handled")
            problem = Problem(code="error", message=f"{type(error).__name__}: {error}"[:1000])
            return encode(Refused(problem=problem), self.version)

    async def _refused(self, data: object) -> None:
        with contextlib.suppress(msgspec.ValidationError):  # not our server: stays an unreachable coordinator
            self._refusal = msgspec.convert(data, _Refusal).data

    async def _disconnected(self, reason: object = "") -> None:
        log.debug("disconnected from %s: %s", self.url, reason)
        self.closed.set()
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(self._unreachable("the connection to the coordinator was lost", reason))
                answer.exception()  # a caller that was cancelled meanwhile will not ask for it

    async def _abandon(self) -> None:
        """Let go of the sockets, whatever state the connection is in."""
        if self._http is not None:
            await self._http.close()
        await self._disconnected("closed")

    def _unreachable(self, message: str, received: object = "", hint: str = "") -> UnreachableError:
        return UnreachableError(
            message,
            expected=f"a coordinator at {self.url}",
            received=received,
            hint=hint or "start one with `ravsock serve`, or check the URL",
        )


class _Refusal(msgspec.Struct):
    """What python-socketio makes of `ConnectionRefusedError(message, problem)`."""

    data: Problem
    message: str = ""


def base_url(url: str) -> str:
    """The URL without a trailing slash. Raises `ArgumentError` for anything but http and https."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ArgumentError(
            "this is not the URL of a coordinator",
            expected="http://host:port or https://host:port",
            received=url,
        )
    return url.rstrip("/")


def _settle(answer: asyncio.Future[bytes], values: tuple[object, ...]) -> None:
    if answer.done():
        return
    if len(values) == 1 and isinstance(values[0], bytes):
        answer.set_result(values[0])
    else:
        answer.set_exception(
            MessageError("an acknowledgement must be one encoded message", received=f"{len(values)} values")
        )
