"""The bulk plane seen from a client: blobs by HTTP, verified against their names, with bounded retries.

Lives here: PUT, HEAD and GET of blobs, resuming broken downloads. Which blobs to move is the callers'
business.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from http import HTTPStatus
from io import BufferedRandom, BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiohttp
import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from ravop.errors import (
    BlobError,
    ForbiddenBlobError,
    MessageError,
    Problem,
    UnreachableError,
    error_from_problem,
)
from ravop.transport.control import base_url

CHUNK = 256 * 1024
ASK_FIRST = 1024 * 1024
"""Bytes from which an upload first asks whether the coordinator has the blob: below, asking costs more than
sending.
"""
READ = 8 * 1024 * 1024
"""Bytes of a file read at a time, on a thread."""
HASHED = 4 * 1024 * 1024
"""Bytes hashed at a time, on a thread."""
ATTEMPTS = 4
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0
MAX_PROBLEM = 100_000

T = TypeVar("T")


class Digest(Protocol):
    """A hash object of `hashlib`."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class BlobClient:
    """Blobs of one coordinator. For one event loop; `close` it at the end, or use `async with`."""

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{base_url(url)}/blobs/"
        self._token = token
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> BlobClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def has(self, sha: str) -> bool:
        """Whether the coordinator has the blob and this token may read it."""
        try:
            await self._head(sha)
        except (BlobError, ForbiddenBlobError):
            return False
        return True

    async def size(self, sha: str) -> int:
        """Bytes of the blob. Raises `BlobError` where it is not there; else as `put`."""
        length = (await self._head(sha)).get("Content-Length", "")
        if not length.isdecimal():
            raise MessageError("the coordinator does not tell a blob's size", expected="Content-Length")
        return int(length)

    async def put(self, data: bytes | Path, sha: str, *, new: bool = False) -> None:
        """Store the bytes, or the file's bytes, under their SHA-256. Does nothing when the coordinator has
        them; it is not asked about what is probably `new` to it.

        Raises `BlobError` where bytes and name do not match, `StorageFullError`, `TokenError`,
        `ForbiddenBlobError`, or `UnreachableError` after several attempts.
        """
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        if size >= ASK_FIRST and not new and await self.has(sha):
            return

        async def send() -> None:
            body = _file_chunks(data) if isinstance(data, Path) else _chunks(data)
            headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
            async with self._session().put(self._url + sha, data=body, headers=headers) as response:
                await _check(response)

        await _retried(send, self._url)

    async def get(self, sha: str, size: int) -> bytes:
        """The blob's bytes. Raises `BlobError` where they do not match `sha` and `size`, or are not there;
        else as `put`.
        """
        buffer, digest = BytesIO(), hashlib.sha256()

        async def receive() -> None:
            await self._download(sha, size, buffer, digest)

        await _retried(receive, self._url)
        if digest.hexdigest() != sha:
            raise _mismatch(sha, size)
        return buffer.getvalue()

    async def get_to(self, path: Path, sha: str, size: int) -> None:
        """Download the blob to `path`, resuming what an earlier, broken download left beside it. Raises as
        `get`.

        `path` appears only when complete and verified.
        """
        partial = path.with_name(path.name + ".part")
        with partial.open("ab+") as file:
            digest = await asyncio.to_thread(_digest_of, file)

            async def receive() -> None:
                await self._download(sha, size, file, digest)

            if file.tell() <= size:
                await _retried(receive, self._url)
        if digest.hexdigest() != sha:
            partial.unlink()
            raise _mismatch(sha, size)
        partial.replace(path)

    async def _head(self, sha: str) -> Mapping[str, str]:
        """The headers of a GET. Raises `BlobError` where the blob is not there; else as `put`."""

        async def ask() -> Mapping[str, str]:
            async with self._session().head(self._url + sha) as response:
                await _check(response)
                return response.headers

        return await _retried(ask, self._url)

    async def _download(self, sha: str, size: int, file: BytesIO | BufferedRandom, digest: Digest) -> None:
        """Append to `file` what it lacks of the blob. A broken attempt leaves what it got."""
        have = file.tell()
        if have == size and size > 0:
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        async with self._session().get(self._url + sha, headers=headers) as response:
            await _check(response)
            if have and response.status != HTTPStatus.PARTIAL_CONTENT:
                raise MessageError(
                    "the coordinator does not resume downloads", expected="206", received=response.status
                )
            if response.content_length != size - have:
                raise BlobError(
                    "a blob of another size",
                    expected=f"{size:,} bytes",
                    received=f"{(response.content_length or 0) + have:,}",
                )
            await _receive(response.content.iter_any(), file, digest)

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self._token}"},
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
                ),
                read_bufsize=4 * CHUNK,
                auto_decompress=False,
            )
        return self._http


