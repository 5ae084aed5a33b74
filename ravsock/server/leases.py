"""What providers hold: attempts noted, given back, failed and recalled, in the store and in memory alike.

Leases are made in `dispatcher`; what is decided about them is in `ravsock.core`. For the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ravop.errors import RavenError
from ravop.protocol.messages import (
    HeldTask,
    Message,
    Recall,
    Task,
    TaskFailure,
    TaskResult,
    blobs_needed,
    models_needed,
)
from ravsock.core import rounds
from ravsock.server import clock
from ravsock.server.provider import Batch, Holding, Provider
from ravsock.server.providers import Providers
from ravsock.server.writer import Writer
from ravsock.store import Failure, Lease, Outcome, ReadyTask, Release, Store
from ravsock.store import Recall as StoreRecall

RETURN_SECONDS = 10.0
"""A provider that gives something back gets no work for so long."""
Send = Callable[[str, Message], Awaitable[None]]
"""Sends a message to a connection and waits for its acknowledgement. Raises `RavenError` when none comes."""


class Touch(Protocol):
    def __call__(self, graph_id: str, *, urgent: bool = False) -> None: ...


log = logging.getLogger(__name__)


class Joint(Protocol):
    """Attempts that several providers make together: what ends one of these for a provider ends it for all."""

    async def without(self, provider_id: str, tasks: Iterable[HeldTask]) -> list[HeldTask]:
        """End those among the attempts that a provider does not go on with; the other attempts."""

    def spread(self, recalls: Iterable[StoreRecall]) -> list[StoreRecall]:
        """The same recalls, with those for all the others."""


@dataclass(frozen=True)
class Wish:
    """A lease to ask for, and what it is expected to cost."""

    lease: Lease
    ready: tuple[ReadyTask, ...]
    """The lease's tasks."""
    seconds: tuple[float, ...]
    """That each of them should take."""
    batch: Batch


def wish_for(
    provider: Provider, ready: Sequence[ReadyTask], seconds: Sequence[float], now: float,
    *, waits: float = 0.0, ahead: int = 0, stop: int | None = None,
) -> Wish:  # fmt: skip
    """To give the provider these tasks, which should take `seconds` each when it begins in `waits` seconds."""
    incoming = {sha: size for task in ready for sha, size in task.inputs if sha not in provider.blobs}
    transfer = sum(incoming.values()) + sum(task.bytes_out for task in ready)
    lasts = rounds.lasts(ready, seconds, transfer, provider.history, waits=waits, ahead=ahead)
    lease = Lease(
        provider_id=provider.provider_id,
        deadline=clock.now() + lasts,
        tasks=tuple(task.task_id for task in ready),
        stop=stop,
        ahead=ahead,
    )
    batch = Batch(
        graph_id=ready[0].graph_id, owner=ready[0].owner, since=now, moving=transfer / provider.link,
        waits=waits,
    )  # fmt: skip
    return Wish(lease, tuple(ready), tuple(seconds), batch)


