"""The bulk plane: `PUT`, `HEAD` and `GET /blobs/{sha256}` as plain ASGI, streamed both ways.

A requester may store what it likes and read what it stored or its graphs gave; a provider may store while it
holds a task, and read what its tasks need.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice

from ravop.errors import BlobError, ForbiddenBlobError, MessageError, RavenError, WaitTimeoutError
from ravsock.server.auth import Authenticator
from ravsock.server.http import CRASHED, Receive, Scope, Send, bearer, refuse, respond
from ravsock.server.providers import Providers
from ravsock.server.storage import MAX_BLOB, Storage
from ravsock.store import Identity, Store

PREFIX = "/blobs/"
STALLED_SECONDS = 60.0
"""An upload of which nothing arrives for so long is broken off."""
AT_ONCE = 4
"""Chunks of a megabyte read at a time, on a thread."""
BUFFERED = 4 * 1024 * 1024
"""Bytes that the kernel takes for a connection before it waits for the line."""
_SHA = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)

log = logging.getLogger(__name__)


class _GoneError(Exception):
    """The client broke off in the middle of an upload."""


@dataclass(frozen=True)
class _Request:
    who: Identity
    sha: str
    headers: dict[bytes, bytes]
    receive: Receive
    send: Send


class BlobEndpoint:
    """An ASGI application for paths below `PREFIX`."""

    def __init__(self, auth: Authenticator, store: Store, storage: Storage, providers: Providers) -> None:
        self._auth = auth
        self._store = store
        self._storage = storage
        self._providers = providers
        self._methods: dict[str, Callable[[_Request], Awaitable[None]]] = {
            "PUT": self._put,
            "HEAD": self._head,
            "GET": self._get,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            method = self._methods.get(scope["method"])
            if method is None:
                allowed = MessageError(
                    "no such method", expected="PUT, HEAD or GET", received=scope["method"]
                )
                return await refuse(send, allowed.problem, HTTPStatus.METHOD_NOT_ALLOWED)
            sha = scope["path"].removeprefix(PREFIX)
            if not _SHA.fullmatch(sha):
                raise MessageError(
                    "not the name of a blob", expected="64 hexadecimal digits", received=sha[:80]
                )
            headers = dict(scope["headers"])
            who = await self._auth.authenticate(bearer(headers), "requester", "provider")
            await method(_Request(who, sha, headers, receive, send))
        except _GoneError:
            log.debug("an upload was broken off")
        except RavenError as error:
            await refuse(send, error.problem)
        except Exception:
            log.exception("a request for a blob failed")
            await refuse(send, CRASHED)

    async def _put(self, request: _Request) -> None:
        provider = request.who.role == "provider"
        if provider and not self._providers.may_write(request.who.token_id, time.monotonic()):
            raise ForbiddenBlobError(
                "a provider stores blobs only while it holds a task", hint="register, and wait for a task"
            )
        length = request.headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MAX_BLOB:
            problem = MessageError(
                "the blob is too large", expected=f"at most {MAX_BLOB:,} bytes", received=length
            )
            return await refuse(request.send, problem.problem, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        meter = _Meter()
        uploading = meter.watch(_body(request.receive))
        # a provider's is durable with the result that will name it
        new = await self._storage.receive(request.sha, uploading, request.who.token_id, durable=not provider)
        if provider:
            self._providers.moved(request.who.token_id, meter.size, meter.seconds)
        return await respond(request.send, HTTPStatus.CREATED if new else HTTPStatus.OK)

    async def _head(self, request: _Request) -> None:
        size = await self._size(request)
        if size is None:
            return await respond(request.send, HTTPStatus.NOT_FOUND)
        if request.who.role != "provider":
            await self._storage.touch(request.sha, size, request.who.token_id)
        headers = [(b"content-length", str(size).encode()), (b"accept-ranges", b"bytes")]
        await request.send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
        return await request.send({"type": "http.response.body", "body": b""})

    async def _get(self, request: _Request) -> None:
        size = await self._size(request)
        if size is None:
            problem = BlobError("the coordinator does not have this blob", received=request.sha).problem
            return await refuse(request.send, problem, HTTPStatus.NOT_FOUND)
        asked = request.headers.get(b"range")
        part = None if asked is None else _range(asked.decode("latin-1"), size)
        if asked is not None and part is None:
            return await respond(
                request.send,
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                headers=[(b"content-range", f"bytes */{size}".encode())],
            )
        start, stop = part or (0, size)
        headers = [
            (b"content-length", str(stop - start).encode()),
            (b"content-type", b"application/octet-stream"),
            (b"accept-ranges", b"bytes"),
            (b"etag", f'"{request.sha}"'.encode()),
        ]
        if part is not None:
            headers.append((b"content-range", f"bytes {start}-{stop - 1}/{size}".encode()))
        status = HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT
        chunks = await asyncio.to_thread(self._storage.blobs.read, request.sha, None, start, stop)
        await request.send({"type": "http.response.start", "status": status, "headers": headers})
        gone = asyncio.ensure_future(_disconnected(request.receive))
        meter = _Meter(BUFFERED)
        try:
            while (some := await asyncio.to_thread(_next, chunks)) and not gone.done():
                for chunk in some:
                    await request.send({"type": "http.response.body", "body": chunk, "more_body": True})
                    meter.count(len(chunk))
        finally:
            gone.cancel()
        if request.who.role == "provider":
            self._providers.moved(request.who.token_id, meter.size, meter.seconds)
        return await request.send({"type": "http.response.body", "body": b""})

    async def _size(self, request: _Request) -> int | None:
        """Bytes of the blob, None where it is not there. Raises `ForbiddenBlobError` where it may not be
        read.
        """
        if not await self._may_read(request.who, request.sha):
            raise ForbiddenBlobError(
                "this token may not read this blob",
                expected="a blob of your own, or of a task you hold",
                received=request.sha,
            )
        try:
            return await asyncio.to_thread(self._storage.blobs.size, request.sha)
        except BlobError:
            return None

    async def _may_read(self, who: Identity, sha: str) -> bool:
        if who.role == "provider":
            return self._providers.may_read(who.token_id, sha)
        return await asyncio.to_thread(self._store.may_read, who, sha)


class _Meter:
    """How long the bytes of a transfer took that came after the first: `size` in `seconds`.

    `skip`: bytes at the beginning that tell nothing, beside the first chunk.
    """

    def __init__(self, skip: int = 0) -> None:
        self._skip = skip
        self._total = self._since = 0
        self._began = self._last = 0.0

    @property
    def size(self) -> int:
        return self._total - self._since

    @property
    def seconds(self) -> float:
        return self._last - self._began

    def count(self, size: int) -> None:
        now, first = time.perf_counter(), self._total <= self._skip
        self._total += size
        self._last = now
        if first:
            self._began, self._since = now, self._total

    async def watch(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self.count(len(chunk))
            yield chunk


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                message = await receive()
        except TimeoutError as error:
            raise WaitTimeoutError(
                "the upload stalled", expected=f"bytes within {STALLED_SECONDS:g} s", hint="upload it again"
            ) from error
        if message["type"] == "http.disconnect":
            raise _GoneError
        more = message.get("more_body", False)
        if body := message.get("body"):
            yield body


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _next(chunks: Iterator[bytes]) -> list[bytes]:
    return list(islice(chunks, AT_ONCE))


def _range(header: str, size: int) -> tuple[int, int] | None:
    """Start and stop of the one range that `header` asks for; None where there is nothing to give."""
    found = _RANGE.fullmatch(header.strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(int(last) + 1, size) if first and last else size
    return (start, stop) if start < stop else None