class _TryAgainError(Exception):
    """The coordinator answered that it cannot serve this now."""


async def _retried(attempt: Callable[[], Coroutine[Any, Any, T]], url: str) -> T:
    """The attempt's result; broken connections and 5xx are tried again with growing pauses, a few times."""
    retrying = AsyncRetrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=0.1, max=2.0),
        retry=retry_if_exception_type((aiohttp.ClientError, TimeoutError, _TryAgainError)),
        reraise=True,
    )
    try:
        return await retrying(attempt)
    except (aiohttp.ClientError, TimeoutError, _TryAgainError) as error:
        raise UnreachableError(
            f"a blob could not be transferred in {ATTEMPTS} attempts",
            expected=f"a coordinator at {url}",
            received=f"{type(error).__name__}: {error}",
            hint="check the network, then try again",
        ) from error


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raises the typed error in a refusal."""
    if response.status < HTTPStatus.BAD_REQUEST:
        return
    body = await response.content.read(MAX_PROBLEM)
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except msgspec.MsgspecError:
        problem = _BARE.get(
            response.status, Problem(code="message", message=f"HTTP {response.status} {response.reason}")
        )
    if (
        response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        and response.status != HTTPStatus.INSUFFICIENT_STORAGE
    ):
        raise _TryAgainError(problem.text())
    raise error_from_problem(problem)


_BARE: dict[int, Problem] = {
    HTTPStatus.NOT_FOUND: Problem(code="blob", message="the coordinator does not have this blob"),
    HTTPStatus.UNAUTHORIZED: Problem(code="token", message="the coordinator refused the token"),
    HTTPStatus.FORBIDDEN: Problem(code="forbidden_blob", message="this token may not read this blob"),
}
"""What a status means that came without a Problem: HEAD has no body, and a proxy has its own pages."""


async def _receive(chunks: AsyncIterator[bytes], file: BytesIO | BufferedRandom, digest: Digest) -> None:
    """Write and hash all that comes, also of a download that breaks off; hashing goes on beside receiving."""
    batch: list[bytes] = []
    waiting = 0
    hashing: asyncio.Future[None] | None = None
    try:
        async for chunk in chunks:
            file.write(chunk)
            batch.append(chunk)
            waiting += len(chunk)
            if waiting >= HASHED:
                if hashing is not None:
                    await hashing
                hashing = asyncio.ensure_future(asyncio.to_thread(_update, digest, batch))
                batch, waiting = [], 0
    finally:
        if hashing is not None:
            await hashing
        _update(digest, batch)


def _update(digest: Digest, batch: list[bytes]) -> None:
    for chunk in batch:
        digest.update(chunk)


async def _chunks(data: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), CHUNK):
        yield view[start : start + CHUNK]


async def _file_chunks(path: Path) -> AsyncIterator[memoryview]:
    with path.open("rb") as file:
        while data := await asyncio.to_thread(file.read, READ):
            async for chunk in _chunks(data):
                yield chunk


def _digest_of(file: BufferedRandom) -> Digest:
    """The hash of what is in the file so far; leaves the position at its end."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256")


def _mismatch(sha: str, size: int) -> BlobError:
    return BlobError(
        "a downloaded blob does not match its name",
        expected=f"{size:,} bytes with SHA-256 {sha}",
        received="other bytes",
        hint="the coordinator's storage or the network damages data",
    )
