"""Attempts that nobody looks after: of providers that did not come back, and where memory and database tell apart because a
coordinator died or a word was lost between two of them.

Releases and recalls are fenced by the attempt, so any number of coordinators may do all of this at once. Called by `sweeper`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Set
from typing import TypeVar

from ravsock.core import deadlines
from ravsock.server.leases import Leases
from ravsock.server.peers import Peers
from ravsock.server.provider import Provider
from ravsock.server.providers import Providers
from ravsock.server.writer import Writer
from ravsock.store import Recall, Release, Store

COMPARE_SECONDS = 3.0
"""How often memory is compared with the database."""
T = TypeVar("T", bound=Hashable)

log = logging.getLogger(__name__)


class Orphans:
    """`moved(provider)` is called for one that another coordinator has. For the event loop's thread only."""

    def __init__(
        self, store: Store, writer: Writer, providers: Providers, leases: Leases, peers: Peers,
        moved: Callable[[Provider], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._store = store
        self._writer = writer
        self._providers = providers
        self._leases = leases
        self._peers = peers
        self._moved = moved
        self._away: dict[str, float] = {}
        """Providers that hold something and are connected nowhere: since when."""
        self._compared = 0.0
        self._suspects: dict[str, frozenset[Hashable]] = {}

    def forgive(self) -> None:
        """Nobody could come back: the time for that begins anew."""
        self._away.clear()

    async def release(self) -> None:
        """Give others what providers have that did not come back to any coordinator."""
        found = await asyncio.to_thread(self._store.unattended, self._peers.attended)
        now = time.monotonic()
        self._away = {one.provider_id: self._away.get(one.provider_id, now) for one in found}
        orphans = [
            Release(task_id=one.task_id, attempt=one.attempt, provider_id=one.provider_id)
            for one in found
            if now - self._away[one.provider_id] > deadlines.GRACE_SECONDS
        ]
        if orphans:
            log.warning("%d tasks of providers that did not come back are given to others", len(orphans))
            await self._writer.apply(self._store.release, orphans)
            self._leases.wake()

    async def compare(self) -> None:
        """What differs twice in a row is put right: a difference seen once is as a rule a change on its way."""
        now = time.monotonic()
        if now - self._compared < COMPARE_SECONDS:
            return
        self._compared = now
        names, attempts = await asyncio.to_thread(self._store.attempts_at, self._peers.id)
        here = {provider.provider_id: provider for provider in self._providers}
        held = {
            Recall(provider_id=name, task=holding.task)
            for name, provider in here.items()
            for holding in provider.held.values()
        }
        leased = {Recall(provider_id=name, task=task) for task, name in attempts.items()}
        for name in self._twice("moved", here.keys() - names):
            log.info("provider %s is connected to another coordinator", name, extra={"provider": name})
            await self._moved(here[name])
        for name in self._twice("gone", names - here.keys()):
            await self._writer.apply(self._store.provider_left, name, self._peers.id, ())
        if recalls := self._twice("recalls", {one for one in held if one.task not in attempts}):
            log.info("%d attempts are recalled that are over", len(recalls))
            self._leases.recall(recalls)
        for lost in self._twice("lost", {one for one in leased - held if one.provider_id in here}):
            name, task = lost.provider_id, lost.task.task_id
            about = {"provider": name, "task": task, "attempt": lost.task.attempt}
            log.warning("task %d was not sent to provider %s", task, name, extra=about)
            await self._leases.release(lost.provider_id, [lost.task])

    def _twice(self, what: str, found: Set[T]) -> set[T]:
        """Those that were found the last time as well."""
        before, self._suspects[what] = self._suspects.get(what, frozenset()), frozenset(found)
        return {one for one in found if one in before}
