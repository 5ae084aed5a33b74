"""Blobs in a bucket, between real clients, a coordinator and an S3 store: nothing passes through the coordinator, transfers
go on after cuts, and nobody gets what is not theirs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import numpy as np
import pytest
from coordinators import Served, branches, expected, serving
from relay import Relay, relaying

from ravop.errors import BlobError, ForbiddenBlobError, QuotaError, UnreachableError
from ravop.protocol.tensors import sha256
from ravop.protocol.uploads import Answer, Elsewhere, Offer, There, decode_answer
from ravop.transport import BlobClient
from ravsock.store import BlobStore
from ravsock.store.places import open_blobs

if TYPE_CHECKING:
    from buckets import S3Server

PART = 200_000
LARGE = random.Random(0).randbytes(7 * PART + 17)
LARGE_SHA = sha256(LARGE)
DATA = LARGE[-PART - 17 :]
SHA = sha256(DATA)
SMALL = DATA[: PART - 1]
SMALL_SHA = sha256(SMALL)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ravsock.server.uploads.PART", PART)
    monkeypatch.setattr("ravsock.server.uploads.WHOLE", PART)
    monkeypatch.setattr("ravsock.server.uploads.LISTED", 3)


@dataclass
class Bulk:
    """A bucket, which clients reach by way of `relay`."""

    server: S3Server
    bucket: str
    relay: Relay

    def open(self, folder: Path) -> BlobStore:
        return open_blobs(self.server.place(self.bucket), folder, public_endpoint=self.relay.url)

    @asynccontextmanager
    async def serving(self, data: Path, **options: Any) -> AsyncIterator[Served]:
        async with serving(data, self.open, **options) as served:
            yield served


@pytest.fixture
def bulk(s3: S3Server, bucket: str) -> Iterator[Bulk]:
    with relaying(s3.url) as relay:
        yield Bulk(s3, bucket, relay)


def requester(served: Served, url: str = "") -> BlobClient:
    return BlobClient(url or served.url, served.token("requester"))


async def test_blobs_of_all_sizes_go_both_ways_past_the_coordinator(tmp_path: Path, bulk: Bulk) -> None:
    async with bulk.serving(tmp_path) as served:
        with relaying(served.url) as control:
            async with requester(served, control.url) as blobs:
                for data in (b"", b"x", SMALL, DATA):
                    await blobs.put(data, sha256(data))
                    assert await blobs.get(sha256(data), len(data)) == data
                (tmp_path / "file").write_bytes(DATA[1:])
                await blobs.put(tmp_path / "file", sha256(DATA[1:]))
                await blobs.get_to(tmp_path / "copy", sha256(DATA[1:]), len(DATA) - 1)
                assert (tmp_path / "copy").read_bytes() == DATA[1:]
                before = bulk.relay.passed
                await blobs.put(DATA, SHA)
                assert bulk.relay.passed == before  # it is there
            assert bulk.relay.passed > 4 * len(DATA)
            assert control.passed < 50_000


@pytest.mark.parametrize("whole", [PART, 1000], ids=["at once", "in parts"])
async def test_a_graph_with_large_values_is_computed_past_the_coordinator(
    tmp_path: Path, bulk: Bulk, monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    """In parts, nobody has checked the copies: each is for the graph that it belongs to."""
    monkeypatch.setattr("ravsock.server.uploads.WHOLE", whole)
    size = 200  # values of 160 kB
    async with (
        bulk.serving(tmp_path) as served,
        served.requester() as requester,
        served.provider("one") as one,
        served.provider("two") as two,
    ):
        received = _count(served)  # only what the coordinator makes itself
        graph_id = await requester.run(branches(3, size))
        for provider in (one, two):
            provider.keep_working()
        await requester.until_state(graph_id, "done")
        values = await requester.fetch(graph_id, "branch_0", "branch_2")
        for index, value in zip((0, 2), values, strict=True):
            np.testing.assert_allclose(value, expected(index, size), rtol=1e-5)
        assert set(received) == {task.subgraph for provider in (one, two) for task in provider.done}


def _count(served: Served) -> list[str]:
    """Blobs that the coordinator is sent from now on."""
    received: list[str] = []
    writer = served.blobs.writer

    def noting(sha: str) -> Any:
        received.append(sha)
        return writer(sha)

    served.blobs.writer = noting  # type: ignore[method-assign]
    return received


async def test_an_upload_goes_on_after_cuts_and_in_another_process(tmp_path: Path, bulk: Bulk) -> None:
    async with bulk.serving(tmp_path) as served:
        token = served.token("requester")
        bulk.relay.cuts = [PART + PART // 2, 2 * PART]
        async with BlobClient(served.url, token) as blobs:
            sending = asyncio.create_task(blobs.put(LARGE, LARGE_SHA))
            async with asyncio.timeout(20):
                while await asyncio.to_thread(_parts, served, token) < 3:
                    await asyncio.sleep(0.001)
            sending.cancel()
        sent = bulk.relay.passed
        async with BlobClient(served.url, token) as blobs:
            await blobs.put(LARGE, LARGE_SHA)
            assert bulk.relay.passed - sent < len(LARGE) - 2 * PART
            assert await blobs.get(LARGE_SHA, len(LARGE)) == LARGE


def _parts(served: Served, token: str) -> int:
    """How many parts of `LARGE` the bucket has."""
    owner = served.store.authenticate(token).token_id
    upload = served.store.upload(LARGE_SHA, owner)
    assert served.blobs.direct is not None
    return len(served.blobs.direct.parts(LARGE_SHA, owner, upload.handle)) if upload else 0


async def test_a_download_goes_on_after_more_cuts_than_attempts(tmp_path: Path, bulk: Bulk) -> None:
    async with bulk.serving(tmp_path) as served, requester(served) as blobs:
        await blobs.put(LARGE, LARGE_SHA)
        start = bulk.relay.passed
        bulk.relay.cuts = [start + PART * (1 + number) for number in range(6)]
        await blobs.get_to(tmp_path / "copy", LARGE_SHA, len(LARGE))
        assert (tmp_path / "copy").read_bytes() == LARGE
        assert bulk.relay.cuts == []
        assert bulk.relay.passed - start < 2 * len(LARGE)


async def test_urls_that_have_expired_are_asked_for_anew(
    tmp_path: Path, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator signs with a clock of two hours ago, now and then."""
    signed = 0
    present = datetime.now

    def clock(remove_tzinfo: bool = True) -> datetime:
        nonlocal signed
        signed += 1
        at = present(UTC) - timedelta(hours=2 * (signed % 2 == 1))
        return at.replace(tzinfo=None) if remove_tzinfo else at

    async with bulk.serving(tmp_path) as served, requester(served) as blobs:
        sign = type(served.blobs.direct)._signed  # type: ignore[union-attr]

        def at_another_time(self: Any, *args: Any, **params: Any) -> str:
            with monkeypatch.context() as patched:
                patched.setattr("botocore.auth.get_current_datetime", clock)
                return str(sign(self, *args, **params))

        monkeypatch.setattr("ravsock.store.presigned.Presigned._signed", at_another_time)
        await blobs.put(DATA, SHA)
        for _ in range(2):
            assert await blobs.get(SHA, len(DATA)) == DATA
        assert signed >= 6


