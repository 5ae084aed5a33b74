"""The bytes of an upload, from memory or from a file: in pieces, all or a range of them. Used by this package alone."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from ravop.transport.http import CHUNK

READ = 8 * 1024 * 1024
"""Bytes of a file read at a time, on a thread."""


def size_of(data: bytes | Path) -> int:
    return data.stat().st_size if isinstance(data, Path) else len(data)


async def body(data: bytes | Path, start: int, stop: int) -> AsyncIterator[memoryview]:
    """The bytes from `start` to `stop`, in small pieces."""
    pieces = _pieces(data, start, stop)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        for first in range(0, len(piece), CHUNK):
            yield piece[first : first + CHUNK]


async def md5(data: bytes | Path, start: int, stop: int) -> str:
    """As `Content-MD5` has it: the other side sees that nothing was damaged on the way."""

    def digest() -> str:
        found = hashlib.md5(usedforsecurity=False)
        for piece in _pieces(data, start, stop):
            found.update(piece)
        return b64encode(found.digest()).decode()

    return await asyncio.to_thread(digest)


def _pieces(data: bytes | Path, start: int, stop: int) -> Iterator[memoryview]:
    if isinstance(data, bytes):
        yield memoryview(data)[start:stop]
        return
    with data.open("rb") as file:
        file.seek(start)
        left = stop - start
        while left > 0 and (read := file.read(min(READ, left))):
            left -= len(read)
            yield memoryview(read)
