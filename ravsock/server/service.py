"""What requesters may ask of the coordinator: one method a call, whichever shell it came through.

Used by the Socket.IO and the REST shell alike, on the event loop's thread. An admin acts on everybody's
graphs.
"""

from __future__ import annotations

import asyncio
import logging
import time

from ravop.errors import ForbiddenBlobError, MessageError, RavenError, UnknownGraphError
from ravop.graph.check import Limits
from ravop.graph.manifest import MAX_MANIFEST, decode_manifest
from ravop.protocol.messages import Activated, Fetched, FetchedValue, GraphInfo, Graphs, ProviderInfo
from ravop.protocol.messages import Providers as ProviderInfos
from ravop.protocol.tensors import Array, TensorRef, blobs_of, decode_tensor, resolve
from ravsock.core.fitting import inline_bytes
from ravsock.core.fleet import Fleet
from ravsock.server import clock
from ravsock.server.elsewhere import Elsewhere
from ravsock.server.leases import Leases
from ravsock.server.planning import Planning, Question
from ravsock.server.progress import Progress
from ravsock.server.provider import absent
from ravsock.server.providers import Providers
from ravsock.server.storage import Storage
from ravsock.server.writer import Writer
from ravsock.store import Identity, ProviderRow, Store

MAX_VALUE = 8 * 1024 * 1024
"""Bytes of a value that is put together here; larger ones are fetched in parts, as blobs."""

log = logging.getLogger(__name__)


class Service:
    """Raises `UnknownGraphError` for a graph that is not there or not the caller's."""

    def __init__(
        self, store: Store, writer: Writer, storage: Storage, providers: Providers, leases: Leases,
        progress: Progress, elsewhere: Elsewhere,
    ) -> None:  # fmt: skip
        self._store = store
        self._writer = writer
        self._storage = storage
        self._providers = providers
        self._leases = leases
        self._progress = progress
        self._elsewhere = elsewhere
        self._plan = Planning()

    async def activate(self, who: Identity, graph_id: str, model: str, manifest: str) -> Activated:
        """Check, plan and keep a graph whose model, manifest and input blobs were uploaded before.

        Activating the same again gives the plan that is kept. Raises `InvalidModelError`, `MessageError`,
        `BlobError`, … for what is wrong with it, and `GraphStateError` where the id is taken.
        """
        try:
            row = await asyncio.to_thread(self._store.graph, graph_id, who.token_id)
        except UnknownGraphError:
            row = None
        if row is None or (row.model_sha, row.manifest_sha) != (model, manifest):
            description = decode_manifest(await self._uploaded(who, manifest, MAX_MANIFEST))
            data = await self._uploaded(who, model, Limits().bytes)
            await self._elsewhere.refresh()
            planned = await self._plan(Question(graph_id, data, description, self._fleet()))
            for sha, shipped in planned.models.items():
                await self._storage.keep(sha, shipped)
            await self._writer.do(
                self._store.add_graph, who.token_id, description, model, manifest, planned.plan, clock.now()
            )
            units = len(planned.plan.main.units)
            many = "1 unit" if units == 1 else f"{units} units"
            log.info("graph %s activated: %s", graph_id, many, extra={"graph": graph_id})
        plan = await asyncio.to_thread(self._store.plan, graph_id, who.token_id)
        return Activated(graph_id=graph_id, plan=plan.summary)

    async def _uploaded(self, who: Identity, sha: str, limit: int) -> bytes:
        if not await asyncio.to_thread(self._store.may_read, who, sha):
            raise ForbiddenBlobError(
                "a blob that the graph names was not uploaded", received=sha, hint="upload it, then activate"
            )
        return await self._storage.load(sha, limit, who.token_id)

    def _fleet(self) -> Fleet:
        here = [provider.speed() for provider in self._providers]
        return Fleet((*here, *self._elsewhere.speeds()))

    async def execute(self, who: Identity, graph_id: str, trace: str = "") -> None:
        """Start an active graph, or a failed one from what it has; `trace`: the caller's span. Raises `GraphStateError`."""
        await self._writer.do(self._store.start_graph, graph_id, _owner(who), clock.now(), trace)
        self._leases.wake()
        self._progress.touch(graph_id)

    async def cancel(self, who: Identity, graph_id: str) -> None:
        """Stop it for good. Raises `GraphStateError` for a graph that is done."""
        recalls = await self._writer.do(self._store.cancel_graph, graph_id, _owner(who), clock.now())
        self._leases.recall(recalls)
        self._progress.touch(graph_id)

    async def flush(self, who: Identity) -> Graphs:
        """Delete the caller's graphs that are not executing; gives those left."""
        for graph_id in await self._writer.do(self._store.flush, who.token_id):
            self._progress.touch(graph_id)
        return await self.graphs(who)

    async def graphs(self, who: Identity, state: str = "") -> Graphs:
        """Newest first; those in one state, or all."""
        return Graphs(graphs=await self._progress.infos(_owner(who), state or None))

    async def graph(self, who: Identity, graph_id: str) -> GraphInfo:
        return await self._progress.info(graph_id, _owner(who), detailed=True)

    async def watch(self, who: Identity, graph_id: str, sid: str) -> GraphInfo:
        """As `graph`; the connection hears of changes from now on."""
        info = await self.graph(who, graph_id)
        self._progress.watch(sid, graph_id)
        return info

    async def fetch(self, who: Identity, graph_id: str, names: tuple[str, ...]) -> Fetched:
        """For each name its value, or the problem that says why there is none."""
        found = await asyncio.to_thread(self._store.fetch_all, graph_id, _owner(who), names)
        refs = [value for value in found if not isinstance(value, RavenError)]
        fitted = iter(await self._storage.fitted(refs, _owner(who)))
        small = [value if isinstance(value, RavenError) else next(fitted) for value in found]
        return Fetched(values=tuple(_fetched(name, value) for name, value in zip(names, small, strict=True)))

    async def value(self, who: Identity, graph_id: str, name: str) -> Array:
        """One value, put together. Raises what `fetch` would tell, `MessageError` for one above `MAX_VALUE`
        bytes.
        """
        ref = await asyncio.to_thread(self._store.fetch, graph_id, _owner(who), name)
        needed = {blob.sha: blob.size for blob in blobs_of(ref)}
        size = sum(needed.values()) + inline_bytes(ref)
        if size > MAX_VALUE:
            raise MessageError(
                "this value is too large to be shown here", expected=f"at most {MAX_VALUE:,} bytes",
                received=f"{size:,} bytes", hint=f"ravop fetch {graph_id} {name}",
            )  # fmt: skip
        arrays = {
            sha: decode_tensor(await self._storage.load(sha, size, _owner(who)))
            for sha, size in needed.items()
        }
        return resolve(ref, lambda blob: arrays[blob.sha])

    async def providers(self) -> ProviderInfos:
        """All that were ever seen, the connected ones with what they do now."""
        await self._elsewhere.refresh()
        now = time.monotonic()
        rows = await asyncio.to_thread(self._store.providers)
        return ProviderInfos(providers=tuple(self._provider(row, now) for row in rows))

    def _provider(self, row: ProviderRow, now: float) -> ProviderInfo:
        connected = self._providers.get(row.provider_id)
        if connected is not None:
            return connected.info(now, row.tasks_done)
        return self._elsewhere.info(row) or absent(row)


def _owner(who: Identity) -> int | None:
    return None if who.role == "admin" else who.token_id


def _fetched(name: str, found: TensorRef | RavenError) -> FetchedValue:
    if isinstance(found, RavenError):
        return FetchedValue(name=name, problem=found.problem)
    return FetchedValue(name=name, value=found)
