"""Blobs as the server uses them: bytes and their records kept in step, nothing that blocks the event loop.

The bytes are in a `BlobStore`, the records in the `Store`; a blob is recorded when its bytes are durable, and
its bytes go when its record has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

import msgspec

from ravop.errors import MessageError, QuotaError, UnreachableError
from ravop.protocol.messages import Earlier, Task, TaskInput
from ravop.protocol.tensors import Blob, TensorRef, sha256
from ravop.protocol.uploads import MAX_BLOB
from ravsock.core import fitting
from ravsock.server import clock
from ravsock.server.collector import Collected, Collector
from ravsock.server.writer import Writer
from ravsock.store import BlobStore, Store
from ravsock.store.blobstore import BlobWriter, mismatch, missing
from ravsock.store.troubles import storage_full
from ravsock.store.values import StoredBlob

BATCH = 4 * 1024 * 1024
"""Bytes hashed and written at a time, on a thread: each change of threads costs a quarter of a millisecond."""
GRACE_SECONDS = 600.0
"""A blob that nothing refers to is kept so long after its last use: the rest of a graph may be on its way. Weights
between the chunks of a loop wait here too, so it cannot be much longer.
"""
SHORT_GRACE_SECONDS = 60.0
NEARLY_FULL = 1024**3
"""With fewer bytes left on the disk, what nothing refers to is kept for the shorter time."""
RESERVED = 32 * 1024**2
"""With fewer, no blob is taken: what is deleted must be written down before, and the database may be on the same disk."""
THREADS = 32
"""For the store of blobs: as many as there are connections to a bucket."""

P = ParamSpec("P")
T = TypeVar("T")


class Storage:
    def __init__(self, blobs: BlobStore, store: Store, writer: Writer) -> None:
        self.blobs = blobs
        self._store = store
        self._writer = writer
        self._collector = Collector(blobs, store, writer)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")

    async def on_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the call to the store of blobs gives. Its threads are its own: a store that is slow, or hangs, must not keep
        the database waiting, by which the other coordinators see that this one lives."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

    async def receive(
        self, sha: str, chunks: AsyncIterable[bytes], owner: int | None, *, durable: bool = True
    ) -> bool:
        """Keep an upload; whether it is new. `owner`: the token of who uploads it, None for the coordinator itself.
        Unless it is to be `durable`, its record becomes so with the next one that is.

        Raises `BlobError` where bytes and name differ, `MessageError` where it is too large,
        `StorageFullError`.
        """
        present = await self.on_thread(self.blobs.has, sha)
        file = await self.on_thread(self.blobs.writer, sha)
        try:
            await self._pour(self._while_there_is_room(chunks), file)
            size = await self.on_thread(file.commit)
        finally:
            await self.on_thread(file.close)
        await self.record(sha, size, owner, durable=durable)
        return not present

    async def record(
        self, sha: str, size: int, owner: int | None, place: int | None = None, *, durable: bool = True
    ) -> None:
        """Note that bytes are there, or that somebody counts on them: they are kept as if they were uploaded now.

        Raises `UnreachableError` where they are being cleared away, or were before this was noted; and `QuotaError`.
        """
        record = self._writer.do if durable else self._writer.apply
        try:
            await record(self._store.record_blob, sha, size, owner, clock.now(), place)
        except QuotaError:
            if place is None:
                await self._collector.discard(sha)
            else:
                await self.on_thread(self.blobs.delete, sha, place)
            raise
        if not await self.on_thread(self.blobs.has, sha, place):
            await self._writer.do(self._store.forget_blob, sha, owner)
            raise UnreachableError("the blob was cleared away while it was uploaded", hint="upload it again")

    async def keep(self, sha: str, data: bytes, owner: int | None = None) -> None:
        """Keep bytes that the coordinator made; `owner`: a requester that may read them."""
        if await self.on_thread(self.blobs.has, sha):
            return await self.record(sha, len(data), owner)

        async def whole() -> AsyncIterable[bytes]:
            yield data

        await self.receive(sha, whole(), owner, durable=owner is not None)
        return None

    async def fitted(self, refs: Sequence[TensorRef], owner: int | None = None) -> list[TensorRef]:
        """The same values, small enough for one message together: large ones as blobs that `owner` may read."""
        made: dict[str, bytes] = {}

        def note(data: bytes) -> Blob:
            blob = Blob(sha256(data), len(data))
            made[blob.sha] = data
            return blob

        if sum(map(fitting.inline_bytes, refs)) <= fitting.BUDGET:
            return list(refs)
        kept = await asyncio.to_thread(fitting.fitted, refs, note, fitting.BUDGET)
        for sha, data in made.items():
            await self.keep(sha, data, owner)
        return kept

    async def fitted_tasks(self, tasks: Sequence[Task]) -> tuple[Task, ...]:
        """The same tasks, with inputs small enough for one message together."""
        places = [
            (task, value.name) for task, given in enumerate(tasks) for value in given.inputs
            if not isinstance(value.ref, Earlier)
        ]  # fmt: skip
        given = [v.ref for task in tasks for v in task.inputs if not isinstance(v.ref, Earlier)]
        fitted = await self.fitted(given)
        if all(new is old for new, old in zip(fitted, given, strict=True)):
            return tuple(tasks)
        refs = dict(zip(places, fitted, strict=True))
        return tuple(
            msgspec.structs.replace(
                task,
                inputs=tuple(
                    TaskInput(name=value.name, ref=refs.get((number, value.name), value.ref))
                    for value in task.inputs
                ),
            )
            for number, task in enumerate(tasks)
        )

    async def find(self, sha: str, owner: int | None) -> StoredBlob | None:
        """The copy that is for `owner`, or for everybody; None where there is none."""

        def look() -> StoredBlob | None:
            own = self._store.find_blob(sha, owner)
            return own or (None if owner is None else self._store.find_blob(sha, None))

        return await asyncio.to_thread(look)

    async def load(self, sha: str, limit: int, owner: int | None = None) -> bytes:
        """The whole blob, as `owner` has it. Raises `BlobError` where it is not there, or not what its name says,
        `MessageError` where it has more than `limit` bytes.
        """
        found = await self.find(sha, owner)
        if found is None:
            raise missing(sha)
        if found.size > limit:
            raise MessageError(
                "too large", expected=f"at most {limit:,} bytes", received=f"{found.size:,} bytes"
            )

        def read() -> bytes:
            data = b"".join(self.blobs.read(sha, found.place))
            if found.place is not None and (digest := sha256(data)) != sha:
                raise mismatch(sha, digest)
            return data

        return await self.on_thread(read)

    async def _pour(self, chunks: AsyncIterable[bytes], file: BlobWriter) -> None:
        """Hash and write on a thread while the next bytes arrive."""
        batch: list[bytes] = []
        waiting = total = 0
        writing: asyncio.Future[None] | None = None
        try:
            async for chunk in chunks:
                batch.append(chunk)
                waiting += len(chunk)
                total += len(chunk)
                if total > MAX_BLOB:
                    raise MessageError("the blob is too large", expected=f"at most {MAX_BLOB:,} bytes")
                if waiting >= BATCH:
                    if writing is not None:
                        await writing
                    writing = asyncio.ensure_future(self.on_thread(_write, batch, file))
                    batch, waiting = [], 0
        finally:
            if writing is not None:
                await writing
        await self.on_thread(_write, batch, file)

    async def _while_there_is_room(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Raises `StorageFullError` where what is left is reserved."""
        left = 0
        async for chunk in chunks:
            if left < len(chunk):
                left = min(BATCH, self.blobs.free() - RESERVED)
                if left < len(chunk):
                    raise storage_full(f"{max(0, left + RESERVED):,} bytes left")
            left -= len(chunk)
            yield chunk

    def nearly_full(self) -> bool:
        """Whether little is left of the disk that has the blobs."""
        return self.blobs.free() < NEARLY_FULL

    async def collect(self) -> Collected:
        """Delete what nothing refers to any more, on a disk that is nearly full sooner."""
        return await self._collector.collect(SHORT_GRACE_SECONDS if self.nearly_full() else GRACE_SECONDS)


def _write(batch: list[bytes], file: BlobWriter) -> None:
    for chunk in batch:
        file.write(chunk)
