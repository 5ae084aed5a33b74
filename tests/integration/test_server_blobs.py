"""The blob endpoints over HTTP as anybody may call them: whole, in ranges, broken off, wrong, forbidden, disk
full.
"""

import asyncio
import errno
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from coordinators import Served, branches, serving

from ravop.errors import BlobError, ForbiddenBlobError, StorageFullError, TokenError
from ravop.protocol import messages as m
from ravop.protocol.tensors import Blob, sha256
from ravop.transport import BlobClient
from ravsock.store import FolderBlobs

DATA = random.Random(0).randbytes(2_500_000)
SHA = sha256(DATA)


@asynccontextmanager
async def client(served: Served, role: str = "requester") -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {served.token(role)}"}
    async with aiohttp.ClientSession(served.url, headers=headers) as http:
        yield http


async def test_an_upload_is_created_once_and_then_there(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, client(served) as http:
        async with http.head(f"/blobs/{SHA}") as response:
            assert response.status == 403
        for status in (201, 200):
            async with http.put(f"/blobs/{SHA}", data=_body(DATA)) as response:
                assert response.status == status
        async with http.head(f"/blobs/{SHA}") as response:
            assert (response.status, response.headers["Content-Length"]) == (200, str(len(DATA)))
        async with http.get(f"/blobs/{SHA}") as response:
            assert await response.read() == DATA


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1000000-", 1_000_000, None),
        ("bytes=-5", -5, None),
        ("bytes=10-9999999", 10, None),
    ],
)
async def test_ranges(tmp_path: Path, asked: str, start: int, stop: int | None) -> None:
    async with serving(tmp_path) as served, client(served) as http:
        await (await http.put(f"/blobs/{SHA}", data=_body(DATA))).read()
        async with http.get(f"/blobs/{SHA}", headers={"Range": asked}) as response:
            body = await response.read()
            assert response.status == 206
            assert body == DATA[start:stop]
            first = len(DATA) + start if start < 0 else start
            assert response.headers["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/{len(DATA)}"


@pytest.mark.parametrize(
    "asked", ["bytes=2500000-", "bytes=5-4", "bytes=-", "lines=1-2", "bytes=0-1,5-6", f"bytes={'9' * 5000}-"]
)
async def test_ranges_that_are_none(tmp_path: Path, asked: str) -> None:
    async with serving(tmp_path) as served, client(served) as http:
        await (await http.put(f"/blobs/{SHA}", data=_body(DATA))).read()
        async with http.get(f"/blobs/{SHA}", headers={"Range": asked}) as response:
            assert response.status == 416
            assert response.headers["Content-Range"] == f"bytes */{len(DATA)}"


async def test_an_empty_blob(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, BlobClient(served.url, served.token("requester")) as blobs:
        await blobs.put(b"", sha256(b""))
        assert await blobs.get(sha256(b""), 0) == b""


async def test_bytes_under_a_wrong_name_are_refused_and_not_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, BlobClient(served.url, served.token("requester")) as blobs:
        with pytest.raises(BlobError, match="do not match"):
            await blobs.put(DATA, "0" * 64)
        assert not served.blobs.has("0" * 64)
        assert not list((tmp_path / "blobs" / "incoming").iterdir())


async def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        _reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rsplit(":", 1)[1]))
        head = f"PUT /blobs/{SHA} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(DATA)}\r\n"
        writer.write(
            f"{head}Authorization: Bearer {served.token('requester')}\r\n\r\n".encode() + DATA[:2_000_000]
        )
        await writer.drain()
        incoming = tmp_path / "blobs" / "incoming"
        async with asyncio.timeout(10):
            while not list(incoming.iterdir()):
                await asyncio.sleep(0.01)
            writer.close()
            while list(incoming.iterdir()):
                await asyncio.sleep(0.01)
        assert not served.blobs.has(SHA)


@pytest.mark.parametrize("name", ["", "abc", "../../etc/passwd", SHA.upper(), f"{SHA}0"])
async def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    async with serving(tmp_path) as served, client(served) as http, http.get(f"/blobs/{name}") as response:
        assert response.status in (400, 404)