async def test_the_same_blob_from_many_at_once(tmp_path: Path, bulk: Bulk) -> None:
    async with bulk.serving(tmp_path) as served:
        one, other = served.token("requester"), served.token("requester")
        clients = [BlobClient(served.url, token) for token in (one, one, other)]
        for data in (SMALL, DATA):
            sha = sha256(data)
            await asyncio.gather(*(client.put(data, sha) for client in clients))
            for client in clients:
                assert await client.get(sha, len(data)) == data
        for client in clients:
            await client.close()


async def test_nobody_can_damage_a_blob_for_others(tmp_path: Path, bulk: Bulk) -> None:
    async with bulk.serving(tmp_path) as served, requester(served) as good, requester(served) as bad:
        await bad.put(bytes(len(DATA)), SHA)
        await good.put(DATA, SHA)
        assert await good.get(SHA, len(DATA)) == DATA
        with pytest.raises(BlobError, match="does not match"):
            await bad.get(SHA, len(DATA))
        with pytest.raises(BlobError, match="do not match"):
            await bad.put(bytes(len(SMALL)), SMALL_SHA)
        assert not await bad.has(SMALL_SHA)


@asynccontextmanager
async def speaking(served: Served, role: str = "requester") -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {served.token(role)}"}
    async with aiohttp.ClientSession(served.url, headers=headers) as http:
        yield http