class Leases:
    """`touch(graph_id)` is called whenever a graph's progress may look different, `urgent` when it has ended."""

    def __init__(self, store: Store, writer: Writer, providers: Providers, send: Send, touch: Touch) -> None:
        self.awake = asyncio.Event()
        """Set when a task became ready, or room for one."""
        self.woken = time.monotonic()
        """When it was set last."""
        self.joint: Joint | None = None
        self.elsewhere: Callable[[Iterable[StoreRecall]], None] = lambda recalls: None
        """Called with what is to be recalled from providers that are not connected here."""
        self.fresh = False
        """Something happened here, of which other coordinators may not know."""
        self._store = store
        self._writer = writer
        self._providers = providers
        self._send = send
        self.touch = touch
        self._running: set[asyncio.Future[None]] = set()
        self._look: asyncio.TimerHandle | None = None

    # ── what providers have ───────────────────────────────────────────────────────────────────────
    def hold(self, provider: Provider, batch: Batch, holdings: Iterable[Holding]) -> None:
        """Note that the provider has these tasks of a batch."""
        provider.blobs.add(batch.blobs)
        for holding in holdings:
            provider.take(holding)

    def forget(self, provider_id: str, tasks: Iterable[HeldTask | TaskResult | TaskFailure]) -> None:
        """The provider does not have these any more."""
        provider = self._providers.get(provider_id)
        for held in tasks:
            if provider is not None and provider.holds(held.task_id, held.attempt):
                provider.drop(held.task_id)

    async def release(self, provider_id: str, tasks: Iterable[HeldTask]) -> None:
        """Give attempts back to the queue, without blame."""
        given = list(tasks)
        self.forget(provider_id, given)
        given = await self._own(provider_id, given)
        releases = [Release(task_id=h.task_id, attempt=h.attempt, provider_id=provider_id) for h in given]
        if releases:
            await self._writer.apply(self._store.release, releases)
        self.wake()

    async def fail(self, provider_id: str, held: HeldTask, error: RavenError) -> None:
        """Count an attempt as failed."""
        failure = Failure(
            task_id=held.task_id, attempt=held.attempt, provider_id=provider_id, problem=error.problem
        )
        self.forget(provider_id, [held])
        if await self._own(provider_id, [held]):
            self.settle(await self._writer.apply(self._store.fail, [failure], clock.now()))

    async def _own(self, provider_id: str, tasks: list[HeldTask]) -> list[HeldTask]:
        """Those that it makes alone; the others are ended."""
        return tasks if self.joint is None else await self.joint.without(provider_id, tasks)

    # ── what follows ──────────────────────────────────────────────────────────────────────────────
    def settle(self, outcomes: Iterable[Outcome]) -> None:
        """What follows from results or failures, beside what the store has done."""
        listed = list(outcomes)
        self.recall(recall for outcome in listed for recall in outcome.recalls)
        ended = {outcome.graph_id for outcome in listed if outcome.finished}
        for graph_id in {outcome.graph_id for outcome in listed if outcome.graph_id}:
            self.touch(graph_id, urgent=graph_id in ended)
        self.wake()

    def recall(self, recalls: Iterable[StoreRecall]) -> None:
        """Tell providers to stop computing what nobody wants any more."""
        unwanted: dict[str, list[HeldTask]] = {}
        listed = list(recalls if self.joint is None else self.joint.spread(recalls))
        self.elsewhere(recall for recall in listed if self._providers.get(recall.provider_id) is None)
        for recall in listed:
            unwanted.setdefault(recall.provider_id, []).append(recall.task)
        for provider_id, tasks in unwanted.items():
            provider = self._providers.get(provider_id)
            self.forget(provider_id, tasks)
            if provider is not None:
                self.start(self._tell(provider, tasks))
        self.wake()

    async def _tell(self, provider: Provider, tasks: list[HeldTask]) -> None:
        try:
            await self._send(provider.sid, Recall(tasks=tuple(tasks)))
        except RavenError as error:  # it learns it from its next beat
            which = {"provider": provider.provider_id, "task": tasks[0].task_id, "attempt": tasks[0].attempt}
            log.info("provider %s did not hear a recall: %s", provider.provider_id, error, extra=which)

    def rest_after_failure(self, provider: Provider) -> None:
        """No work for a while, longer after each failure in a row."""
        self.wake_after(provider.failed(time.monotonic()))

    def rest(self, provider: Provider, seconds: float, why: str) -> None:
        """No work for so long."""
        self.wake_after(provider.rest(seconds, why, time.monotonic()))

    # ── beside the caller ─────────────────────────────────────────────────────────────────────────
    def wake(self) -> None:
        """A task became ready, or room for one."""
        if not self.awake.is_set():
            self.woken = time.monotonic()
        self.fresh = True
        self.awake.set()

    def wake_after(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.wake)

    def look_after(self, seconds: float | None) -> None:
        """As `wake_after`, instead of the last time that this was asked for."""
        if self._look is not None:
            self._look.cancel()
        self._look = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self.wake)

    def start(self, work: Awaitable[None]) -> None:
        """Let it run until it ends, or until `stop`."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def stop(self) -> None:
        """Send nothing more. What was leased stays leased."""
        self.look_after(None)
        for task in self._running:
            task.cancel()

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a message to a provider failed", exc_info=error)


def needed(task: Task) -> frozenset[str]:
    """The blobs without which the task cannot run."""
    return frozenset(models_needed(task)) | {blob.sha for blob in blobs_needed(task)}
