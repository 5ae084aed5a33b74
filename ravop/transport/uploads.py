"""Uploads past the coordinator, to the store that it names: in parts, side by side, each again until it is there.

The coordinator is asked before anything is sent, and again when something did not get there: it then lists what is
missing, with fresh URLs. So an upload goes on after a cut, after URLs have expired, and in another process. What is said is in
`ravop.protocol.uploads`.
"""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec
from yarl import URL

from ravop.errors import BlobError, MessageError
from ravop.protocol.uploads import (
    CHECKSUM,
    MAX_ANSWER,
    Answer,
    Elsewhere,
    Here,
    Offer,
    Part,
    There,
    decode_answer,
    part_range,
)
from ravop.transport.bodies import body, md5, size_of
from ravop.transport.http import (
    ATTEMPTS,
    MAX_PAUSE_SECONDS,
    PAUSE_SECONDS,
    TRANSIENT,
    TryAgainError,
    at_store,
    check,
    given_up,
    retried,
)

PARALLEL = 4
"""Parts of one blob that are sent at a time."""
MAX_REASON = 2_000
_REASON = re.compile(
    r"<Code>([A-Za-z0-9_.]{1,100})</Code>(?:.{0,20}?<Message>([^<]{1,500})</Message>)?", re.S
)
_OTHER_BYTES = frozenset({"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"})


class Sessions(Protocol):
    """Connections, made when they are needed."""

    def coordinator(self) -> aiohttp.ClientSession: ...
    def store(self) -> aiohttp.ClientSession: ...


class Uploads:
    """`url`: of the coordinator's blobs, with a slash at its end."""

    def __init__(self, url: str, sessions: Sessions) -> None:
        self._url = url
        self._sessions = sessions

    async def put(self, data: bytes | Path, sha: str) -> There | Here:
        """Store the blob as the coordinator says; `Here`: it wants the bytes itself, and none were sent.

        Raises `BlobError` where bytes and name do not match, a refusal of the coordinator, or `UnreachableError` when
        nothing gets through in several attempts.
        """
        size, failures = size_of(data), 0
        while True:
            answer = await retried(lambda: self._ask(sha, size), self._url)
            if not isinstance(answer, Elsewhere):
                return answer
            sent, trouble = await self._send(answer, data, size)
            if trouble is None and not answer.more:
                trouble = await self._finish(sha, answer.upload)
                if trouble is None:
                    return There()
                sent = 0
            failures = 0 if sent else failures + (trouble is not None)
            if failures >= ATTEMPTS and trouble is not None:
                raise given_up(trouble, self._url) from trouble
            if trouble is not None:
                await asyncio.sleep(min(MAX_PAUSE_SECONDS, PAUSE_SECONDS * 2**failures))

    async def _ask(self, sha: str, size: int) -> Answer:
        offer = msgspec.json.encode(Offer(size))
        async with self._sessions.coordinator().post(f"{self._url}{sha}/uploads", data=offer) as response:
            if response.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
                return Here()  # it is of a release that takes all blobs itself
            await check(response)
            return decode_answer(await response.content.read(MAX_ANSWER))

    async def _send(
        self, answer: Elsewhere, data: bytes | Path, size: int
    ) -> tuple[int, BaseException | None]:
        """How many parts got there, and why the others did not, if so."""
        gate = asyncio.Semaphore(PARALLEL)

        async def send(part: Part) -> None:
            start, stop = part_range(part.number, answer.part, size)
            async with gate:
                await self._send_part(part, data, start, stop)

        ends = await asyncio.gather(*map(send, answer.parts), return_exceptions=True)
        troubles = [end for end in ends if end is not None]
        for trouble in troubles:
            if not isinstance(trouble, TRANSIENT):
                raise trouble
        return len(ends) - len(troubles), troubles[0] if troubles else None

    async def _send_part(self, part: Part, data: bytes | Path, start: int, stop: int) -> None:
        headers = {**part.headers, "Content-Length": str(stop - start)}
        if CHECKSUM not in headers:
            headers["Content-MD5"] = await md5(data, start, stop)
        url = URL(part.url, encoded=True)
        sending = self._sessions.store().put(
            url, data=body(data, start, stop), headers=headers, allow_redirects=False
        )
        with at_store(url):
            async with sending as response:
                await check_store(response)

    async def _finish(self, sha: str, upload: str) -> BaseException | None:
        """None when the coordinator has taken the blob; what it found missing, where that can be sent again."""

        async def finish() -> None:
            async with self._sessions.coordinator().post(f"{self._url}{sha}/uploads/{upload}") as response:
                await check(response)

        try:
            await retried(finish, self._url)
        except BlobError as error:
            return error
        return None


async def check_store(response: aiohttp.ClientResponse, expected: int = HTTPStatus.OK) -> None:
    """Raises `BlobError` where the store says that the bytes are others, or not there; else `TryAgainError`: with a new
    URL it may go well.
    """
    if response.status == expected:
        return
    text = (await response.content.read(MAX_REASON)).decode("utf-8", "replace")
    found = _REASON.search(text)
    code, message = found.groups("") if found else ("", "")
    said = f"HTTP {response.status} {response.reason} {code} {message}".strip()
    if code in _OTHER_BYTES:
        raise BlobError(
            "the bytes do not match the blob's name", received=said, hint="they changed while they were sent"
        )
    if response.status == HTTPStatus.NOT_FOUND:
        raise BlobError("the store does not have this blob", received=said)
    raise TryAgainError(f"the store of blobs: {said}")


def store_url(location: str) -> URL:
    """The URL that the coordinator sends a client to. Raises `MessageError` for anything but http and https."""
    try:
        url = URL(location, encoded=True)
    except ValueError as error:
        raise MessageError("not a URL of a blob", received=location[:200]) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise MessageError("not a URL of a blob", expected="http:// or https://", received=location[:200])
    return url
