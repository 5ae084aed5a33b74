"""Deletes the blobs that nobody needs, and what else is left in the blob store: the bytes of uploads that nobody recorded,
and parts of uploads that nobody goes on with.

Any number of coordinators may do so on one database, and each may be killed at any point: the steps are in
`ravsock.store.garbage`. No round takes long of the writer, of the database or of this process.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from ravop.errors import RavenError
from ravsock.server import clock
from ravsock.server.writer import Writer
from ravsock.store import BlobStore, Store
from ravsock.store.garbage import CLAIM_SECONDS
from ravsock.store.values import Doomed, Seen

STRAY_SECONDS = 86_400.0
"""Bytes that old, and uploads, of which nobody has said that they are whole, belong to nobody."""
BEGINNINGS = tuple(f"{number:02x}" for number in range(256))
"""Of blobs' names: a round looks for strays among those of one, so that it ends soon however many there are."""
SHARE = 0.05
"""Of its time, what a collector may take to find out what is needed: in a database with a million values that is seconds."""
TOGETHER = 250
"""Changes of the database in one step of the writer."""
SIDE_BY_SIDE = 8

T = TypeVar("T")


@dataclass(frozen=True)
class Collected:
    gone: int
    """Blobs whose bytes were deleted."""
    trouble: str = ""
    """Why some could not be; they are tried again."""


class Collector:
    def __init__(self, blobs: BlobStore, store: Store, writer: Writer) -> None:
        self._blobs = blobs
        self._store = store
        self._writer = writer
        self._last: Seen | None = None
        self._resting_until = 0.0
        self._deleting = False
        self._round = random.randrange(len(BEGINNINGS))
        self._places: dict[str, set[int]] = {}
        """Of strays: what lies beside the checked copy."""

    async def collect(self, grace: float) -> Collected:
        """One round: delete what nothing has referred to and nobody has used for `grace` seconds."""
        await self._doom_unneeded(clock.now() - grace)
        await self._doom_strays(clock.now() - STRAY_SECONDS)
        return await self._delete_doomed()

    async def discard(self, sha: str) -> None:
        """Delete at once what was stored and not recorded, unless it is somebody else's, too."""
        await self._writer.apply(self._store.doom_strays, [sha])
        if not self._deleting:
            await self._delete_doomed()

    async def _delete_doomed(self) -> Collected:
        gone, self._deleting = 0, True
        try:
            while claimed := await self._writer.do(self._store.claim, clock.now()):
                erased, trouble = await asyncio.to_thread(self._erase, claimed)
                await self._writer.apply(self._store.bury, erased)
                gone += len(erased)
                if len(erased) < len(claimed):
                    return Collected(gone, trouble)
            return Collected(gone)
        finally:
            self._deleting = False

    async def _doom_unneeded(self, before: float) -> None:
        started = time.monotonic()
        if started < self._resting_until:
            return
        look = await asyncio.to_thread(self._store.unneeded, before, self._last)
        self._last = look.last
        self._resting_until = time.monotonic() + (time.monotonic() - started) * (1 / SHARE - 1)
        for some in _some(look.unneeded):
            await self._writer.apply(self._store.doom, some)

    async def _doom_strays(self, before: float) -> None:
        self._round = (self._round + 1) % len(BEGINNINGS)
        for upload in await asyncio.to_thread(self._store.stale_uploads, before):
            await asyncio.to_thread(self._blobs.abort, upload.sha, upload.owner, upload.handle)
            await self._writer.apply(self._store.end_upload, upload.upload_id)
        if self._round == 0:
            await asyncio.to_thread(self._blobs.clear, clock.now())
        places: dict[str, set[int]] = defaultdict(set)
        for lying in await asyncio.to_thread(list, self._blobs.stored(before, BEGINNINGS[self._round])):
            places[lying.sha].update(() if lying.place is None else (lying.place,))
        self._places = dict(places)
        for some in _some(sorted(places)):
            known = await asyncio.to_thread(self._store.recorded, some)
            if strays := [sha for sha in some if sha not in known]:
                await self._writer.apply(self._store.doom_strays, strays)

    def _erase(self, doomed: Sequence[Doomed]) -> tuple[list[Doomed], str]:
        """Delete the bytes, while the claim is good; gives what has gone, and what was wrong with the others."""
        until = time.monotonic() + CLAIM_SECONDS / 2
        troubles: list[str] = []

        def erase(one: Doomed) -> bool:
            if time.monotonic() > until:
                return False
            try:
                for place in (None, *sorted(one.places | self._places.get(one.sha, set()))):
                    self._blobs.delete(one.sha, place)
            except (OSError, RavenError) as error:
                troubles.append(str(error) or repr(error))
                return False
            return True

        with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="collector") as threads:
            erased = [one for one, gone in zip(doomed, threads.map(erase, doomed), strict=True) if gone]
        return erased, "".join(troubles[:1])


def _some(many: Sequence[T]) -> Iterator[Sequence[T]]:
    for first in range(0, len(many), TOGETHER):
        yield many[first : first + TOGETHER]
