"""What the coordinator keeps and what it deletes: quotas, strays, and stores that do not let go of bytes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
import pytest
from coordinators import serving

from ravop.errors import QuotaError, StorageFullError
from ravop.protocol.tensors import sha256
from ravop.transport import BlobClient
from ravsock.server import clock, collector, storage
from ravsock.server.storage import Storage
from ravsock.server.writer import Writer
from ravsock.store import FolderBlobs, Store

DATA = b"1234567890"


class Stubborn(FolderBlobs):
    """A folder whose bytes may not be deleted, for a while."""

    stubborn = True

    def delete(self, sha: str, place: int | None = None) -> None:
        if self.stubborn:
            raise PermissionError(13, "Permission denied")
        super().delete(sha, place)


@asynccontextmanager
async def keeping(tmp_path: Path) -> AsyncIterator[tuple[Store, Stubborn, Storage]]:
    with closing(Store(f"sqlite:///{tmp_path / 'raven.db'}")) as store:
        store.migrate()
        blobs, writer = Stubborn(tmp_path / "blobs"), Writer(store)
        try:
            yield store, blobs, Storage(blobs, store, writer)
        finally:
            await writer.stop()


async def test_a_quota_is_told_and_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        small = served.store.create_token("requester", "small", clock.now(), 25)
        owner = served.store.authenticate(small).token_id
        async with BlobClient(served.url, small) as blobs:
            for data in (DATA, DATA, DATA[::-1]):
                await blobs.put(data, sha256(data))
            with pytest.raises(QuotaError, match="20 bytes used, and 6 bytes more") as caught:
                await blobs.put(b"123456", sha256(b"123456"))
            assert "R.flush()" in caught.value.problem.hint
            assert served.store.usage(owner).used == 20
            assert served.store.set_quota("small", 26) == 1
            await blobs.put(b"123456", sha256(b"123456"))
        headers = {"Authorization": f"Bearer {small}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.put(f"{served.url}/blobs/{sha256(b'more')}", data=b"more") as response,
        ):
            assert response.status == 413
        listed = next(row for row in served.store.list_tokens() if row.name == "small")
        assert (listed.used, listed.quota) == (26, 26)


async def test_of_what_is_refused_nothing_stays(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, BlobClient(served.url, served.token("requester")) as blobs:
        served.store.quota = 100_000
        many = [bytes([number]) * 60_000 for number in range(4)]
        ends = await asyncio.gather(*(blobs.put(d, sha256(d)) for d in many), return_exceptions=True)
        assert [type(end) for end in ends if end is not None] == [QuotaError] * 3
        assert [served.blobs.has(sha256(d)) for d in many] == [end is None for end in ends]


async def test_an_upload_that_does_not_say_its_size_may_be_too_large(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield DATA

    async with serving(tmp_path) as served:
        served.store.quota = 100_000
        headers = {"Authorization": f"Bearer {served.token('requester')}"}
        url = f"{served.url}/blobs/{sha256(DATA)}"
        async with aiohttp.ClientSession(headers=headers) as http, http.put(url, data=pieces()) as response:
            assert response.status == 413


async def test_the_database_does_not_wait_for_a_store_that_hangs(tmp_path: Path) -> None:
    async with keeping(tmp_path) as (store, blobs, kept):
        hangs = threading.Event()
        blobs.has = lambda sha, place=None: hangs.wait()  # type: ignore[method-assign]
        keeping_many = [asyncio.create_task(kept.keep(sha256(DATA), DATA)) for _ in range(100)]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(store.recorded, [sha256(DATA)]) == set()
        hangs.set()
        await asyncio.gather(*keeping_many)


async def test_what_is_collected_counts_no_more_and_may_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "GRACE_SECONDS", -1.0)
    async with keeping(tmp_path) as (store, blobs, kept):
        owner = store.authenticate(store.create_token("requester", "ann", clock.now(), 10)).token_id
        await kept.keep(sha256(DATA), DATA, owner)
        collected = await kept.collect()
        assert (collected.gone, "Permission denied" in collected.trouble) == (0, True)
        assert blobs.has(sha256(DATA))
        assert store.find_blob(sha256(DATA), owner) is None
        assert store.usage(owner).used == 0
        blobs.stubborn = False
        monkeypatch.setattr(clock, "now", lambda: 1e10)
        assert await kept.collect() == collector.Collected(1)
        assert not blobs.has(sha256(DATA))
        await kept.keep(sha256(DATA), DATA, owner)
        assert store.usage(owner).used == 10


async def test_bytes_that_nobody_recorded_go_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "BEGINNINGS", ("",))
    async with keeping(tmp_path) as (store, blobs, kept):
        blobs.stubborn = False
        await kept.keep(sha256(DATA), DATA)
        for data in (b"old", b"young"):
            with closing(blobs.writer(sha256(data))) as writer:
                writer.write(data)
                writer.commit()
        for data in (b"old", DATA):
            name = sha256(data)
            os.utime(tmp_path / "blobs" / name[:2] / name[2:4] / name, (0, 0))
        owner = store.authenticate(store.create_token("requester", "ann", 0.0)).token_id
        store.begin_upload("ab" * 32, owner, 5, "handle", 0.0)
        assert (await kept.collect()).gone == 1
        assert [blobs.has(sha256(data)) for data in (b"old", b"young", DATA)] == [False, True, True]
        assert store.upload("ab" * 32, owner) is None


async def test_the_last_of_a_disk_is_kept_for_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with keeping(tmp_path) as (_, blobs, kept):
        monkeypatch.setattr(blobs, "free", lambda: storage.RESERVED + 9)
        with pytest.raises(StorageFullError):
            await kept.keep(sha256(DATA), DATA)
        monkeypatch.setattr(blobs, "free", lambda: storage.RESERVED + 10)
        await kept.keep(sha256(DATA), DATA)
        assert kept.nearly_full()
