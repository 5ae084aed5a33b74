"""What a store of blobs is: bytes under their SHA-256, wherever they lie.

Two kinds: a folder (`folder`) and an S3-compatible bucket (`s3`); `places` opens either by its URL. No database here: which
blobs are known and who may read them is in `blobs`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from ravop.errors import BlobError
from ravop.protocol.tensors import Blob

CHUNK = 1024 * 1024
"""Bytes read at a time."""
_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)


class BlobWriter(Protocol):
    """One upload: `write` the bytes, then `commit`, then `close`, which without a commit forgets them. All may block."""

    def write(self, chunk: bytes | bytearray | memoryview) -> None: ...
    def commit(self) -> int: ...
    def close(self) -> None: ...


class Lying(NamedTuple):
    """Bytes that are in the store."""

    sha: str
    place: int | None


class BlobStore(Protocol):
    """Bytes by their SHA-256. All but `put` block for as long as the disk or the network does.

    `place`: which copy; None for the one whose bytes were checked against the name, the id of a token for the one that its
    client uploaded and nobody checked. A folder has checked copies only. Raises `BlobError` for what is not there,
    `StorageFullError`, and `UnreachableError` where the store is elsewhere and cannot be used. `identity`: the same for all
    who use this store, whatever they call it.
    """

    direct: Direct | None
    """How clients transfer without the coordinator; None where they cannot."""

    def identity(self) -> str: ...
    def check(self) -> None: ...
    def has(self, sha: str, place: int | None = None) -> bool: ...
    def size(self, sha: str, place: int | None = None) -> int: ...
    def writer(self, sha: str) -> BlobWriter: ...
    async def put(self, sha: str, chunks: AsyncIterable[bytes]) -> int: ...
    def read(
        self, sha: str, place: int | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[bytes]: ...
    def head(self, blob: Blob, place: int | None = None) -> bytes: ...
    def delete(self, sha: str, place: int | None = None) -> None: ...
    def stored(self, before: float, beginning: str = "") -> Iterator[Lying]: ...
    def abort(self, sha: str, place: int, handle: str) -> None: ...
    def clear(self, now: float) -> None: ...
    def free(self) -> int: ...


class Signed(NamedTuple):
    """A request that anybody may make for a while: its URL, and the headers that it must have."""

    url: str
    headers: Mapping[str, str]


class Direct(Protocol):
    """Transfers between clients and the store itself: what they are given for one.

    All uploads are a token's (`place`). One in a single request ends with `take`, which gives the copy's size, and its
    place: None where the store has checked its hash. One in parts is known by the `handle` that `begin` gave. Raises
    `BlobError` where nothing was stored, or the store does not know the upload any more.
    """

    def download(self, sha: str, place: int | None) -> str: ...
    def upload(self, sha: str, place: int, size: int) -> Signed: ...
    def take(self, sha: str, place: int) -> tuple[int, int | None]: ...
    def begin(self, sha: str, place: int) -> str: ...
    def parts(self, sha: str, place: int, handle: str) -> dict[int, int]: ...
    def part(self, sha: str, place: int, handle: str, number: int, size: int) -> Signed: ...
    def finish(self, sha: str, place: int, handle: str, sizes: Mapping[int, int]) -> None: ...


def checked_name(sha: str) -> str:
    """The name. Raises `BlobError` where it is none."""
    if _NAME.fullmatch(sha) is None:
        raise BlobError("not the name of a blob", expected="64 hexadecimal digits", received=sha[:80])
    return sha


def missing(sha: str) -> BlobError:
    return BlobError("there is no such blob", received=sha)


def mismatch(sha: str, found: str) -> BlobError:
    return BlobError(
        "the bytes do not match the blob's name", expected=sha, received=found,
        hint="send the bytes whose SHA-256 is the name",
    )  # fmt: skip
