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
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ravop.protocol.tensors import HEAD, Blob
from ravsock.store.blobstore import CHUNK, BlobWriter, Direct, Lying, checked_name, mismatch, missing
from ravsock.store.troubles import storage_full

SHA_DIGITS = 64
ABANDONED_SECONDS = 86_400.0
"""A temporary file that old belongs to nobody any more."""


class FolderBlobs:
    """A `BlobStore` in a folder, made if needed. Raises `StorageFullError` where the disk is full."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        with _full_disk():
            self._incoming.mkdir(parents=True, exist_ok=True)
        self.direct: Direct | None = None
        self.clear(time.time())

    def identity(self) -> str:
        """What a file in the folder says, which the first who asks writes."""
        path, mine = self._folder / "identity", self._incoming / uuid.uuid4().hex
        if not path.exists():
            mine.write_text(f"folder {mine.name}", encoding="utf-8")
            try:
                os.link(mine, path)
            except FileExistsError:
                mine.unlink()
            except OSError:  # a file system without links
                mine.replace(path)
            else:
                mine.unlink()
        return path.read_text(encoding="utf-8")

    def check(self) -> None:
        """Raises `OSError` where the folder is away."""
        self._folder.stat()

    def has(self, sha: str, place: int | None = None) -> bool:
        return self._path(sha).is_file() and place is None

    def size(self, sha: str, place: int | None = None) -> int:
        """Bytes. Raises `BlobError` where the blob is not there."""
        try:
            return self._path(sha, place).stat().st_size
        except FileNotFoundError:
            raise missing(sha) from None

    def writer(self, sha: str) -> BlobWriter:
        return _FolderWriter(self._incoming / uuid.uuid4().hex, self._path(sha), sha)

    async def put(self, sha: str, chunks: AsyncIterable[bytes]) -> int:
        """Store the bytes and give their number. Raises `BlobError` where their hash is not `sha`."""
        with closing(self.writer(sha)) as writer:
            async for chunk in chunks:
                writer.write(chunk)
            return await asyncio.to_thread(writer.commit)

    def read(
        self, sha: str, place: int | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[bytes]:
        """Bytes `start` to `stop` (None: the end) in chunks of up to 1 MiB. Raises `BlobError` at once where
        the blob is not there."""
        try:
            stream = self._path(sha, place).open("rb", buffering=0)
        except FileNotFoundError:
            raise missing(sha) from None
        return _chunks(stream, start, stop)

    def head(self, blob: Blob, place: int | None = None) -> bytes:
        """The first bytes, enough for a tensor's header. Raises `BlobError` where the blob is not there."""
        return next(self.read(blob.sha, place, 0, HEAD), b"")

    def delete(self, sha: str, place: int | None = None) -> None:
        """Forget the blob; nothing happens where it is not there."""
        if place is None:
            self._path(sha).unlink(missing_ok=True)

    def stored(self, before: float, beginning: str = "") -> Iterator[Lying]:
        """All whose bytes are there since before that time, in seconds since 1970, and whose names begin so: with two
        digits, or any."""
        for path in self._folder.glob(f"{beginning or '[0-9a-f][0-9a-f]'}/[0-9a-f][0-9a-f]/*"):
            with suppress(FileNotFoundError):
                if len(path.name) == SHA_DIGITS and path.stat().st_mtime < before:
                    yield Lying(path.name, None)

    def abort(self, sha: str, place: int, handle: str) -> None:
        """Nothing: no upload to a folder outlives its request."""

    def clear(self, now: float) -> None:
        """Throw away what programs that died left of uploads."""
        for left in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                if left.stat().st_mtime < now - ABANDONED_SECONDS:
                    left.unlink()

    def free(self) -> int:
        """Bytes left on the disk."""
        return shutil.disk_usage(self._folder).free

    def _path(self, sha: str, place: int | None = None) -> Path:
        """Raises `BlobError` for an unchecked copy: there are none here."""
        if place is not None:
            raise missing(sha)
        return self._folder / checked_name(sha)[:2] / sha[2:4] / sha


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
            raise mismatch(self._sha, self._hash.hexdigest())
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

    def close(self) -> None:
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


@contextmanager
def _full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise storage_full(str(error)) from error
        raise
