"""The one thread through which every change of the store goes.

Changes that wait together are committed together, each still succeeding or failing for itself. So the event
loop never waits for a disk, SQLite has the single writer it wants, and a burst of results costs few commits.
What is committed is made durable on another thread, all commits so far together, while the writer goes on.
While PostgreSQL is away, for a restart as a rule, changes wait for it.
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

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential,
)

from ravop.errors import StorageFullError, UnreachableError
from ravsock.server.metrics import Metrics
from ravsock.store.troubles import AwayError

P = ParamSpec("P")
T = TypeVar("T")

TOGETHER = 100
"""Changes in one commit at most."""
PATIENCE_SECONDS = 45.0
"""How long changes wait for a database that is away, before whoever asked for them hears of it."""
LONGEST_PAUSE_SECONDS = 1.0
"""Between two attempts to reach it; the first ones come sooner."""

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
    """Made within a running event loop; `stop` it at the end. `tell` is called on the writer's thread while the
    database is away."""

    def __init__(
        self,
        store: Commits,
        tell: Callable[[str, BaseException], None] = lambda *_: None,
        metrics: Metrics | None = None,
    ) -> None:
        self._store = store
        self._metrics = metrics or Metrics()
        self._tell = tell
        self._stopping = threading.Event()
        self._patiently = Retrying(
            retry=retry_if_exception_type(AwayError),
            wait=wait_exponential(multiplier=0.05, max=LONGEST_PAUSE_SECONDS),
            stop=stop_after_delay(PATIENCE_SECONDS) | stop_when_event_set(self._stopping),
            sleep=sleep_using_event(self._stopping),
            before_sleep=self._away,
            reraise=True,
        )
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

    @property
    def waiting(self) -> int:
        """Changes that are not taken up yet."""
        return self._waiting.qsize()

    async def stop(self) -> None:
        """Finish what waits, then end the threads."""
        self._stopping.set()
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
            with self._metrics.sync_seconds.time():
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
        calls = [change.call for change in changes]
        try:
            with self._metrics.commit_seconds.time():
                results = self._patiently(self._store.run_together, calls)
        except (UnreachableError, StorageFullError) as error:  # for whoever asked to tell
            return [error] * len(changes)
        except Exception as error:
            log.exception("a commit of %d changes failed", len(changes))
            return [error] * len(changes)
        self._committed += 1
        self._metrics.changes.inc(len(changes))
        return results

    def _away(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if error is not None:
            self._tell("changes wait for the database", error)


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
