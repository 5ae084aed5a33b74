"""`Supply`: brings the blobs that a task needs into the cache, each one once however many tasks wait for it."""

from __future__ import annotations

import asyncio

from provider.cache import Cache
from ravop.errors import InvalidModelError
from ravop.protocol.messages import Task, models_needed
from ravop.protocol.tensors import blobs_of
from ravop.transport import BlobClient

MAX_MODEL = 256 * 1024 * 1024
"""Bytes of a subgraph's model: what the worker's check takes at most."""
PARALLEL = 4
"""Downloads at one time."""


class Supply:
    """Downloads for one coordinator."""

    def __init__(self, cache: Cache, client: BlobClient) -> None:
        self._cache = cache
        self._client = client
        self._downloads: dict[str, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(PARALLEL)

    async def prepare(self, task: Task) -> None:
        """Get the task's models and inputs. They must be pinned before.

        Raises what `BlobClient` raises: `BlobError`, `ForbiddenBlobError`, `UnreachableError`, …
        """
        sizes: dict[str, int | None] = {
            blob.sha: blob.size for given in task.inputs for blob in blobs_of(given.ref)
        }
        for model in models_needed(task):
            sizes.setdefault(model, None)
        missing = {sha: size for sha, size in sizes.items() if not await self._cache.has(sha)}
        if missing:
            await asyncio.gather(*(self._get(sha, size) for sha, size in missing.items()))

    async def _get(self, sha: str, size: int | None) -> None:
        """Download the blob, or wait for the download that is under way."""
        download = self._downloads.get(sha)
        if download is None:
            download = self._downloads[sha] = asyncio.create_task(self._download(sha, size))
            download.add_done_callback(lambda _: self._downloads.pop(sha, None))
        await asyncio.shield(download)  # others may wait for it too

    async def _download(self, sha: str, size: int | None) -> None:
        async with self._places:
            if size is None:
                size = _check_model_size(await self._client.size(sha))
            file = self._cache.incoming(sha)
            await self._client.get_to(file, sha, size)
            await self._cache.adopt(file, sha)


def _check_model_size(size: int) -> int:
    if size > MAX_MODEL:
        raise InvalidModelError(
            "the subgraph is too large", expected=f"at most {MAX_MODEL:,} bytes", received=f"{size:,} bytes"
        )
    return size
