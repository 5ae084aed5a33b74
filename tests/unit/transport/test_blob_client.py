"""The blob client against a real HTTP server that breaks off, lies, refuses and is slow to recover."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from ravop.errors import BlobError, ForbiddenBlobError, MessageError, StorageFullError, UnreachableError
from ravop.protocol.tensors import sha256
from ravop.transport import BlobClient
from ravop.transport.blobs import ASK_FIRST
from ravop.transport.http import ATTEMPTS

DATA = os.urandom(3 * 1024 * 1024 + 17)
SHA = sha256(DATA)

Handler = Callable[[web.Request], Any]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[BlobClient]:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/blobs/{sha}", handler)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with BlobClient(f"http://127.0.0.1:{runner.addresses[0][1]}/", "secret") as client:
        try:
            yield client
        finally:
            await runner.cleanup()


def refusal(error: Any, status: int) -> web.Response:
    return web.Response(body=msgspec.json.encode(error.problem), status=status)


class Uploads:
    """Keeps what is PUT, after failing as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.calls: list[str] = []
        self.stored: dict[str, bytes] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer secret"
        self.calls.append(request.method)
        sha = request.match_info["sha"]
        if request.method == "HEAD":
            return web.Response(status=200 if sha in self.stored else 404)
        body = await request.read()
        if self.failures > 0:
            self.failures -= 1
            return web.Response(status=503)
        self.stored[sha] = body
        return web.Response(status=201)


@pytest.mark.parametrize("size", [0, 1, 70_000, ASK_FIRST, len(DATA)])
async def test_bytes_and_files_arrive_whole(size: int, tmp_path: Path) -> None:
    data = DATA[:size]
    (tmp_path / "file").write_bytes(data)
    uploads = Uploads()
    async with serving(uploads.handle) as client:
        await client.put(data, "a" * 64)
        await client.put(tmp_path / "file", "b" * 64)
    assert uploads.stored == {"a" * 64: data, "b" * 64: data}


async def test_a_large_blob_that_is_there_is_not_sent_again() -> None:
    uploads = Uploads()
    async with serving(uploads.handle) as client:
        await client.put(DATA, SHA)
        await client.put(DATA, SHA)
        assert await client.has(SHA)
        assert not await client.has("0" * 64)
    assert uploads.calls.count("PUT") == 1


async def test_an_upload_is_tried_again_and_then_given_up() -> None:
    async with serving(Uploads(failures=2).handle) as client:
        await client.put(b"small", "c" * 64)
    never = Uploads(failures=99)
    async with serving(never.handle) as client:
        with pytest.raises(UnreachableError, match="503"):
            await client.put(b"small", "c" * 64)
    assert never.calls == ["PUT"] * ATTEMPTS


@pytest.mark.parametrize(
    ("error", "status"),
    [(StorageFullError("full"), 507), (BlobError("bytes"), 400), (ForbiddenBlobError("no"), 403)],
)
async def test_refusals_are_typed_and_not_repeated(error: Any, status: int) -> None:
    calls: list[str] = []

    async def refuse(request: web.Request) -> web.Response:
        calls.append(request.method)
        await request.read()
        return refusal(error, status)

    async with serving(refuse) as client:
        with pytest.raises(type(error)) as caught:
            await client.put(b"x", SHA)
    assert caught.value.problem == error.problem
    assert calls == ["PUT"]


class BrokenDownloads:
    """Serves `DATA` with ranges, and breaks the first connections off after a megabyte."""

    def __init__(self, breaks: int) -> None:
        self.breaks = breaks
        self.ranges: list[int] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        start = request.http_range.start or 0
        self.ranges.append(start)
        body = DATA[start:]
        response = web.StreamResponse(
            status=206 if start else 200, headers={"Content-Length": str(len(body))}
        )
        await response.prepare(request)
        if self.breaks > 0:
            self.breaks -= 1
            await response.write(body[: 1024 * 1024])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(body)
        return response