async def ask(http: aiohttp.ClientSession, sha: str, size: int) -> Answer:
    async with http.post(f"/blobs/{sha}/uploads", data=msgspec.json.encode(Offer(size))) as response:
        assert response.status == 200, await response.text()
        return decode_answer(await response.read())


async def end(http: aiohttp.ClientSession, sha: str, upload: str) -> int:
    async with http.post(f"/blobs/{sha}/uploads/{upload}") as response:
        return response.status


async def test_who_only_says_that_it_has_a_blob_gets_nothing(tmp_path: Path, bulk: Bulk) -> None:
    async with bulk.serving(tmp_path) as served, requester(served) as owner, speaking(served) as thief:
        for data in (SMALL, DATA):
            sha = sha256(data)
            await owner.put(data, sha)
            answer = await ask(thief, sha, len(data))
            assert isinstance(answer, Elsewhere)
            assert await end(thief, sha, answer.upload) == 400
            assert await end(thief, sha, "0" * 32) == 400
            async with thief.get(f"/blobs/{sha}", allow_redirects=False) as response:
                assert response.status == 403
        lied = await ask(thief, SHA, 5)  # then what was begun is of no use
        assert isinstance(lied, Elsewhere)
        assert lied.part == 5


async def test_who_may_not_write_is_told_no_urls(tmp_path: Path, bulk: Bulk) -> None:
    async with bulk.serving(tmp_path) as served:
        async with speaking(served, "provider") as provider:
            for path in (f"/blobs/{SHA}/uploads", f"/blobs/{SHA}/uploads/abc"):
                async with provider.post(path, data=b'{"size":1}') as response:
                    assert response.status == 403
        async with (
            aiohttp.ClientSession(served.url) as nobody,
            nobody.post(f"/blobs/{SHA}/uploads", data=b'{"size":1}') as response,
        ):
            assert response.status == 401


async def test_requests_that_are_none(tmp_path: Path, bulk: Bulk) -> None:
    async with bulk.serving(tmp_path) as served, speaking(served) as http:

        async def status(path: str, said: bytes = b'{"size":1}') -> int:
            async with http.post(f"/blobs/{SHA}/{path}", data=said) as response:
                return response.status

        sizes = (b"-1", b"99999999999999999", b'"1"', b"null", b"1" * 2000, b"[" * 900)
        for said in (b"", b"{}", *(b'{"size":' + size + b"}" for size in sizes)):
            assert await status("uploads", said) == 400
        for path in ("uploads/../..", "uploads/%2e%2e", "uploads/ABC", "uploads/a/b", "up", "uploads/"):
            assert await status(path) in (400, 404, 405)


async def test_a_quota_is_looked_at_before_anything_is_sent(tmp_path: Path, bulk: Bulk) -> None:
    async with bulk.serving(tmp_path) as served, requester(served) as blobs:
        served.store.quota = len(DATA)
        before = bulk.relay.passed
        with pytest.raises(QuotaError):
            await blobs.put(DATA + b"more", sha256(DATA + b"more"))
        assert bulk.relay.passed == before
        await blobs.put(DATA, SHA)
        with pytest.raises(QuotaError):
            await blobs.put(SMALL, SMALL_SHA)
    assert "Uploads" not in bulk.server.client().list_multipart_uploads(Bucket=bulk.bucket)


