"""The one thread through which every change of the store goes.

Changes that wait together are committed together, each still succeeding or failing for itself. So the event
loop never waits for a disk, SQLite has the single writer it wants, and a burst of results costs few commits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

TOGETHER = 100
"""Changes in one commit at most."""

log = logging.getLogger(__name__)


class RunsTogether(Protocol):
    """A store that carries out several calls in one transaction."""

    def run_together(self, calls: Sequence[Callable[[], Any]]) -> Sequence[Any]: ...


@dataclass(frozen=True)
class _Change:
    call: Callable[[], Any]
    answer: asyncio.Future[Any]


class Writer:
    """Made within a running event loop; `stop` it at the end."""

    def __init__(self, store: RunsTogether) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._waiting: SimpleQueue[_Change | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    async def do(self, change: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `change` on the writer's thread; returns what it returned when that is committed, raises what
        it raised.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put(_Change(partial(change, *args, **kwargs), answer))
        return await answer

    async def stop(self) -> None:
        """Finish what waits, then end the thread."""
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

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
            return self._store.run_together([change.call for change in changes])
        except Exception as error:
            log.exception("a commit of %d changes failed", len(changes))
            return [error] * len(changes)


def _deliver(changes: list[_Change], results: Sequence[Any]) -> None:
    for change, result in zip(changes, results, strict=True):
        if change.answer.done():  # whoever asked was cancelled; the change is made all the same
            continue
        if isinstance(result, Exception):
            change.answer.set_exception(result)
        else:
            change.answer.set_result(result)