async def test_a_broken_download_goes_on_where_it_stopped() -> None:
    downloads = BrokenDownloads(breaks=2)
    async with serving(downloads.handle) as client:
        assert await client.get(SHA, len(DATA)) == DATA
    assert len(downloads.ranges) == 3
    assert downloads.ranges == sorted(downloads.ranges)
    assert downloads.ranges[-1] > 1024 * 1024


async def test_a_download_to_a_file_resumes_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    (tmp_path / "blob.part").write_bytes(DATA[:1_000_000])
    downloads = BrokenDownloads(breaks=1)
    async with serving(downloads.handle) as client:
        await client.get_to(path, SHA, len(DATA))
    assert path.read_bytes() == DATA
    assert downloads.ranges[0] == 1_000_000
    assert list(tmp_path.iterdir()) == [path]


async def test_bytes_that_do_not_match_their_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    async with serving(BrokenDownloads(breaks=0).handle) as client:
        with pytest.raises(BlobError, match="does not match"):
            await client.get("0" * 64, len(DATA))
        with pytest.raises(BlobError, match="does not match"):
            await client.get_to(path, "0" * 64, len(DATA))
        with pytest.raises(BlobError, match="size"):
            await client.get(SHA, len(DATA) + 1)
    assert list(tmp_path.iterdir()) == []


async def test_a_partial_file_longer_than_the_blob_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "blob.part").write_bytes(DATA + b"more")
    async with serving(BrokenDownloads(breaks=0).handle) as client:
        with pytest.raises(BlobError):
            await client.get_to(tmp_path / "blob", SHA, len(DATA))
        await client.get_to(tmp_path / "blob", SHA, len(DATA))
    assert (tmp_path / "blob").read_bytes() == DATA


async def test_a_missing_blob_is_a_blob_error() -> None:
    async with serving(Uploads().handle) as client:
        with pytest.raises(BlobError):
            await client.get("0" * 64, 1 << 40)


async def test_only_the_coordinator_gets_the_token() -> None:
    seen: list[bool] = []

    async def store(request: web.Request) -> web.Response:
        seen.append("Authorization" in request.headers)
        return web.Response(body=DATA)

    async with serving(store) as elsewhere:

        async def send_away(request: web.Request) -> web.Response:
            assert request.headers["Authorization"] == "Bearer secret"
            return web.Response(status=307, headers={"Location": f"{elsewhere._url}{SHA}?signed=a%2Fb"})

        async with serving(send_away) as client:
            assert await client.get(SHA, len(DATA)) == DATA
    assert seen == [False]


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://host/x", "/blobs/x", "", "http://[", "//host/x"]
)
async def test_a_client_is_sent_to_urls_of_http_only(location: str) -> None:
    async def send_away(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": location})

    async with serving(send_away) as client:
        with pytest.raises(MessageError, match="not a URL of a blob"):
            await client.get(SHA, len(DATA))


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"type": "elsewhere", "upload": "../x", "part": 5, "parts": []},
        {"type": "elsewhere", "upload": "a", "part": 0, "parts": []},
        {"type": "elsewhere", "upload": "a", "part": 5, "parts": [{"number": 9, "url": "http://x/"}]},
        {"type": "elsewhere", "upload": "a", "part": 5, "parts": [{"number": 1, "url": "file:///x"}]},
        {"type": "elsewhere", "upload": "a", "part": 5, "parts": [{"number": 1, "url": "http://x/" + "y" * 9000}]},
        {"type": "elsewhere", "upload": "a", "part": 5,
         "parts": [{"number": 1, "url": "http://x/", "headers": {"Cookie": "a"}}]},
    ],
    ids=str,
)  # fmt: skip
async def test_answers_to_an_upload_that_are_none(answer: dict[str, Any]) -> None:
    app = web.Application()

    async def answering(_: web.Request) -> web.Response:
        return web.json_response(answer)

    app.router.add_post("/blobs/{sha}/uploads", answering)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with BlobClient(f"http://127.0.0.1:{runner.addresses[0][1]}", "secret") as client:
        with pytest.raises(MessageError):
            await client.put(b"small", "c" * 64)
    await runner.cleanup()
