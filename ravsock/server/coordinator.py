"""The coordinator, put together: one ASGI application over one store, and the tasks that run beside it.

Made and closed within one event loop. `run` gives it a port, a process and signals; tests run it in theirs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import socketio

from ravop.protocol.exchange import PATH
from ravsock.core import deadlines
from ravsock.server.auth import Authenticator
from ravsock.server.blobs import PREFIX, BlobEndpoint
from ravsock.server.dispatcher import Dispatcher
from ravsock.server.exchange import ExchangeEndpoint
from ravsock.server.gangs import Gangs
from ravsock.server.history import History
from ravsock.server.http import App, Receive, Scope, Send, respond
from ravsock.server.leases import Leases
from ravsock.server.progress import Progress
from ravsock.server.providers import Providers
from ravsock.server.rest import rest_app
from ravsock.server.service import Service
from ravsock.server.sockets import Session, Sockets
from ravsock.server.storage import Storage
from ravsock.server.work import Work
from ravsock.server.writer import Writer
from ravsock.store import BlobStore, Release, Store

SWEEP_SECONDS = 2.0
"""How often deadlines and silence are looked at."""
COLLECT_SECONDS = 60.0
"""How often blobs that nothing refers to are deleted."""

log = logging.getLogger(__name__)


class Coordinator:
    """`app` is the ASGI application; `start` before serving it, `stop` after.

    `on_requester_gone` is called when a requester has disconnected.
    """

    def __init__(
        self, store: Store, blobs: BlobStore, on_requester_gone: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._on_requester_gone = on_requester_gone
        self._writer = Writer(store)
        self._providers = Providers()
        self._auth = Authenticator(store)
        self._sockets = Sockets(self._auth, self._gone)
        storage = Storage(blobs, store, self._writer)
        self._history = History()
        self._leases = Leases(store, self._writer, self._providers, self._sockets.send, self._touch)
        self._gangs = Gangs(store, self._writer, blobs, self._providers, self._leases)
        self._leases.joint = self._gangs
        self._dispatcher = Dispatcher(
            store, self._writer, storage, self._providers, self._leases, self._history, self._gangs,
            self._sockets.send,
        )  # fmt: skip
        self._progress = Progress(store, self._providers, lambda: self._dispatcher.jobs, self._sockets.send)
        self._storage = storage
        self._work = Work(
            store, self._writer, storage, self._providers, self._leases, self._dispatcher, self._history,
            self._gangs, self._progress,
        )  # fmt: skip
        self._service = Service(store, self._writer, storage, self._providers, self._leases, self._progress)
        self._sockets.answer_with(self._service, self._work, self._providers)
        self._routes: dict[str, App] = {
            "/socket.io": socketio.ASGIApp(self._sockets.sio),
            PREFIX.rstrip("/"): BlobEndpoint(self._auth, store, storage, self._providers),
            PATH: ExchangeEndpoint(self._auth, self._gangs),
            "/api": rest_app(self._service, self._auth, asyncio.get_running_loop()),
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._started = time.monotonic()

    @property
    def requesters(self) -> int:
        """How many are connected."""
        return self._sockets.count("requester")

    def start(self) -> None:
        """Begin to hand out tasks and to look after deadlines."""
        self._tasks = [
            asyncio.create_task(self._gangs.start(), name="gangs of before"),
            asyncio.create_task(self._dispatcher.run(), name="dispatcher"),
            asyncio.create_task(_repeat(SWEEP_SECONDS, self._sweep), name="sweeper"),
            asyncio.create_task(_repeat(COLLECT_SECONDS, self._collect), name="collector"),
        ]

    def prepare_to_stop(self) -> None:
        """Hand out nothing more; connections that end from now on end because of the coordinator."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        self._gangs.stop()
        self._leases.stop()

    async def stop(self) -> None:
        """Close all connections and finish what is being committed.

        Providers keep their leases: they will be back when the coordinator is.
        """
        self.prepare_to_stop()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        for sid in list(self._sockets.sessions):
            await self._sockets.drop(sid)
        await self._sockets.sio.shutdown()
        await self._writer.stop()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One port: control, blobs and people."""
        path: str = scope.get("path", "")
        route = self._routes.get("/" + path[1:].partition("/")[0])
        if route is not None:
            await route(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await respond(send, 404, b"not found: see /api/health\n")

    def _touch(self, graph_id: str) -> None:
        self._progress.touch(graph_id)

    async def _gone(self, session: Session) -> None:
        self._progress.unwatch(session.sid)
        if self._stopping:
            return
        provider = self._providers.at(session.sid)
        if provider is not None:
            await self._work.left(provider)
        if session.role == "requester":
            self._on_requester_gone()

    async def _sweep(self) -> None:
        """Silent providers, attempts out of time, and attempts of providers that did not come back."""
        now = time.monotonic()
        for provider in self._providers:
            if deadlines.silent(provider.heard, now):
                log.warning("provider %s is silent", provider.provider_id)
                await self._work.left(provider)
                await self._sockets.drop(provider.sid)
        if expired := await self._writer.apply(self._store.expire, time.time()):
            for outcome in expired:
                log.warning("an attempt ran out of time (graph %s)", outcome.graph_id)
            self._leases.settle(expired)
        if now - self._started > deadlines.GRACE_SECONDS:
            await self._release_orphans()

    async def _release_orphans(self) -> None:
        held = await asyncio.to_thread(self._store.held_by)
        orphans = [
            Release(task_id=h.task_id, attempt=h.attempt, provider_id=h.provider_id)
            for h in held
            if self._providers.get(h.provider_id) is None
        ]
        if orphans:
            log.warning("%d tasks of providers that did not come back are given to others", len(orphans))
            await self._writer.apply(self._store.release, orphans)
            self._leases.wake()

    async def _collect(self) -> None:
        if gone := await self._storage.collect():
            log.info("%d blobs deleted that nothing refers to", gone)


async def _repeat(seconds: float, work: Callable[[], Awaitable[Any]]) -> None:
    """Do the work every so often; when it fails, say so and go on."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:
            log.exception("%s failed; it is tried again", getattr(work, "__name__", "upkeep"))