async def test_without_signed_urls_all_passes_through_the_coordinator(
    tmp_path: Path, s3: S3Server, bucket: str
) -> None:
    def opened(folder: Path) -> BlobStore:
        return open_blobs(s3.place(bucket), folder, presign=False)

    async with serving(tmp_path, opened) as served, requester(served) as blobs:
        with relaying(served.url) as control:
            async with requester(served, control.url) as blobs:
                await blobs.put(DATA, SHA)
                assert await blobs.get(SHA, len(DATA)) == DATA
            assert control.passed > 2 * len(DATA)


async def test_the_coordinator_reads_on_where_the_store_broke_off(
    tmp_path: Path, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ravsock.store.s3.CHUNK", PART)
    blobs = open_blobs(bulk.server.place(bulk.bucket, bulk.relay.url), tmp_path, presign=False)
    with closing(blobs.writer(LARGE_SHA)) as writer:
        writer.write(LARGE)
        writer.commit()
    bulk.relay.cuts = [bulk.relay.passed + PART * cut for cut in (2, 4, 5)]
    assert b"".join(blobs.read(LARGE_SHA, None, 5, len(LARGE) - 5)) == LARGE[5:-5]
    assert bulk.relay.cuts == []


async def test_programs_that_know_no_redirected_uploads_go_on_working(tmp_path: Path, bulk: Bulk) -> None:
    async with bulk.serving(tmp_path) as served, speaking(served) as http:
        async with http.put(f"/blobs/{SHA}", data=BytesIO(DATA)) as response:
            assert response.status == 201
        async with http.get(f"/blobs/{SHA}", headers={"Range": "bytes=5-9"}) as response:
            assert await response.read() == DATA[5:10]
        assert await ask(http, SHA, len(DATA)) == There()


async def test_a_store_that_does_not_answer_costs_time_only(
    tmp_path: Path, s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ravop.transport.http.PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("ravsock.server.sweeper.WATCH_SECONDS", 0.1)
    with relaying(s3.url) as relay:

        def opened(folder: Path) -> BlobStore:
            return open_blobs(s3.place(bucket, relay.url), folder)

        async with serving(tmp_path, opened) as served, requester(served) as blobs:
            await blobs.put(SMALL, SMALL_SHA)
            relay.cuts = [0] * 10_000
            with pytest.raises(UnreachableError):
                await blobs.put(DATA, SHA)
            await _noted(served, "degraded")
            with pytest.raises(UnreachableError):
                await blobs.get(SMALL_SHA, len(SMALL))
            relay.cuts = []
            await blobs.put(DATA, SHA)
            assert await blobs.get(SHA, len(DATA)) == DATA
            await _noted(served, "")


async def _noted(served: Served, what: str) -> None:
    """Wait until `/api/health` says this of blobs; nothing: until it has nothing to say."""
    async with asyncio.timeout(20), aiohttp.ClientSession(served.url) as http:
        while True:
            async with http.get("/api/health") as response:
                text = await response.text()
            if what in text and bool(what) == ("blobs" in text):
                return
            await asyncio.sleep(0.05)


async def test_a_blob_that_the_bucket_lost_is_missing(tmp_path: Path, bulk: Bulk) -> None:
    async with bulk.serving(tmp_path) as served, requester(served) as blobs:
        await blobs.put(SMALL, SMALL_SHA)
        served.blobs.delete(SMALL_SHA)
        with pytest.raises(BlobError, match="does not have"):
            await blobs.get(SMALL_SHA, len(SMALL))
        with pytest.raises(ForbiddenBlobError):
            await blobs.get(SHA, len(DATA))
