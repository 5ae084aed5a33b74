"""The bulk plane: `PUT`, `HEAD` and `GET /blobs/{sha256}` as plain ASGI, streamed both ways; and what a client is told that
should transfer past the coordinator, which `uploads` decides.

A requester may store what it likes and read what it stored or its graphs gave; a provider may store while it
holds a task, and read what its tasks need.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from ravop.errors import BlobError, ForbiddenBlobError, MessageError, RavenError
from ravop.protocol.uploads import MAX_BLOB, MAX_OFFER, decode_offer
from ravsock.server.auth import Authenticator
from ravsock.server.elsewhere import ASKED, OWNER, Elsewhere, Reads
from ravsock.server.http import CRASHED, Receive, Scope, Send, bearer, refuse, respond
from ravsock.server.metrics import Metrics
from ravsock.server.providers import Providers
from ravsock.server.storage import Storage
from ravsock.server.streams import GoneError, Meter, body, byte_range, disconnected, short_body, some
from ravsock.server.uploads import Uploads
from ravsock.store import Identity, Store
from ravsock.store.blobstore import checked_name
from ravsock.store.values import StoredBlob

PREFIX = "/blobs/"
BUFFERED = 4 * 1024 * 1024
"""Bytes that the kernel takes for a connection before it waits for the line."""
_PATH = re.compile(r"/blobs/([^/]*)(/uploads)?(?:(?<=/uploads)/([0-9a-z]{1,64}))?", re.ASCII)
_JSON = (b"content-type", b"application/json")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Request:
    who: Identity
    sha: str
    upload: str
    """Which of its uploads, where the path names one."""
    headers: dict[bytes, bytes]
    receive: Receive
    send: Send


_Methods = dict[str, Callable[[_Request], Awaitable[None]]]


class BlobEndpoint:
    """An ASGI application for paths below `PREFIX`."""

    def __init__(
        self, auth: Authenticator, store: Store, storage: Storage, providers: Providers, elsewhere: Elsewhere,
        uploads: Uploads, metrics: Metrics,
    ) -> None:  # fmt: skip
        self._auth = auth
        self._store = store
        self._storage = storage
        self._providers = providers
        self._elsewhere = elsewhere
        self._uploads = uploads
        self._metrics = metrics
        self._methods: dict[tuple[bool, bool], _Methods] = {
            (False, False): {"PUT": self._put, "HEAD": self._head, "GET": self._get},
            (True, False): {"POST": self._ask},
            (True, True): {"POST": self._end},
        }
        """By whether the path goes on with uploads, and with one of them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            found = _PATH.fullmatch(scope["path"])
            sha, uploads, upload = found.groups("") if found else (scope["path"].removeprefix(PREFIX), "", "")
            checked_name(sha)
            methods = self._methods[bool(uploads), bool(upload)]
            method = methods.get(scope["method"])
            if method is None:
                allowed = MessageError(
                    "no such method", expected=" or ".join(methods), received=scope["method"]
                )
                return await refuse(send, allowed.problem, HTTPStatus.METHOD_NOT_ALLOWED)
            headers = dict(scope["headers"])
            token = bearer(headers, "requester", "provider")
            who = await self._auth.authenticate(token, "requester", "provider")
            await method(_Request(who, sha, upload, headers, receive, send))
        except GoneError:
            log.debug("an upload was broken off")
        except RavenError as error:
            self._metrics.refused(error.problem.code)
            await refuse(send, error.problem)
        except Exception:
            log.exception("a request for a blob failed")
            await refuse(send, CRASHED)

    async def _put(self, request: _Request) -> None:
        provider = request.who.role == "provider"
        await self._check_may_write(request.who)
        # a blob that does not say how large it is could be as large as any
        length = request.headers.get(b"content-length", str(MAX_BLOB).encode())
        if not length.isdigit() or int(length) > MAX_BLOB:
            problem = MessageError(
                "the blob is too large", expected=f"at most {MAX_BLOB:,} bytes", received=length
            )
            return await refuse(request.send, problem.problem, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        await asyncio.to_thread(self._store.check_quota, request.who.token_id, int(length), request.sha)
        meter = Meter()
        uploading = meter.watch(body(request.receive))
        # a provider's is durable with the result that will name it
        new = await self._storage.receive(request.sha, uploading, request.who.token_id, durable=not provider)
        self._metrics.blob_bytes.labels("in").inc(meter.total)
        if provider:
            self._providers.moved(request.who.token_id, meter.size, meter.seconds)
        return await respond(request.send, HTTPStatus.CREATED if new else HTTPStatus.OK)

    async def _ask(self, request: _Request) -> None:
        await self._check_may_write(request.who)
        offer = decode_offer(await short_body(request.receive, MAX_OFFER))
        answer = await self._uploads.ask(request.who, request.sha, offer.size)
        return await respond(request.send, HTTPStatus.OK, msgspec.json.encode(answer), [_JSON])

    async def _end(self, request: _Request) -> None:
        await self._check_may_write(request.who)
        await self._uploads.end(request.who, request.sha, request.upload)
        return await respond(request.send, HTTPStatus.CREATED)

    async def _head(self, request: _Request) -> None:
        found = await self._find(request)
        if found is None:
            return await respond(request.send, HTTPStatus.NOT_FOUND)
        if request.who.role != "provider":
            await self._storage.record(request.sha, found.size, request.who.token_id, found.place)
        headers = [(b"content-length", str(found.size).encode()), (b"accept-ranges", b"bytes")]
        if ASKED.lower().encode() in request.headers:
            owner = self._providers.reads_for(request.who.token_id, request.sha)
            headers.append((OWNER.lower().encode(), str(owner).encode()))
        await request.send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
        return await request.send({"type": "http.response.body", "body": b""})

    async def _get(self, request: _Request) -> None:
        found = await self._find(request)
        if found is None:
            problem = BlobError("the coordinator does not have this blob", received=request.sha).problem
            return await refuse(request.send, problem, HTTPStatus.NOT_FOUND)
        direct = self._storage.blobs.direct
        if direct is not None:
            url = await asyncio.to_thread(direct.download, request.sha, found.place)
            location = (b"location", url.encode())
            return await respond(request.send, HTTPStatus.TEMPORARY_REDIRECT, headers=[location])
        return await self._stream(request, found)

    async def _stream(self, request: _Request, found: StoredBlob) -> None:
        size = found.size
        asked = request.headers.get(b"range")
        part = None if asked is None else byte_range(asked.decode("latin-1"), size)
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
        chunks = await self._storage.on_thread(
            self._storage.blobs.read, request.sha, found.place, start, stop
        )
        await request.send({"type": "http.response.start", "status": status, "headers": headers})
        gone = asyncio.ensure_future(disconnected(request.receive))
        meter = Meter(BUFFERED)
        try:
            while (pieces := await self._storage.on_thread(some, chunks)) and not gone.done():
                for chunk in pieces:
                    await request.send({"type": "http.response.body", "body": chunk, "more_body": True})
                    meter.count(len(chunk))
        except RavenError as error:  # too late for a refusal: the client sees that bytes are missing
            return log.warning("a blob could not be read to its end: %s", error)
        finally:
            gone.cancel()
            self._metrics.blob_bytes.labels("out").inc(meter.total)
        if request.who.role == "provider":
            self._providers.moved(request.who.token_id, meter.size, meter.seconds)
        return await request.send({"type": "http.response.body", "body": b""})

    async def _find(self, request: _Request) -> StoredBlob | None:
        """The copy that it may read, None where there is none. Raises `ForbiddenBlobError` where it may not."""
        who, sha = request.who, request.sha
        if who.role == "provider":
            may, owner = await self._reads(request)
            look = self._store.find_for_provider
            found = await asyncio.to_thread(look, sha, who.token_id, owner) if may else None
        else:
            found = await asyncio.to_thread(self._store.find_blob, sha, who.token_id)
            may = found is not None
        if not may:
            raise ForbiddenBlobError(
                "this token may not read this blob",
                expected="a blob of your own, or of a task you hold",
                received=sha,
            )
        return found

    async def _reads(self, request: _Request) -> Reads:
        owner = self._providers.reads_for(request.who.token_id, request.sha)
        if owner is not None:
            return Reads(True, owner)
        return await self._elsewhere.reads(request.who, request.sha, request.headers)

    async def _check_may_write(self, who: Identity) -> None:
        """Raises `ForbiddenBlobError`."""
        if who.role != "provider" or self._providers.may_write(who.token_id, time.monotonic()):
            return
        if not await self._elsewhere.may_write(who):
            raise ForbiddenBlobError(
                "a provider stores blobs only while it holds a task", hint="register, and wait for a task"
            )
