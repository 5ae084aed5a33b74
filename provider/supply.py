"""`Supply`: brings the blobs that batches need into the cache, each one once however many tasks wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from provider.cache import Cache
from provider.core.tasks import check_model_size
from ravop.errors import RavenError
from ravop.protocol.messages import Task, blobs_needed, models_needed
from ravop.transport import BlobClient

PARALLEL = 4
"""Downloads at one time."""

Needs = dict[str, int | None]
"""Sizes of blobs by SHA-256; None where only the coordinator knows it."""


def needed(tasks: Sequence[Task]) -> Needs:
    """All that has to be in the cache before the tasks can be computed."""
    needs: Needs = {}
    for task in tasks:
        for model in models_needed(task):
            needs[model] = task.sizes.get(model, needs.get(model))
        needs |= {blob.sha: blob.size for blob in blobs_needed(task)}
    return needs


class Supply:
    """Downloads for one coordinator."""

    def __init__(self, cache: Cache, client: BlobClient) -> None:
        self._cache = cache
        self._client = client
        self._downloads: dict[str, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(PARALLEL)

    async def prepare(self, needs: Needs) -> dict[str, RavenError | OSError]:
        """Get these blobs, which must be pinned before. → those that cannot be had, with what `BlobClient`
        raised: `BlobError`, `ForbiddenBlobError`, `UnreachableError`, …, or `OSError` of this machine's disk.
        """
        missing = [sha for sha in needs if not await self._cache.has(sha)]
        if not missing:
            return {}
        ends = await asyncio.gather(*(self._get(sha, needs[sha]) for sha in missing), return_exceptions=True)
        failed: dict[str, RavenError | OSError] = {}
        for sha, end in zip(missing, ends, strict=True):
            if isinstance(end, RavenError | OSError):
                failed[sha] = end
            elif end is not None:
                raise end
        return failed

    async def _get(self, sha: str, size: int | None) -> None:
        """Download the blob, or wait for the download that is under way."""
        download = self._downloads.get(sha)
        if download is None:
            download = self._downloads[sha] = asyncio.create_task(self._download(sha, size))
            download.add_done_callback(lambda ended: self._ended(sha, ended))
        await asyncio.shield(download)  # others may wait for it too

    def _ended(self, sha: str, download: asyncio.Task[None]) -> None:
        del self._downloads[sha]
        if not download.cancelled():
            download.exception()  # whoever waits hears of it; where the task was recalled, nobody does

    async def _download(self, sha: str, size: int | None) -> None:
        async with self._places:
            if size is None:
                size = await self._client.size(sha)
                check_model_size(size)
            file = self._cache.incoming(sha)
            await self._client.get_to(file, sha, size)
            self._cache.take(file, sha, size)
