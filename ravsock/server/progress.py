"""Progress of graphs: the store's counts completed by what is known of connected providers, told to whoever
watches.

A watcher hears of a change at most a few times a second, waits for nobody but itself, and always gets the
last state.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from ravop.errors import RavenError, UnreachableError
from ravop.protocol.messages import GraphInfo
from ravsock.core import placement, states
from ravsock.core.jobs import Job
from ravsock.server import clock
from ravsock.server.elsewhere import Elsewhere
from ravsock.server.health import Health
from ravsock.server.leases import Send
from ravsock.server.providers import Providers
from ravsock.server.writer import Writer
from ravsock.store import Store

PAUSE_SECONDS = 0.2
"""Between two events to one watcher."""
REFRESH_SECONDS = 2.0
"""A watcher of an executing graph hears so often of it even if nothing happened: why it waits may have
changed.
"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _News:
    """What a watcher waits for: that something has changed, and that it should hear of it without a pause."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    urgent: asyncio.Event = field(default_factory=asyncio.Event)


class Progress:
    """For the event loop's thread only. `ready_jobs` gives the tasks that found no provider lately."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        providers: Providers,
        ready_jobs: Callable[[], tuple[Job, ...]],
        send: Send,
        health: Health,
        elsewhere: Elsewhere,
    ) -> None:
        self._store = store
        self._writer = writer
        self._health = health
        self._providers = providers
        self._ready_jobs = ready_jobs
        self._send = send
        self._elsewhere = elsewhere
        self._news: dict[str, dict[str, _News]] = defaultdict(dict)
        self._watchers: dict[tuple[str, str], asyncio.Task[None]] = {}

    def touch(self, graph_id: str, *, urgent: bool = False) -> None:
        """Something about the graph may look different; `urgent`: it has ended."""
        for news in self._news.get(graph_id, {}).values():
            news.changed.set()
            if urgent:
                news.urgent.set()

    def touch_all(self) -> None:
        """The fleet has changed."""
        for graph_id in self._news:
            self.touch(graph_id)

    async def info(self, graph_id: str, owner: int | None = None, *, detailed: bool = False) -> GraphInfo:
        """The graph and its progress; `detailed`: also what is persisted. Raises `UnknownGraphError`."""
        info = await asyncio.to_thread(self._store.progress, graph_id, owner, clock.now(), detailed=detailed)
        if info.state == states.DONE:  # whoever hears this may go away and count on it
            await self._writer.durable()
        await self._elsewhere.refresh()
        return self._completed(info)

    async def infos(self, owner: int | None = None, state: str | None = None) -> tuple[GraphInfo, ...]:
        """Of an owner, in a state: newest first."""
        rows = await asyncio.to_thread(self._store.graphs, owner, state)
        return tuple([await self.info(row.graph_id) for row in rows])

    def _completed(self, info: GraphInfo) -> GraphInfo:
        now = time.monotonic()
        able = [provider for provider in self._providers if provider.graph_id in (None, info.graph_id)]
        others = self._elsewhere.nodes()
        count = len(able) + sum(node.graph_id in (None, info.graph_id) for node in others)
        waiting = self._health.trouble
        if not waiting and info.state == states.EXECUTING and not info.tasks_running:
            elsewhere = sum(provider.works_for_others(info.graph_id) for provider in able)
            nodes = [*(provider.node(now) for provider in self._providers), *others]
            waiting = placement.why_waiting(info.graph_id, self._ready_jobs(), nodes, elsewhere)
        return msgspec.structs.replace(info, providers=count, waiting=waiting)

    def watch(self, sid: str, graph_id: str) -> None:
        """Tell this connection of the graph from now on."""
        if (sid, graph_id) not in self._watchers:
            news = self._news[graph_id][sid] = _News()
            self._watchers[sid, graph_id] = asyncio.create_task(self._tell(sid, graph_id, news))

    def unwatch(self, sid: str) -> None:
        """The connection is gone."""
        for watched, graph_id in [key for key in self._watchers if key[0] == sid]:
            self._watchers.pop((watched, graph_id)).cancel()
            self._news[graph_id].pop(sid, None)
            if not self._news[graph_id]:
                del self._news[graph_id]

    async def _latest(self, graph_id: str, told: GraphInfo | None) -> GraphInfo:
        """While the database does not answer: what was told last, and that it does not."""
        try:
            return await self.info(graph_id)
        except UnreachableError as error:
            self._health.failed("a graph could not be shown", error)
            if told is None:
                raise
            return msgspec.structs.replace(told, waiting=self._health.trouble)

    async def _tell(self, sid: str, graph_id: str, news: _News) -> None:
        told: GraphInfo | None = None
        while True:
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await news.changed.wait()
            except TimeoutError:
                if told is not None and told.state != states.EXECUTING:
                    await news.changed.wait()
            news.changed.clear()
            news.urgent.clear()
            try:
                info = await self._latest(graph_id, told)
                if info != told:
                    await self._send(sid, info)
                    told = info
            except RavenError as error:  # deleted meanwhile, or the watcher is slow or gone: it may ask again
                log.debug("graph %s could not be shown to %s: %s", graph_id, sid, error)
            except Exception as error:  # noqa: BLE001 — it is told and logged, and tried again
                self._health.failed("a graph could not be shown", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS):
                    await news.urgent.wait()
