"""Uploads past the coordinator: what a client is told to do, and taking in what it has done.

A blob of up to `WHOLE` bytes is one request, whose signature makes the store check the hash: where the store does that, the
copy is as good as one that passed through here. Others go up in parts, which no store can check as one: that copy stays with
who made it. What is asked and answered is in `ravop.protocol.uploads`; HTTP is in `blobs`.
"""

from __future__ import annotations

import asyncio
import time

from ravop.errors import BlobError, QuotaError
from ravop.protocol.tensors import Blob
from ravop.protocol.uploads import LISTED, PART, WHOLE, Answer, Elsewhere, Here, Part, There, part_sizes
from ravsock.core.recent import Recent
from ravsock.server import clock
from ravsock.server.providers import Providers
from ravsock.server.storage import Storage
from ravsock.server.writer import Writer
from ravsock.store import Identity, Store
from ravsock.store.blobstore import Direct
from ravsock.store.values import Upload

ONE = ""
"""The handle of an upload in one request: the store knows nothing of it."""
MEASURED = 1024 * 1024
"""Bytes from which the time of an upload tells how fast the line is."""


class Uploads:
    """For the event loop's thread only."""

    def __init__(self, store: Store, writer: Writer, storage: Storage, providers: Providers) -> None:
        self._store = store
        self._writer = writer
        self._storage = storage
        self._providers = providers
        self._asked: Recent[tuple[int, str], tuple[float, int]] = Recent()

    async def ask(self, who: Identity, sha: str, size: int) -> Answer:
        """What is to be done with a blob of so many bytes. Raises `QuotaError`."""
        owner, direct = who.token_id, self._storage.blobs.direct
        found = await asyncio.to_thread(self._store.find_blob, sha, owner)
        if found is not None:
            await self._storage.record(sha, found.size, owner, found.place)
            return There()
        if direct is None:
            await asyncio.to_thread(self._store.check_quota, owner, size, sha)
            return Here()
        answer = await (self._at_once if size <= WHOLE else self._in_parts)(direct, sha, owner, size)
        self._asked[owner, sha] = (time.monotonic(), min(size, len(answer.parts) * answer.part))
        return answer

    async def end(self, who: Identity, sha: str, upload_id: str) -> None:
        """Take in what the client has stored. Raises `BlobError` where something of it is missing: it asks again."""
        owner, direct = who.token_id, self._storage.blobs.direct
        upload = await asyncio.to_thread(self._store.upload, sha, owner)
        if direct is None or upload is None or upload.upload_id != upload_id:
            raise BlobError("there is no such upload", received=upload_id, hint="ask again")
        size, place = await self._storage.on_thread(self._taken, direct, upload)
        self._measure(who, sha)
        if (
            who.role == "provider"
        ):  # its result is looked at in a transaction, which should not wait for the store
            await self._storage.on_thread(self._storage.blobs.head, Blob(sha, size), place)
        try:
            await self._storage.record(sha, size, owner, place, durable=who.role != "provider")
        except QuotaError:  # what was stored is thrown away
            await self._writer.apply(self._store.end_upload, upload_id)
            raise
        await self._writer.apply(self._store.end_upload, upload_id)

    async def _at_once(self, direct: Direct, sha: str, owner: int, size: int) -> Elsewhere:
        upload = await self._begun(direct, sha, owner, size)
        url, headers = await self._storage.on_thread(direct.upload, sha, owner, size)
        return Elsewhere(upload=upload.upload_id, part=max(1, size), parts=(Part(1, url, dict(headers)),))

    async def _in_parts(self, direct: Direct, sha: str, owner: int, size: int) -> Elsewhere:
        upload = await self._begun(direct, sha, owner, size)
        try:
            there = await self._storage.on_thread(direct.parts, sha, owner, upload.handle)
        except BlobError:  # the store has given it up
            await self._give_up(upload)
            upload, there = await self._begun(direct, sha, owner, size), {}
        sizes = part_sizes(PART, size)
        lacking = [number for number, length in sizes.items() if there.get(number) != length]

        def sign(number: int) -> Part:
            url, headers = direct.part(sha, owner, upload.handle, number, sizes[number])
            return Part(number, url, dict(headers))

        parts = await self._storage.on_thread(lambda: tuple(map(sign, lacking[:LISTED])))
        return Elsewhere(upload=upload.upload_id, part=PART, parts=parts, more=len(lacking) > LISTED)

    async def _begun(self, direct: Direct, sha: str, owner: int, size: int) -> Upload:
        """The upload that is under way, or a new one."""
        found = await asyncio.to_thread(self._store.upload, sha, owner)
        if found is not None and found.size != size:  # one of the two sizes was wrong
            await self._give_up(found)
            found = None
        if found is not None:
            handle = found.handle
        else:
            handle = ONE if size <= WHOLE else await self._storage.on_thread(direct.begin, sha, owner)
        try:
            upload: Upload = await self._writer.apply(
                self._store.begin_upload, sha, owner, size, handle, clock.now()
            )
        except QuotaError:
            await self._storage.on_thread(self._storage.blobs.abort, sha, owner, handle)
            raise
        if upload.handle != handle:  # somebody with the same token was faster
            await self._storage.on_thread(self._storage.blobs.abort, sha, owner, handle)
        return upload

    def _taken(self, direct: Direct, upload: Upload) -> tuple[int, int | None]:
        """Size and place of what was stored."""
        sha, owner = upload.sha, upload.owner
        if upload.handle == ONE:
            return direct.take(sha, owner)
        try:
            direct.finish(sha, owner, upload.handle, part_sizes(PART, upload.size))
        except BlobError:
            # it may have been joined before, by a coordinator that did not live to say so
            if not self._is_there(sha, owner, upload.size):
                raise
        return upload.size, owner

    def _is_there(self, sha: str, owner: int, size: int) -> bool:
        try:
            return self._storage.blobs.size(sha, owner) == size
        except BlobError:
            return False

    async def _give_up(self, upload: Upload) -> None:
        await self._writer.do(self._store.end_upload, upload.upload_id)
        await self._storage.on_thread(self._storage.blobs.abort, upload.sha, upload.owner, upload.handle)

    def _measure(self, who: Identity, sha: str) -> None:
        """The line of a provider, by the time from its question to its being done: nothing else is seen of it here."""
        began, size = self._asked.pop((who.token_id, sha)) or (0.0, 0)
        if who.role == "provider" and size >= MEASURED:
            self._providers.moved(who.token_id, size, time.monotonic() - began)
