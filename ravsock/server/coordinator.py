"""The coordinator, put together: one ASGI application over one store, and the tasks that run beside it.

Made and closed within one event loop. `run` gives it a port, a process and signals; tests run it in theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import socketio

from ravop.protocol.exchange import PATH
from ravsock.core.history import History
from ravsock.server.auth import Authenticator
from ravsock.server.blobs import PREFIX, BlobEndpoint
from ravsock.server.dispatcher import Dispatcher
from ravsock.server.exchange import ExchangeEndpoint
from ravsock.server.gangs import Gangs
from ravsock.server.health import Health
from ravsock.server.http import App, Receive, Scope, Send, respond
from ravsock.server.leases import Leases
from ravsock.server.progress import Progress
from ravsock.server.providers import Provider, Providers
from ravsock.server.rest import rest_app
from ravsock.server.service import Service
from ravsock.server.sockets import Session, Sockets
from ravsock.server.storage import Storage
from ravsock.server.sweeper import Sweeper
from ravsock.server.work import Work
from ravsock.server.writer import Writer
from ravsock.store import BlobStore, Store


class Coordinator:
    """`app` is the ASGI application; `start` before serving it, `stop` after.

    `on_requester_gone` is called when a requester has disconnected.
    """

    def __init__(
        self, store: Store, blobs: BlobStore, on_requester_gone: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._on_requester_gone = on_requester_gone
        health = Health()
        self._writer = Writer(store, health.failed)
        self._providers = Providers()
        self._auth = Authenticator(store)
        self._sockets = Sockets(self._auth, self._gone)
        storage = Storage(blobs, store, self._writer)
        history = History()
        self._leases = Leases(store, self._writer, self._providers, self._sockets.send, self._touch)
        self._gangs = Gangs(store, self._writer, blobs, self._providers, self._leases)
        self._leases.joint = self._gangs
        self._dispatcher = Dispatcher(
            store, self._writer, storage, self._providers, self._leases, history, self._gangs, health,
            self._sockets.send,
        )  # fmt: skip
        self._progress = Progress(
            store, self._writer, self._providers, lambda: self._dispatcher.jobs, self._sockets.send, health
        )
        self._work = Work(
            store, self._writer, storage, self._providers, self._leases, self._dispatcher, history,
            self._gangs, self._progress,
        )  # fmt: skip
        self._service = Service(store, self._writer, storage, self._providers, self._leases, self._progress)
        self._sweeper = Sweeper(
            store, self._writer, storage, self._providers, self._leases, health, self._silent
        )
        self._sockets.answer_with(self._service, self._work, self._providers)
        self._routes: dict[str, App] = {
            "/socket.io": socketio.ASGIApp(self._sockets.sio),
            PREFIX.rstrip("/"): BlobEndpoint(self._auth, store, storage, self._providers),
            PATH: ExchangeEndpoint(self._auth, self._gangs),
            "/api": rest_app(self._service, self._auth, health, asyncio.get_running_loop()),
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def requesters(self) -> int:
        """How many are connected."""
        return self._sockets.count("requester")

    def start(self) -> None:
        """Begin to hand out tasks and to look after deadlines."""
        self._tasks = [
            asyncio.create_task(self._gangs.start(), name="gangs of before"),
            asyncio.create_task(self._dispatcher.run(), name="dispatcher"),
            asyncio.create_task(self._sweeper.sweep(), name="sweeper"),
            asyncio.create_task(self._sweeper.collect(), name="collector"),
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

    def _touch(self, graph_id: str, *, urgent: bool = False) -> None:
        self._progress.touch(graph_id, urgent=urgent)

    async def _gone(self, session: Session) -> None:
        self._progress.unwatch(session.sid)
        if self._stopping:
            return
        provider = self._providers.at(session.sid)
        if provider is not None:
            await self._work.left(provider)
        if session.role == "requester":
            self._on_requester_gone()

    async def _silent(self, provider: Provider) -> None:
        await self._work.left(provider)
        await self._sockets.drop(provider.sid)
