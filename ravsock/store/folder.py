"""Blobs as files in a folder: `ab/cd/<sha256>`, each written beside and moved into place when it is whole and
durable.

No database here: which blobs are known and who may read them is in `blobs`.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

from ravop.errors import BlobError
from ravop.protocol.tensors import HEAD, Blob
from ravsock.store.database import storage_full

CHUNK = 1024 * 1024
"""Bytes read at a time."""
ABANDONED_SECONDS = 86_400.0
"""A temporary file that old belongs to nobody any more."""


class BlobWriter(Protocol):
    """One upload: `write` the bytes, then `commit`; leaving the block without a commit forgets them."""

    def write(self, chunk: bytes | bytearray | memoryview) -> None: ...
    def commit(self) -> int: ...
    def __enter__(self) -> BlobWriter: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BlobStore(Protocol):
    """Bytes by their SHA-256. All but `put` block for as long as the disk does."""

    def has(self, sha: str) -> bool: ...
    def size(self, sha: str) -> int: ...
    def writer(self, sha: str) -> BlobWriter: ...
    async def put(self, sha: str, chunks: AsyncIterable[bytes]) -> int: ...
    def read(self, sha: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]: ...
    def head(self, blob: Blob) -> bytes: ...
    def delete(self, sha: str) -> None: ...
    def free(self) -> int: ...


class FolderBlobs:
    """A `BlobStore` in a folder, made if needed. Raises `StorageFullError` where the disk is full."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        with _full_disk():
            self._incoming.mkdir(parents=True, exist_ok=True)
        oldest = time.time() - ABANDONED_SECONDS
        for left in self._incoming.iterdir():
            if left.stat().st_mtime < oldest:
                left.unlink(missing_ok=True)

    def has(self, sha: str) -> bool:
        return self._path(sha).is_file()

    def size(self, sha: str) -> int:
        """Bytes. Raises `BlobError` where the blob is not there."""
        try:
            return self._path(sha).stat().st_size
        except FileNotFoundError:
            raise _missing(sha) from None

    def writer(self, sha: str) -> BlobWriter:
        return _FolderWriter(self._incoming / uuid.uuid4().hex, self._path(sha), sha)

    async def put(self, sha: str, chunks: AsyncIterable[bytes]) -> int:
        """Store the bytes and give their number. Raises `BlobError` where their hash is not `sha`."""
        with self.writer(sha) as writer:
            async for chunk in chunks:
                writer.write(chunk)
            return await asyncio.to_thread(writer.commit)

    def read(self, sha: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Bytes `start` to `stop` (None: the end) in chunks of up to 1 MiB. Raises `BlobError` at once where
        the blob is not there."""
        try:
            stream = self._path(sha).open("rb", buffering=0)
        except FileNotFoundError:
            raise _missing(sha) from None
        return _chunks(stream, start, stop)

    def head(self, blob: Blob) -> bytes:
        """The first bytes, enough for a tensor's header. Raises `BlobError` where the blob is not there."""
        return next(self.read(blob.sha, 0, HEAD), b"")

    def delete(self, sha: str) -> None:
        """Forget the blob; nothing happens where it is not there."""
        self._path(sha).unlink(missing_ok=True)

    def free(self) -> int:
        """Bytes left on the disk."""
        return shutil.disk_usage(self._folder).free

    def _path(self, sha: str) -> Path:
        if len(sha) != 64 or not set(sha) <= set("0123456789abcdef"):
            raise BlobError("not the name of a blob", expected="64 hexadecimal digits", received=sha[:80])
        return self._folder / sha[:2] / sha[2:4] / sha


class _FolderWriter:
    def __init__(self, temporary: Path, target: Path, sha: str) -> None:
        self._temporary, self._target, self._sha = temporary, target, sha
        self._hash = hashlib.sha256()
        self._size = 0
        with _full_disk():
            self._stream: BinaryIO = temporary.open("wb", buffering=0)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        self._hash.update(chunk)
        self._size += len(chunk)
        view = memoryview(chunk)
        with _full_disk():
            while view:
                view = view[self._stream.write(view) :]

    def commit(self) -> int:
        """Make the bytes durable under their name; gives their number. Raises `BlobError` where they are
        others.
        """
        if self._hash.hexdigest() != self._sha:
            raise BlobError(
                "the bytes do not match the blob's name", expected=self._sha, received=self._hash.hexdigest(),
                hint="send the bytes whose SHA-256 is the name",
            )  # fmt: skip
        with _full_disk():
            os.fsync(self._stream.fileno())
            self._stream.close()
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.replace(self._target)
            for folder in (
                self._target.parent,
                self._target.parent.parent,
                self._target.parent.parent.parent,
            ):
                _sync_folder(folder)
        return self._size

    def __enter__(self) -> _FolderWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._temporary.unlink(missing_ok=True)


def _chunks(stream: BinaryIO, start: int, stop: int | None) -> Iterator[bytes]:
    with stream:
        stream.seek(start)
        left = CHUNK if stop is None else stop - start
        while left > 0 and (chunk := stream.read(min(CHUNK, left))):
            yield chunk
            left = CHUNK if stop is None else left - len(chunk)


def _sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _missing(sha: str) -> BlobError:
    return BlobError("there is no such blob", received=sha)


@contextmanager
def _full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise storage_full(str(error)) from error
        raise
