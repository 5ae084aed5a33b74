"""What providers may ask of the coordinator: one method a message, called by the Socket.IO shell.

The store decides whether a result counts, `lessons` what that tells of its provider; here follows what it means for the
connected providers and the dispatcher.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import msgspec

from ravop.protocol.messages import (
    Beat,
    Beaten,
    Graphs,
    HeldTask,
    Register,
    Registered,
    Report,
    Reported,
    Task,
)
from ravsock.core import deadlines, states
from ravsock.core.history import History
from ravsock.server import clock
from ravsock.server.dispatcher import Dispatcher
from ravsock.server.doubts import Doubts
from ravsock.server.gangs import Gangs
from ravsock.server.leases import Leases, needed
from ravsock.server.lessons import Lessons
from ravsock.server.metrics import Metrics
from ravsock.server.peers import Peers
from ravsock.server.progress import Progress
from ravsock.server.provider import Batch, Holding, Provider, claimed
from ravsock.server.providers import Providers
from ravsock.server.storage import Storage
from ravsock.server.writer import Writer
from ravsock.store import Failure, Held, Identity, Outcome, Release, Result, Store

LOST_BEATS = 2
"""A task that a provider does not name so many beats after it was sent, it does not have."""
JOINABLE = 100
"""Graphs shown to a provider that asks."""

log = logging.getLogger(__name__)


class _MissingError(Exception):
    """Results name blobs that are not there: nothing of the report is taken in."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__(missing)
        self.missing = missing


