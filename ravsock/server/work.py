"""What providers may ask of the coordinator: one method a message, called by the Socket.IO shell.

The store decides whether a result counts; here follows what that means for the connected providers and the
dispatcher.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import msgspec

from ravop.errors import error_from_problem
from ravop.protocol.messages import (
    Beat,
    Beaten,
    Complete,
    Completed,
    Fail,
    Graphs,
    HandBack,
    HeldTask,
    Register,
    Registered,
    Task,
)
from ravop.protocol.tensors import blobs_of
from ravsock.core import deadlines, states
from ravsock.server.dispatcher import Dispatcher
from ravsock.server.progress import Progress
from ravsock.server.providers import Provider, Providers
from ravsock.server.storage import Storage
from ravsock.server.writer import Writer
from ravsock.store import Held, Identity, Release, Result, Store

LOST_SECONDS = 2 * deadlines.BEAT_SECONDS
"""A task that a provider does not name so long after it was sent, it does not have."""
HAND_BACK_SECONDS = 10.0
"""A provider that hands a task back gets none for so long."""
JOINABLE = 100
"""Graphs shown to a provider that asks."""

log = logging.getLogger(__name__)


class Work:
    """For the event loop's thread only."""

    def __init__(
        self, store: Store, writer: Writer, storage: Storage, providers: Providers, dispatcher: Dispatcher,
        progress: Progress,
    ) -> None:  # fmt: skip
        self._store = store
        self._writer = writer
        self._storage = storage
        self._providers = providers
        self._dispatcher = dispatcher
        self._progress = progress

    async def register(
        self, sid: str, identity: Identity, message: Register
    ) -> tuple[Registered, Provider | None]:
        """Take a provider in; what it still holds and nobody else got is its own again.

        Also returns the earlier connection of the same provider, if that seemed alive. Raises `RoleError`
        where another token has this provider id.
        """
        name, claims = message.provider_id, message.holding
        await self._writer.do(
            self._store.register_provider, name, identity.token_id, message.profile, time.time()
        )
        provider = Provider(
            provider_id=name,
            token_id=identity.token_id,
            sid=sid,
            profile=message.profile,
            graph_id=message.graph_id,
            heard=time.monotonic(),
        )
        kept = await self._writer.do(self._reclaim, provider, claims, time.time())
        kept = [(await self._storage.fitted_task(task), held) for task, held in kept]
        earlier = self._providers.add(provider)
        for task, held in kept:
            self._dispatcher.hold(provider, task, held.owner, self._estimate(held, provider))
        log.info("provider %s registered; keeps %d of the %d tasks it has", name, len(kept), len(claims))
        self._changed()
        return Registered(beat_seconds=deadlines.BEAT_SECONDS, drop=self._not_held(provider, claims)), earlier

    def _reclaim(self, provider: Provider, claims: Sequence[HeldTask], now: float) -> list[tuple[Task, Held]]:
        """On the writer's thread: the attempts it still has; what it was leased and has no more goes back."""
        name, claimed = provider.provider_id, {(claim.task_id, claim.attempt) for claim in claims}
        lost = [
            Release(task_id=held.task_id, attempt=held.attempt, provider_id=name)
            for held in self._store.held_by(name)
            if (held.task_id, held.attempt) not in claimed
        ]
        self._store.release(lost)
        wishes = [Release(task_id=task, attempt=attempt, provider_id=name) for task, attempt in claimed]
        return self._store.keep(
            wishes, lambda held: now + deadlines.lease_seconds(self._estimate(held, provider)), now
        )

    def _estimate(self, held: Held, provider: Provider) -> float:
        return deadlines.effort(held.flops).times(held.iterations).seconds(provider.gflops)

    async def left(self, provider: Provider) -> None:
        """Its connection is closed, or it has been silent too long: others get what it had."""
        self._providers.remove(provider, time.monotonic())
        log.info("provider %s left; %d tasks go back", provider.provider_id, len(provider.held))
        await self._dispatcher.release(provider.provider_id, [held.task for held in provider.held.values()])
        self._changed()

    async def beat(self, provider: Provider, message: Beat) -> Beaten:
        """It lives. What it names and does not have, it may drop; what it has and does not name, is lost."""
        now = time.monotonic()
        provider.heard = now
        named = {held.task_id for held in message.holding}
        lost = [
            h.task for h in provider.held.values() if h.task_id not in named and now - h.since > LOST_SECONDS
        ]
        if lost:
            log.warning("provider %s has lost %d tasks", provider.provider_id, len(lost))
            await self._dispatcher.release(provider.provider_id, lost)
        return Beaten(drop=self._not_held(provider, message.holding), waiting=self._why_idle(provider, now))

    async def complete(self, provider: Provider, message: Complete) -> Completed:
        """A result: taken in when its attempt is still the task's, else discarded."""
        provider.heard = time.monotonic()
        result = Result(
            task_id=message.task_id,
            attempt=message.attempt,
            provider_id=provider.provider_id,
            outputs=message.outputs,
            seconds=message.seconds,
        )
        (outcome,) = await self._writer.do(self._store.complete, [result], time.time())
        if outcome.missing:
            return Completed(accepted=False, missing=outcome.missing)
        now, held = time.monotonic(), provider.held.get(message.task_id)
        self._dispatcher.forget(provider.provider_id, [_held(message)])
        if outcome.accepted:
            provider.succeeded()
            provider.blobs.add(blob.sha for output in message.outputs for blob in blobs_of(output.ref))
            if held is not None:
                self._dispatcher.learn(outcome, provider.gflops, message.seconds, now - held.since)
        elif outcome.problem is not None:
            log.warning("a result of provider %s is wrong: %s", provider.provider_id, outcome.problem.text())
            self._dispatcher.rest_after_failure(provider)
        self._dispatcher.settle(outcome)
        return Completed(accepted=outcome.accepted)

    async def fail(self, provider: Provider, message: Fail) -> Completed:
        """An attempt failed there: the task goes elsewhere, and the provider rests."""
        provider.heard = time.monotonic()
        error = error_from_problem(message.problem)
        log.info("provider %s failed task %d: %s", provider.provider_id, message.task_id, error)
        if provider.holds(message.task_id, message.attempt):
            self._dispatcher.rest_after_failure(provider)
        outcome = await self._dispatcher.fail(provider.provider_id, _held(message), error, message.node)
        return Completed(accepted=outcome.problem is not None)

    async def hand_back(self, provider: Provider, message: HandBack) -> Completed:
        """It gives the task back without blame, and gets no other for a moment: it is stopping."""
        provider.heard = time.monotonic()
        had = provider.holds(message.task_id, message.attempt)
        self._dispatcher.rest(provider, HAND_BACK_SECONDS, "after handing a task back")
        await self._dispatcher.release(provider.provider_id, [_held(message)])
        return Completed(accepted=had)

    async def joinable(self) -> Graphs:
        """The executing graphs, newest first, without what only their owners should see."""
        infos = (await self._progress.infos(state=states.EXECUTING))[:JOINABLE]
        return Graphs(graphs=tuple(msgspec.structs.replace(info, metrics={}, persisted=()) for info in infos))

    def _changed(self) -> None:
        self._dispatcher.wake()
        self._progress.touch_all()

    def _not_held(self, provider: Provider, claims: Sequence[HeldTask]) -> tuple[HeldTask, ...]:
        return tuple(claim for claim in claims if not provider.holds(claim.task_id, claim.attempt))

    def _why_idle(self, provider: Provider, now: float) -> str:
        if provider.held:
            return ""
        node = provider.node(now)
        if node.resting:
            return provider.resting(now)
        jobs = [job for job in self._dispatcher.jobs if node.graph_id in (None, job.graph_id)]
        if not jobs:
            return "no subgraph is ready" + (f" in graph {node.graph_id}" if node.graph_id else "")
        least = min(job.peak_memory for job in jobs)
        if least > node.memory:
            return f"the subgraphs that are ready need {least:,} bytes of memory, {node.memory:,} are offered"
        return "others have what is ready, or it failed here before"


def _held(message: Complete | Fail | HandBack) -> HeldTask:
    return HeldTask(task_id=message.task_id, attempt=message.attempt)
