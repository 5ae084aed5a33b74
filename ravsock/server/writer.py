"""The one thread through which every change of the store goes.

Changes that wait together are committed together, each still succeeding or failing for itself. So the event
loop never waits for a disk, SQLite has the single writer it wants, and a burst of results costs few commits.
What is committed is made durable on another thread, all commits so far together, while the writer goes on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, Protocol, TypeVar

from ravop.errors import StorageFullError, UnreachableError

P = ParamSpec("P")
T = TypeVar("T")

TOGETHER = 100
"""Changes in one commit at most."""

log = logging.getLogger(__name__)


class Commits(Protocol):
    """A store that carries out several calls in one transaction, and makes durable what is committed."""

    def run_together(self, calls: Sequence[Callable[[], Any]]) -> Sequence[Any]: ...
    def sync(self) -> None: ...


@dataclass(frozen=True)
class _Change:
    call: Callable[[], Any]
    answer: asyncio.Future[Any]


class Writer:
    """Made within a running event loop; `stop` it at the end."""

    def __init__(self, store: Commits) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._waiting: SimpleQueue[_Change | None] = SimpleQueue()
        self._committed = self._durable = 0
        self._syncing: asyncio.Task[None] | None = None
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="syncer")
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    async def do(self, change: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`apply`, and wait until it is durable: for what is acknowledged to others."""
        result = await self.apply(change, *args, **kwargs)
        await self.durable()
        return result

    async def apply(self, change: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `change` on the writer's thread; returns what it returned when that is committed, raises what
        it raised. It outlives the end of this process, and a power cut once it is `durable`.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(_Change(partial(change, *args, **kwargs), answer))
        return await answer

    async def durable(self) -> None:
        """Wait until all that is committed now survives a power cut. Raises what `Store.sync` raises: then it
        may not."""
        wanted = self._committed
        while self._durable < wanted:
            if self._syncing is None:
                self._syncing = asyncio.create_task(self._sync())
                self._syncing.add_done_callback(_heard)
            await asyncio.shield(self._syncing)

    async def stop(self) -> None:
        """Finish what waits, then end the threads."""
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)
        try:
            await self.durable()
        finally:
            self._syncer.shutdown(wait=False)

    async def _sync(self) -> None:
        """One sync, for all commits before it."""
        until = self._committed
        try:
            await self._loop.run_in_executor(self._syncer, self._store.sync)
            self._durable = until
        finally:
            self._syncing = None

    def _work(self) -> None:
        while True:
            changes, go_on = self._take()
            if changes:
                self._loop.call_soon_threadsafe(_deliver, changes, self._commit(changes))
            if not go_on:
                return

    def _take(self) -> tuple[list[_Change], bool]:
        """At least one change, and all that wait already; and whether more may come."""
        changes: list[_Change] = []
        change = self._waiting.get()
        while change is not None:
            changes.append(change)
            if len(changes) == TOGETHER:
                return changes, True
            try:
                change = self._waiting.get_nowait()
            except Empty:
                return changes, True
        return changes, False

    def _commit(self, changes: list[_Change]) -> Sequence[Any]:
        try:
            results = self._store.run_together([change.call for change in changes])
        except (UnreachableError, StorageFullError) as error:  # for whoever asked to tell
            return [error] * len(changes)
        except Exception as error:
            log.exception("a commit of %d changes failed", len(changes))
            return [error] * len(changes)
        self._committed += 1
        return results


def _heard(syncing: asyncio.Task[None]) -> None:
    """Whoever waits hears of an error; where nobody waits any more, it is logged."""
    if not syncing.cancelled() and (error := syncing.exception()) is not None:
        log.error("what was committed may not survive a power cut: %s", error)


def _deliver(changes: list[_Change], results: Sequence[Any]) -> None:
    for change, result in zip(changes, results, strict=True):
        if change.answer.done():  # whoever asked was cancelled; the change is made all the same
            continue
        if isinstance(result, Exception):
            change.answer.set_exception(result)
        else:
            change.answer.set_result(result)
