"""The coordinator, put together: one ASGI application over one store, and the tasks that run beside it.

Made and closed within one event loop. `run` gives it a port, a process and signals; tests run it in theirs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

import socketio

from ravop.protocol.exchange import PATH
from ravsock.core.history import History
from ravsock.server.auth import Authenticator
from ravsock.server.blobs import PREFIX, BlobEndpoint
from ravsock.server.dispatcher import Dispatcher
from ravsock.server.elsewhere import Elsewhere
from ravsock.server.exchange import ExchangeEndpoint
from ravsock.server.gangs import Gangs
from ravsock.server.health import Health
from ravsock.server.http import App, Receive, Scope, Send, respond
from ravsock.server.leases import Leases
from ravsock.server.metrics import OTHER, Metrics
from ravsock.server.monitoring import PATH as METRICS
from ravsock.server.monitoring import Gauge, MetricsEndpoint
from ravsock.server.news import News
from ravsock.server.orphans import Orphans
from ravsock.server.peers import Peers
from ravsock.server.progress import Progress
from ravsock.server.provider import Provider
from ravsock.server.providers import Providers
from ravsock.server.rest import rest_app
from ravsock.server.service import Service
from ravsock.server.sockets import Session, Sockets
from ravsock.server.storage import Storage
from ravsock.server.sweeper import Sweeper
from ravsock.server.uploads import Uploads
from ravsock.server.wires import make_wire
from ravsock.server.work import Work
from ravsock.server.writer import Writer
from ravsock.store import BlobStore, Recall, Store
from ravsock.store.counts import counts

log = logging.getLogger(__name__)


class Coordinator:
    """`app` is the ASGI application; `start` before serving it, `stop` after.

    `on_requester_gone` is called when a requester has disconnected, `on_outdated` when a newer version of the program has
    changed the database; this one takes no work then. `address`: where other coordinators reach this one.
    """

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        on_requester_gone: Callable[[], None] = lambda: None,
        *,
        metrics_public: bool = False,
        address: str = "",
        redis_url: str | None = None,
        on_outdated: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._on_requester_gone = on_requester_gone
        self._on_outdated = on_outdated
        self._wire = make_wire(store, redis_url)
        health, metrics = Health(), Metrics()
        self.health = health
        self._peers = Peers(store, blobs, health, address, self._outdated)
        self._writer = Writer(store, health.failed, metrics)
        self._providers = Providers()
        self._auth = Authenticator(store)
        self._sockets = Sockets(self._auth, self._gone, metrics)
        self._elsewhere = Elsewhere(store, self._writer, self._peers, self._providers)
        storage = Storage(blobs, store, self._writer)
        history = History()
        self._leases = Leases(store, self._writer, self._providers, self._sockets.send, self._touch)
        self._gangs = Gangs(store, self._writer, blobs, self._providers, self._leases, self._peers)
        self._news = News(
            self._peers,
            health,
            self._wire,
            self._leases.awake.set,
            self._recalled_elsewhere,
            self._changed_elsewhere,
        )
        self._leases.joint, self._leases.elsewhere = self._gangs, self._news.recall
        self._dispatcher = Dispatcher(
            store, self._writer, storage, self._providers, self._leases, history, self._gangs, health,
            self._sockets.send, self._peers, self._elsewhere, self._news.ready, metrics,
        )  # fmt: skip
        self._progress = Progress(
            store, self._writer, self._providers, lambda: self._dispatcher.jobs, self._sockets.send, health,
            self._elsewhere,
        )  # fmt: skip
        self._work = Work(
            store, self._writer, storage, self._providers, self._leases, self._dispatcher, history,
            self._gangs, self._progress, self._peers, metrics,
        )  # fmt: skip
        self._service = Service(
            store, self._writer, storage, self._providers, self._leases, self._progress, self._elsewhere
        )
        orphans = Orphans(store, self._writer, self._providers, self._leases, self._peers, self._silent)
        self._sweeper = Sweeper(
            store, self._writer, storage, self._providers, self._leases, self._peers, orphans, health,
            self._silent,
        )  # fmt: skip
        self._sockets.answer_with(self._service, self._work, self._providers)
        self._routes: dict[str, App] = {
            "/socket.io": socketio.ASGIApp(self._sockets.sio),
            PREFIX.rstrip("/"): BlobEndpoint(
                self._auth,
                store,
                storage,
                self._providers,
                self._elsewhere,
                Uploads(store, self._writer, storage, self._providers),
                metrics,
            ),
            PATH: ExchangeEndpoint(self._auth, self._gangs, self._where_is),
            METRICS: MetricsEndpoint(
                metrics, self._auth, health, lambda: counts(store), self._gauges(), metrics_public
            ),
            "/api": rest_app(
                self._service, self._auth, health, lambda: self._peers.draining, asyncio.get_running_loop()
            ),
        }
        self._metrics = metrics
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def requesters(self) -> int:
        """How many are connected."""
        return self._sockets.count("requester")

    def start(self) -> None:
        """Begin to hand out tasks and to look after deadlines. Blocks until the other coordinators can know of this one;
        raises `UnreachableError` where the database does not answer."""
        self._peers.join()
        self._tasks = [
            asyncio.create_task(self._gangs.start(), name="gangs of before"),
            asyncio.create_task(self._dispatcher.run(), name="dispatcher"),
            asyncio.create_task(self._sweeper.listen(), name="silent providers"),
            asyncio.create_task(self._sweeper.sweep(), name="sweeper"),
            asyncio.create_task(self._sweeper.collect(), name="collector"),
            asyncio.create_task(self._sweeper.watch_blobs(), name="look at the store of blobs"),
            asyncio.create_task(self._peers.run(), name="peers"),
            asyncio.create_task(self._elsewhere.tell(), name="what was measured"),
            asyncio.create_task(self._news.send(), name="news to others"),
            asyncio.create_task(self._news.hear(), name="news of others"),
            asyncio.create_task(self._news.poll(), name="looking for work"),
            asyncio.create_task(self._metrics.watch_loop(), name="event loop's lag"),
        ]
        for task in self._tasks:
            task.add_done_callback(_ended)

    async def drain(self) -> None:
        """Go on, but want no new connections."""
        await self._peers.drain()

    def prepare_to_stop(self) -> None:
        """Hand out nothing more; connections that end from now on end because of the coordinator."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        self._gangs.stop()
        self._leases.stop()

    async def stop(self) -> None:
        """Close all connections and finish what is being committed.

        Providers keep their leases: they will be back when the coordinator is. Raises at the end what a task beside it
        had died of, if one had.
        """
        self.prepare_to_stop()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        for sid in list(self._sockets.sessions):
            await self._sockets.drop(sid)
        await self._sockets.sio.shutdown()
        await self._peers.leave()
        if self._wire is not None:
            await self._wire.close()
        await self._writer.stop()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One port: control, blobs and people."""
        path: str = scope.get("path", "")
        plane = path[1:].partition("/")[0]
        route = self._routes.get("/" + plane)
        if scope["type"] == "http":
            send = self._metrics.counting(plane if route else OTHER, scope["method"], send)
        if route is not None:
            await route(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await respond(send, 404, b"not found: see /api/health\n")

    def _gauges(self) -> tuple[Gauge, ...]:
        """What this process knows when somebody asks."""
        sockets, providers, writer = self._sockets, self._providers, self._writer
        return (
            ("connections", "Clients connected.", ("role",), lambda: {
                (role,): sockets.count(role) for role in ("requester", "provider")
            }),
            ("providers", "Providers registered.", (), lambda: {(): len(providers)}),
            ("slots", "Slots of the providers.", (), lambda: {(): sum(p.profile.slots for p in providers)}),
            ("batches", "Batches that providers have.", (), lambda: {(): sum(len(p.batches) for p in providers)}),
            ("waiting_changes", "Changes that wait for the next commit.", (), lambda: {(): writer.waiting}),
        )  # fmt: skip

    def _touch(self, graph_id: str, *, urgent: bool = False) -> None:
        self._progress.touch(graph_id, urgent=urgent)
        self._news.change(graph_id, urgent)

    def _changed_elsewhere(self, graph_id: str, urgent: bool) -> None:
        self._progress.touch(graph_id, urgent=urgent)

    def _recalled_elsewhere(self, recalls: Iterable[Recall]) -> None:
        self._leases.recall(
            recall for recall in recalls if self._providers.get(recall.provider_id) is not None
        )

    async def _where_is(self, task_id: int, attempt: int) -> str | None:
        """The address of another coordinator that has this attempt of a gang."""
        if not self._peers.others:
            return None
        found = await asyncio.to_thread(self._store.where_is, task_id, attempt)
        return found if found in {other.address for other in self._peers.others} else None

    def _outdated(self) -> None:
        self.prepare_to_stop()
        self._on_outdated()

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


def _ended(task: asyncio.Task[None]) -> None:
    """Only a defect ends one before it is cancelled: what else goes wrong is tried again."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s: ended by a defect", task.get_name(), exc_info=error)
