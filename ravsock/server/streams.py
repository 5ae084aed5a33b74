"""Bodies of HTTP requests and answers as they come and go: piece by piece, measured, in ranges. Used by `blobs`."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice

from ravop.errors import MessageError, WaitTimeoutError
from ravsock.server.http import Receive

STALLED_SECONDS = 60.0
"""An upload of which nothing arrives for so long is broken off."""
AT_ONCE = 4
"""Chunks of a megabyte read at a time, on a thread."""
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class GoneError(Exception):
    """The client broke off in the middle of an upload."""


async def short_body(receive: Receive, limit: int) -> bytes:
    """All of a body. Raises `MessageError` where it is larger than `limit` bytes."""
    gathered = b""
    async for piece in body(receive):
        gathered += piece
        if len(gathered) > limit:
            raise MessageError("the request is too large", expected=f"at most {limit:,} bytes")
    return gathered


class Meter:
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
    def total(self) -> int:
        """All bytes so far."""
        return self._total

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


async def body(receive: Receive) -> AsyncIterator[bytes]:
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
            raise GoneError
        more = message.get("more_body", False)
        if body := message.get("body"):
            yield body


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def some(chunks: Iterator[bytes]) -> list[bytes]:
    return list(islice(chunks, AT_ONCE))


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Start and stop of the one range that `header` asks for; None where there is nothing to give."""
    found = _RANGE.fullmatch(header.strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(int(last) + 1, size) if first and last else size
    return (start, stop) if start < stop else None
