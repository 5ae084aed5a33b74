"""What every store of blobs must do: a folder, and a bucket of an S3 store."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravop.errors import BlobError
from ravop.protocol.tensors import HEAD, Blob
from ravsock.store import BlobStore
from ravsock.store.places import open_blobs

DATA = bytes(range(256)) * 20_000
SHA = hashlib.sha256(DATA).hexdigest()
LATER = 1e11


@dataclass
class Kept:
    """A store, and how to look behind it."""

    open: Callable[[], BlobStore]
    all: Callable[[], list[Any]]
    """What lies there, whole or not."""


@pytest.fixture(params=["folder", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    if request.param == "folder":
        return Kept(lambda: open_blobs(None, tmp_path), lambda: files(tmp_path))
    monkeypatch.setattr("ravsock.store.s3.PART", 1024 * 1024)  # so that `DATA` is several
    server, bucket = request.getfixturevalue("s3"), request.getfixturevalue("bucket")

    def everything() -> list[Any]:
        client = server.client()
        whole = client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return [*whole, *client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]

    return Kept(lambda: open_blobs(server.place(bucket), tmp_path), everything)


@pytest.fixture
def blobs(kept: Kept) -> BlobStore:
    return kept.open()


async def pieces(data: bytes, size: int = 300_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_what_is_put_is_read(kept: Kept, blobs: BlobStore) -> None:
    assert not blobs.has(SHA)
    assert await blobs.put(SHA, pieces(DATA)) == len(DATA)
    assert blobs.has(SHA)
    assert blobs.size(SHA) == len(DATA)
    assert b"".join(blobs.read(SHA)) == DATA
    assert blobs.head(Blob(SHA, len(DATA))) == DATA[:HEAD]
    assert b"".join(kept.open().read(SHA)) == DATA


async def test_putting_again_changes_nothing(kept: Kept, blobs: BlobStore) -> None:
    for _ in range(2):
        await blobs.put(SHA, pieces(DATA))
    assert len(kept.all()) == 1


async def test_small_and_empty_blobs_are_blobs(blobs: BlobStore) -> None:
    for data in (b"", b"x"):
        sha = hashlib.sha256(data).hexdigest()
        assert await blobs.put(sha, pieces(data)) == len(data)
        assert b"".join(blobs.read(sha)) == data
        assert blobs.head(Blob(sha, 0)) == data


async def test_ranges(blobs: BlobStore) -> None:
    await blobs.put(SHA, pieces(DATA))

    @settings(max_examples=10, deadline=None)
    @given(start=st.integers(0, len(DATA) + 5), length=st.integers(0, 2 * 1024 * 1024))
    def ranges(start: int, length: int) -> None:
        assert b"".join(blobs.read(SHA, start=start, stop=start + length)) == DATA[start : start + length]
        assert b"".join(blobs.read(SHA, start=start)) == DATA[start:]

    ranges()


async def test_bytes_of_another_name_are_refused_and_forgotten(kept: Kept, blobs: BlobStore) -> None:
    for data in (DATA[:-1], b"small"):
        with pytest.raises(BlobError, match="do not match"):
            await blobs.put(SHA, pieces(data))
    assert not blobs.has(SHA)
    assert kept.all() == []


async def test_an_upload_that_breaks_off_leaves_nothing(kept: Kept, blobs: BlobStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield DATA[:-1000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await blobs.put(SHA, broken())
    assert not blobs.has(SHA)
    assert kept.all() == []


async def test_deleting(kept: Kept, blobs: BlobStore) -> None:
    await blobs.put(SHA, pieces(DATA))
    blobs.delete(SHA)
    blobs.delete(SHA)
    assert not blobs.has(SHA)
    assert kept.all() == []
    for look in (blobs.size, blobs.read):
        with pytest.raises(BlobError, match="no such blob"):
            look(SHA)


async def test_all_that_lies_there_since_some_time_is_found(blobs: BlobStore) -> None:
    await blobs.put(SHA, pieces(DATA))
    assert list(blobs.stored(LATER)) == [(SHA, None)]
    assert list(blobs.stored(LATER, SHA[:2])) == [(SHA, None)]
    assert list(blobs.stored(LATER, f"{(int(SHA[:2], 16) + 1) % 256:02x}")) == []
    assert list(blobs.stored(0.0)) == []


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 63 + "/", "a" * 64 + "\n"]
)
def test_names_that_are_none_are_refused(blobs: BlobStore, name: str) -> None:
    for look in (blobs.has, blobs.size, blobs.read, blobs.writer, blobs.delete):
        with pytest.raises(BlobError, match="not the name"):
            look(name)
