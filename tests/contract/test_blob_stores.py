"""What every store of blobs must do; so far there is one, a folder."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravop.errors import BlobError, StorageFullError
from ravop.protocol.tensors import HEAD, Blob
from ravsock.store import BlobStore, FolderBlobs
from ravsock.store.folder import ABANDONED_SECONDS

DATA = bytes(range(256)) * 20_000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return FolderBlobs(tmp_path / "blobs")


async def pieces(data: bytes, size: int = 300_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_what_is_put_is_read(blobs: BlobStore, tmp_path: Path) -> None:
    assert not blobs.has(SHA)
    assert await blobs.put(SHA, pieces(DATA)) == len(DATA)
    assert blobs.has(SHA)
    assert blobs.size(SHA) == len(DATA)
    assert b"".join(blobs.read(SHA)) == DATA
    assert blobs.head(Blob(SHA, len(DATA))) == DATA[:HEAD]
    again = FolderBlobs(tmp_path / "blobs")
    assert b"".join(again.read(SHA)) == DATA


async def test_putting_again_changes_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    for _ in range(2):
        await blobs.put(SHA, pieces(DATA))
    assert len(files(tmp_path)) == 1


async def test_an_empty_blob_is_a_blob(blobs: BlobStore) -> None:
    sha = hashlib.sha256(b"").hexdigest()
    assert await blobs.put(sha, pieces(b"")) == 0
    assert list(blobs.read(sha)) == []
    assert blobs.head(Blob(sha, 0)) == b""


@given(start=st.integers(0, len(DATA) + 5), length=st.integers(0, 2 * 1024 * 1024))
def test_ranges(tmp_path_factory: pytest.TempPathFactory, start: int, length: int) -> None:
    blobs = FolderBlobs(tmp_path_factory.getbasetemp() / "ranges")
    if not blobs.has(SHA):
        with blobs.writer(SHA) as writer:
            writer.write(DATA)
            writer.commit()
    assert b"".join(blobs.read(SHA, start=start, stop=start + length)) == DATA[start : start + length]
    assert b"".join(blobs.read(SHA, start=start)) == DATA[start:]


async def test_bytes_of_another_name_are_refused_and_forgotten(blobs: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(BlobError, match="do not match"):
        await blobs.put(SHA, pieces(DATA[:-1]))
    assert not blobs.has(SHA)
    assert files(tmp_path) == []


async def test_an_upload_that_breaks_off_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield DATA[:1000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await blobs.put(SHA, broken())
    assert not blobs.has(SHA)
    assert files(tmp_path) == []


async def test_deleting(blobs: BlobStore) -> None:
    await blobs.put(SHA, pieces(DATA))
    blobs.delete(SHA)
    blobs.delete(SHA)
    assert not blobs.has(SHA)
    for look in (blobs.size, blobs.read):
        with pytest.raises(BlobError, match="no such blob"):
            look(SHA)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 63 + "/"])
def test_names_that_are_none_are_refused(blobs: BlobStore, name: str) -> None:
    for look in (blobs.has, blobs.size, blobs.read, blobs.writer, blobs.delete):
        with pytest.raises(BlobError, match="not the name"):
            look(name)


@pytest.mark.parametrize("call", ["fsync", "mkdir"])
async def test_a_full_disk_says_so(
    blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", full) if call == "fsync" else (Path, "mkdir", full)))
    with pytest.raises(StorageFullError):
        await blobs.put(SHA, pieces(DATA))
    monkeypatch.undo()
    assert files(tmp_path) == []
    await blobs.put(SHA, pieces(DATA))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full of Linux")
async def test_a_device_that_is_full_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    writer = blobs.writer(SHA)
    with writer, Path("/dev/full").open("wb", buffering=0) as full:
        original = writer._stream  # type: ignore[attr-defined]
        writer._stream = full  # type: ignore[attr-defined]
        with pytest.raises(StorageFullError):
            writer.write(DATA)
        writer._stream = original  # type: ignore[attr-defined]


def test_what_a_dead_program_left_is_cleared_away(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    FolderBlobs(folder)
    old, fresh = folder / "incoming" / "old", folder / "incoming" / "fresh"
    for left in (old, fresh):
        left.write_bytes(b"half")
    long_ago = fresh.stat().st_mtime - 2 * ABANDONED_SECONDS
    os.utime(old, (long_ago, long_ago))
    FolderBlobs(folder)
    assert files(folder) == [fresh]
