"""What is special about blobs in a folder: a disk that is full, and what a dead program left."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path

import pytest
from test_blob_stores import DATA, SHA, files, pieces

from ravop.errors import BlobError, StorageFullError
from ravsock.store import BlobStore, FolderBlobs
from ravsock.store.folder import ABANDONED_SECONDS


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return FolderBlobs(tmp_path / "blobs")


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
    with closing(writer), Path("/dev/full").open("wb", buffering=0) as full:
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


async def test_there_are_checked_copies_only(blobs: BlobStore) -> None:
    await blobs.put(SHA, pieces(DATA))
    assert not blobs.has(SHA, 7)
    with pytest.raises(BlobError, match="no such blob"):
        blobs.read(SHA, 7)
    blobs.delete(SHA, 7)
    assert blobs.has(SHA)
    assert blobs.direct is None