class Work:
    """For the event loop's thread only."""

    def __init__(
        self, store: Store, writer: Writer, storage: Storage, providers: Providers, leases: Leases,
        dispatcher: Dispatcher, history: History, gangs: Gangs, progress: Progress, peers: Peers,
        metrics: Metrics,
    ) -> None:  # fmt: skip
        self._store = store
        self._writer = writer
        self._storage = storage
        self._providers = providers
        self._leases = leases
        self._dispatcher = dispatcher
        self._history = history
        self._gangs = gangs
        self._progress = progress
        self._peers = peers
        self._metrics = metrics
        self._doubts = Doubts(providers, leases)
        self._lessons = Lessons(leases, history, metrics)
        self._coming: set[str] = set()
        """Providers that are being taken in: what ends now is an earlier connection of theirs."""

    async def register(
        self, sid: str, identity: Identity, message: Register
    ) -> tuple[Registered, Provider | None]:
        """Take a provider in; what it still holds and nobody else got is its own again.

        Also returns the earlier connection of the same provider, if that seemed alive. Raises `RoleError`
        where another token has this provider id.
        """
        self._coming.add(message.provider_id)
        try:
            return await self._take_over(sid, identity, message)
        finally:
            self._coming.discard(message.provider_id)

    async def _take_over(
        self, sid: str, identity: Identity, message: Register
    ) -> tuple[Registered, Provider | None]:
        name, claims = message.provider_id, message.holding
        await self._writer.do(
            self._store.register_provider, name, identity.token_id, message.profile, clock.now(),
            self._peers.id, message.graph_id,
        )  # fmt: skip
        known = self._providers.at(sid)
        if known is not None and known.provider_id == name:
            return self._renew(known, message), None
        provider = Provider(
            provider_id=name,
            token_id=identity.token_id,
            sid=sid,
            profile=message.profile,
            graph_id=message.graph_id,
            heard=time.monotonic(),
            history=self._history,
        )
        kept = await self._writer.do(self._reclaim, provider, claims, clock.now())
        tasks = await self._storage.fitted_tasks([task for task, _ in kept])
        provider.heard = time.monotonic()
        earlier = self._providers.add(provider)
        provider.beat_seconds = deadlines.beat_seconds(len(self._providers))
        for task, (_, held) in zip(tasks, kept, strict=True):
            self._keep(provider, task, held)
        log.info(
            "provider %s (%s) registered; keeps %d of the %d tasks it has",
            name, message.profile.name, len(kept), len(claims), extra={"provider": name},
        )  # fmt: skip
        self._changed()
        return Registered(beat_seconds=provider.beat_seconds, drop=self._not_held(provider, claims)), earlier

    def _renew(self, provider: Provider, message: Register) -> Registered:
        """It offers more or less than before, and goes on with what it has."""
        provider.profile = message.profile
        self._history.claim(provider.provider_id, claimed(message.profile))
        about = {"provider": provider.provider_id}
        log.info("provider %s now offers %d slots", about["provider"], message.profile.slots, extra=about)
        self._changed()
        return Registered(beat_seconds=provider.beat_seconds, drop=self._not_held(provider, message.holding))

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
        effort = deadlines.effort(held.flops, 0.0, self._history.pace(held.model))
        return effort.times(held.iterations).seconds(provider.gflops)

    def _keep(self, provider: Provider, task: Task, held: Held) -> None:
        """What it came back with is a batch of its own: which tasks were one is not known any more."""
        now, estimate = time.monotonic(), self._estimate(held, provider)
        batch = Batch(graph_id=held.graph_id, owner=held.owner, since=now, blobs=needed(task))
        holding = Holding(task_id=held.task_id, attempt=held.attempt, batch=batch, estimate=estimate)
        self._leases.hold(provider, batch, [holding])

    async def left(self, provider: Provider) -> None:
        """Its connection is closed, or it has been silent too long: others get what it had, unless it has come to another
        coordinator with that."""
        self._providers.remove(provider, time.monotonic())
        name, held = provider.provider_id, [holding.task for holding in provider.held.values()]
        log.info("provider %s left; it had %d tasks", name, len(held), extra={"provider": name})
        alone = await self._gangs.without(name, held)
        releases = [Release(task_id=h.task_id, attempt=h.attempt, provider_id=name) for h in alone]
        if name not in self._coming:
            await self._writer.apply(self._store.provider_left, name, self._peers.id, releases)
        self._changed()

    async def beat(self, provider: Provider, message: Beat) -> Beaten:
        """It lives. What it names and does not have, it may drop; what it has and does not name, is lost."""
        now = time.monotonic()
        provider.heard = now
        named = {held.task_id for held in message.holding}
        lost = [
            h.task
            for h in provider.held.values()
            if h.task_id not in named and now - h.batch.since > LOST_BEATS * provider.beat_seconds
        ]
        if lost:
            about = {"provider": provider.provider_id}
            log.warning("provider %s has lost %d tasks", about["provider"], len(lost), extra=about)
            await self._leases.release(provider.provider_id, lost)
        return Beaten(drop=self._not_held(provider, message.holding), waiting=self._why_idle(provider, now))

    async def report(self, provider: Provider, message: Report) -> Reported:
        """What became of a batch: results, failures and tasks given back are one change of the store.

        A report that names blobs that are not there changes nothing; one that is sent again does no harm.
        """
        provider.heard = time.monotonic()
        name = provider.provider_id
        message, joint = await self._gangs.report(provider, message)
        self._metrics.attempts.labels("accepted").inc(joint.accepted)
        message, again = self._doubts.sift(provider, message)
        if joint.missing or not (message.done or message.failed or message.returned or again):
            return joint
        done = [
            Result(
                task_id=result.task_id,
                attempt=result.attempt,
                provider_id=name,
                outputs=result.outputs,
                seconds=result.seconds,
            )
            for result in message.done
        ]
        failed = [
            Failure(
                task_id=failure.task_id,
                attempt=failure.attempt,
                provider_id=name,
                problem=failure.problem,
                node=failure.node,
            )
            for failure in message.failed
        ]
        returned = [
            Release(task_id=held.task_id, attempt=held.attempt, provider_id=name)
            for held in (*message.returned, *again)
        ]
        try:
            outcomes = await self._writer.apply(self._take_in, done, failed, returned, clock.now())
        except _MissingError as error:
            return Reported(missing=error.missing)
        self._lessons.note(provider, message, outcomes)  # what follows may begin at once
        self._metrics.reported(message, sum(outcome.accepted for outcome in outcomes))
        await self._writer.durable()
        return Reported(accepted=joint.accepted + sum(outcome.accepted for outcome in outcomes))

    def _take_in(
        self, done: list[Result], failed: list[Failure], returned: list[Release], now: float
    ) -> list[Outcome]:
        """On the writer's thread, within one transaction."""
        outcomes = self._store.complete(done, now) if done else []
        missing = {sha for outcome in outcomes for sha in outcome.missing}
        if missing:
            raise _MissingError(tuple(sorted(missing)))
        if failed:
            outcomes += self._store.fail(failed, now)
        if returned:
            self._store.release(returned)
        return outcomes

    async def joinable(self) -> Graphs:
        """The executing graphs, newest first, without what only their owners should see."""
        infos = (await self._progress.infos(state=states.EXECUTING))[:JOINABLE]
        return Graphs(graphs=tuple(msgspec.structs.replace(info, metrics={}, persisted=()) for info in infos))

    def _changed(self) -> None:
        self._leases.wake()
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
