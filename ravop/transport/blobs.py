"""The bulk plane seen from a client: blobs by HTTP, verified against their names, with bounded retries.

Lives here: PUT, HEAD and GET of blobs, resuming broken downloads, also from where the coordinator sends the client to.
Uploads to elsewhere are in `uploads`. Which blobs to move is the callers' business.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from io import BufferedRandom, BytesIO
from pathlib import Path
from typing import Protocol

import aiohttp

from ravop.errors import BlobError, ForbiddenBlobError, MessageError, UnreachableError
from ravop.protocol.uploads import Here
from ravop.transport.bodies import body, size_of
from ravop.transport.control import base_url
from ravop.transport.http import at_store, check, new_session, retried
from ravop.transport.uploads import Uploads, check_store, store_url

ASK_FIRST = 1024 * 1024
"""Bytes from which an upload first asks whether the coordinator has the blob: below, asking costs more than
sending.
"""
HASHED = 4 * 1024 * 1024
"""Bytes hashed at a time, on a thread."""


class Digest(Protocol):
    """A hash object of `hashlib`."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class BlobClient:
    """Blobs of one coordinator. For one event loop; `close` it at the end, or use `async with`."""

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{base_url(url)}/blobs/"
        self._sessions = _Sessions(token)
        self._uploads = Uploads(self._url, self._sessions)
        self._takes_all = False

    async def __aenter__(self) -> BlobClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._sessions.close()

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
        size = size_of(data)
        if not self._takes_all:
            if not isinstance(await self._uploads.put(data, sha), Here):
                return
            self._takes_all = True
        if size >= ASK_FIRST and not new and await self.has(sha):
            return

        async def send() -> None:
            headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
            pieces = body(data, 0, size)
            async with self._sessions.coordinator().put(
                self._url + sha, data=pieces, headers=headers
            ) as response:
                await check(response)

        await retried(send, self._url)

    async def get(self, sha: str, size: int) -> bytes:
        """The blob's bytes. Raises `BlobError` where they do not match `sha` and `size`, or are not there;
        else as `put`.
        """
        buffer, digest = BytesIO(), hashlib.sha256()
        await self._resumed(sha, size, buffer, digest)
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
            if file.tell() <= size:
                await self._resumed(sha, size, file, digest)
        if digest.hexdigest() != sha:
            partial.unlink()
            raise _mismatch(sha, size)
        partial.replace(path)

    async def _head(self, sha: str) -> Mapping[str, str]:
        """The headers of a GET. Raises `BlobError` where the blob is not there; else as `put`."""

        async def ask() -> Mapping[str, str]:
            async with self._sessions.coordinator().head(self._url + sha) as response:
                await check(response)
                return response.headers

        return await retried(ask, self._url)

    async def _resumed(self, sha: str, size: int, file: BytesIO | BufferedRandom, digest: Digest) -> None:
        """Download what `file` lacks, for as long as each few attempts bring some of it."""
        while True:
            had = file.tell()
            try:
                return await retried(lambda: self._download(sha, size, file, digest), self._url)
            except UnreachableError:
                if file.tell() == had:
                    raise

    async def _download(self, sha: str, size: int, file: BytesIO | BufferedRandom, digest: Digest) -> None:
        """Append to `file` what it lacks of the blob. A broken attempt leaves what it got."""
        have = file.tell()
        if have == size and size > 0:
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        async with self._opened(sha, headers) as response:
            if have and response.status != HTTPStatus.PARTIAL_CONTENT:
                raise MessageError("downloads cannot be resumed", expected="206", received=response.status)
            if response.content_length != size - have:
                raise BlobError(
                    "a blob of another size",
                    expected=f"{size:,} bytes",
                    received=f"{(response.content_length or 0) + have:,}",
                )
            await _receive(response.content.iter_any(), file, digest)

    @asynccontextmanager
    async def _opened(self, sha: str, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response that has the bytes: the coordinator's, or that of the store it names, which is asked anew each
        time, since its URLs expire.
        """
        asking = self._sessions.coordinator().get(self._url + sha, headers=headers, allow_redirects=False)
        async with asking as response:
            if response.status != HTTPStatus.TEMPORARY_REDIRECT:
                await check(response)
                yield response
                return
            url = store_url(response.headers.get("Location", ""))
        with at_store(url):
            async with self._sessions.store().get(url, headers=headers, allow_redirects=False) as response:
                await check_store(response, HTTPStatus.PARTIAL_CONTENT if headers else HTTPStatus.OK)
                yield response


class _Sessions:
    """Two: only the coordinator gets the token."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._open: dict[bool, aiohttp.ClientSession] = {}

    def coordinator(self) -> aiohttp.ClientSession:
        return self._get(True)

    def store(self) -> aiohttp.ClientSession:
        return self._get(False)

    async def close(self) -> None:
        for session in self._open.values():
            await session.close()

    def _get(self, trusted: bool) -> aiohttp.ClientSession:
        if trusted not in self._open:
            self._open[trusted] = new_session(self._token if trusted else None)
        return self._open[trusted]


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
