"""Looks after what ends by itself: silent providers, leases out of time, clocks that jump, and blobs that nothing refers to;
what providers have that do not come back is in `orphans`.

How long each may take is in `ravsock.core.deadlines`. Each of its rounds is tried again when it fails.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ravop.errors import RavenError
from ravsock.core import deadlines
from ravsock.server import clock
from ravsock.server.health import Health
from ravsock.server.leases import Leases
from ravsock.server.orphans import Orphans
from ravsock.server.peers import Peers
from ravsock.server.provider import Provider
from ravsock.server.providers import Providers
from ravsock.server.storage import Storage
from ravsock.server.writer import Writer
from ravsock.store import Store

SWEEP_SECONDS = 1.0
"""How often deadlines and silence are looked at."""
LATE_SECONDS = 0.1
"""A round that begins so much later than it should tells that messages wait too."""
COLLECT_SECONDS, COLLECT_SOON_SECONDS = 60.0, 10.0
"""How often blobs that nothing refers to are deleted; and on a disk that is nearly full."""
WATCH_SECONDS = 10.0
"""How often it is looked whether the store of blobs can be used."""

log = logging.getLogger(__name__)


class Sweeper:
    """`left(provider)` is called for a silent one: others get what it had, and its connection is ended."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        storage: Storage,
        providers: Providers,
        leases: Leases,
        peers: Peers,
        orphans: Orphans,
        health: Health,
        left: Callable[[Provider], Awaitable[None]],
    ) -> None:
        self._store = store
        self._writer = writer
        self._storage = storage
        self._providers = providers
        self._leases = leases
        self._peers = peers
        self._orphans = orphans
        self._health = health
        self._left = left
        self._renewed = False

    async def listen(self) -> None:
        """Until cancelled: others get what silent providers had. Nothing else is waited for, so that no time goes unnoticed in
        which this process did not listen."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            self._forgive(now - began - SWEEP_SECONDS)
            for provider in self._providers:
                if deadlines.silent(provider.heard, now, provider.beat_seconds):
                    name = provider.provider_id
                    log.warning("provider %s is silent", name, extra={"provider": name})
                    left = partial(self._left, provider)
                    self._leases.start(self._try("a silent provider could not be ended", left))

    async def sweep(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self._try("leases could not be looked after", self._sweep)

    async def collect(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(COLLECT_SOON_SECONDS if await self._nearly_full() else COLLECT_SECONDS)
            await self._try("blobs could not be cleared away", self._collect)

    async def watch_blobs(self) -> None:
        """Until cancelled: tell people while the store of blobs cannot be used."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await asyncio.to_thread(self._storage.blobs.check)
            except (RavenError, OSError) as error:
                self._health.note("blobs", "blobs can be neither stored nor read", error)
            else:
                self._health.note("blobs")

    async def _try(self, what: str, work: Callable[[], Awaitable[Any]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 — it is told and logged, and tried again
            self._health.failed(what, error)
        else:
            if self._health.trouble:  # leases ran on while nobody could deliver
                self._renewed = False
            self._health.well()

    def _forgive(self, late: float) -> None:
        """Nobody was silent for so long: this process was too busy to listen, or suspended."""
        if late > LATE_SECONDS:
            for provider in self._providers:
                provider.heard += late

    async def _sweep(self) -> None:
        await self._keep_time()
        if expired := await self._writer.apply(self._store.expire, clock.now()):
            for outcome in expired:
                log.warning(
                    "an attempt ran out of time (graph %s)",
                    outcome.graph_id,
                    extra={"graph": outcome.graph_id},
                )
            self._leases.settle(expired)
        await self._orphans.release()
        await self._orphans.compare()

    async def _keep_time(self) -> None:
        """Leases that no living process looked after begin anew; those of this one do not feel that the clock jumps."""
        if not self._renewed:
            others = self._peers.attended - {self._peers.id}
            await self._writer.apply(self._store.renew, clock.now(), others)
            self._orphans.forgive()
            self._renewed = True
        if seconds := self._peers.jump():
            log.warning("the clock has jumped by %.0f s; leases end as much later", seconds)
            if self._peers.eldest:
                await self._writer.apply(self._store.shift, seconds)
            self._peers.follow(seconds)

    async def _nearly_full(self) -> bool:
        try:
            return await asyncio.to_thread(self._storage.nearly_full)
        except OSError:  # the folder is away, which `watch_blobs` tells
            return False

    async def _collect(self) -> None:
        collected = await self._storage.collect()
        why = "bytes of blobs cannot be deleted, which is tried again"
        self._health.note("clearing", why if collected.trouble else "", collected.trouble)
        if collected.gone:
            log.info("%d blobs deleted that nothing refers to", collected.gone)