async def talk(served: Served, *said: bytes) -> bytes:
    """What the coordinator answers to these bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rsplit(":", 1)[1]))
    async with asyncio.timeout(10):
        writer.writelines(said)
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /api/health HTTP/1.1\r\nHost: x\r\nX-Slow: "],
    ids=["silent", "in the middle of a head"],
)
async def test_who_does_not_say_what_it_wants_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("ravsock.server.connection.HEAD_SECONDS", 0.05)
    async with serving(tmp_path) as served:
        assert await talk(served, said) == b""


async def test_a_head_without_end_is_not_gathered(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        _reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rsplit(":", 1)[1]))
        writer.write(b"GET /api/health HTTP/1.1\r\nX-Long: ")

        async def speak_on() -> None:
            while True:
                writer.write(b"x" * 100_000)
                await writer.drain()

        async with asyncio.timeout(10):
            with pytest.raises(ConnectionError):
                await speak_on()
        writer.close()


async def test_an_upload_that_stalls_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ravsock.server.streams.STALLED_SECONDS", 0.05)
    async with serving(tmp_path) as served:
        head = f"PUT /blobs/{SHA} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(DATA)}\r\nConnection: close\r\n"
        token = f"Authorization: Bearer {served.token('requester')}\r\n\r\n"
        assert b" 408 " in await talk(served, head.encode(), token.encode(), DATA[:1000])
        assert not list((tmp_path / "blobs" / "incoming").iterdir())


async def test_other_methods_and_paths(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, client(served) as http:
        assert b" 404 " in await talk(served, b"GET * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        async with http.delete(f"/blobs/{SHA}") as response:
            assert response.status == 405
        async with http.get("/nothing") as response:
            assert response.status == 404


async def test_a_blob_larger_than_allowed_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rsplit(":", 1)[1]))
        head = f"PUT /blobs/{SHA} HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 60}\r\n"
        writer.write(f"{head}Authorization: Bearer {served.token('requester')}\r\n\r\n".encode())
        async with asyncio.timeout(10):
            assert b" 413 " in await reader.readline()
        writer.close()


async def test_tokens_that_are_missing_unknown_or_revoked(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        revoked = served.token("requester", "old")
        served.store.revoke_token("old", 0.0)
        for token in ("", "nonsense", revoked):
            async with BlobClient(served.url, token) as blobs:
                with pytest.raises(TokenError):
                    await blobs.put(b"x", sha256(b"x"))
        async with aiohttp.ClientSession(served.url) as http, http.get(f"/blobs/{SHA}") as response:
            assert response.status == 401


async def test_a_requester_reads_only_its_own(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as served,
        BlobClient(served.url, served.token("requester")) as alice,
        BlobClient(served.url, served.token("requester")) as bob,
    ):
        await alice.put(DATA, SHA)
        assert not await bob.has(SHA)
        with pytest.raises(ForbiddenBlobError):
            await bob.get(SHA, len(DATA))
        await bob.put(DATA, SHA)  # who has the bytes may have the blob
        assert await bob.get(SHA, len(DATA)) == DATA


async def test_a_provider_reads_and_writes_only_for_tasks_it_holds(tmp_path: Path) -> None:
    size = 256
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        await alice.blobs.put(DATA, SHA)
        with pytest.raises(ForbiddenBlobError):
            await provider.blobs.put(b"x", sha256(b"x"))
        graph = branches(1, size)
        graph_id = await alice.run(graph)
        task = await provider.take()
        with pytest.raises(ForbiddenBlobError):
            await provider.blobs.get(SHA, len(DATA))
        outputs = await provider.compute(task)
        assert (await provider.deliver(task, outputs)).accepted
        await alice.until_state(graph_id, "done")
        with pytest.raises(ForbiddenBlobError):
            await provider.blobs.size(task.subgraph)
        with pytest.raises(ForbiddenBlobError):
            await provider.blobs.put(b"x", sha256(b"x"))


async def test_a_providers_line_is_measured_when_it_uploads(tmp_path: Path) -> None:
    rate, piece = 5e6, bytes(100_000)

    async def slowly() -> AsyncIterator[bytes]:
        for number in range(8):
            await asyncio.sleep(len(piece) / rate if number else 0.0)
            yield piece

    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        await alice.run(branches(1))
        await provider.take()
        async with aiohttp.ClientSession() as http:
            headers = {"Authorization": f"Bearer {provider.token}", "Content-Length": str(8 * len(piece))}
            url = f"{served.url}/blobs/{sha256(8 * piece)}"
            async with http.put(url, data=slowly(), headers=headers) as answer:
                assert answer.status == 201
        (info,) = (await alice.call(m.ListProviders())).providers
        assert rate / 3 < info.link < rate * 1.5


async def test_an_output_that_was_not_uploaded_is_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider() as provider:
        graph_id = await alice.run(branches(1, 256))
        task = await provider.take()
        outputs = await provider.compute(task)
        missing = m.Output(name=outputs[0].name, ref=Blob("1" * 64, 999))
        answer = await provider.deliver(task, (missing,))
        assert (answer.accepted, answer.missing) == (0, ("1" * 64,))
        assert (await provider.work(task)).accepted
        await alice.until_state(graph_id, "done")


class FullDisk(FolderBlobs):
    """A folder on a disk that takes no more."""

    def writer(self, sha: str):  # type: ignore[no-untyped-def]
        writer = super().writer(sha)

        class Full:
            def write(self, data: bytes) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            def close(self) -> None:
                writer_stream.close()

        writer_stream, writer._stream = writer._stream, Full()  # type: ignore[attr-defined]
        return writer


async def test_a_full_disk_is_told_as_such_and_leaves_nothing(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, FullDisk) as served,
        BlobClient(served.url, served.token("requester")) as blobs,
    ):
        with pytest.raises(StorageFullError):
            await blobs.put(DATA, SHA)
        assert not list((tmp_path / "blobs" / "incoming").iterdir())


async def _body(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]
