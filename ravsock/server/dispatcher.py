"""Hands ready tasks to providers: asks the store what is ready and `placement` who gets it, leases, sends.

Runs when something has happened, never by polling. All decisions are in `ravsock.core`; leases are in the store
before a task is sent, and what cannot be sent is released.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ravop import tracing
from ravop.errors import MessageError, RavenError
from ravop.protocol.messages import Assign, HeldTask, Task
from ravsock.core import deadlines, placement, rounds
from ravsock.core.fleet import DEFAULT_GFLOPS
from ravsock.core.history import History
from ravsock.core.jobs import Job
from ravsock.core.placement import Assignment
from ravsock.server import clock
from ravsock.server.copies import Copies
from ravsock.server.elsewhere import Elsewhere
from ravsock.server.gangs import Gangs
from ravsock.server.health import Health
from ravsock.server.leases import Leases, Send, Wish, needed, wish_for
from ravsock.server.metrics import Metrics
from ravsock.server.muster import Muster
from ravsock.server.peers import Peers
from ravsock.server.provider import Batch, Holding, Provider
from ravsock.server.providers import Providers
from ravsock.server.sharing import Sharing
from ravsock.server.storage import Storage
from ravsock.server.writer import Writer
from ravsock.store import ReadyTask, Store

TAKEN_SECONDS = 0.02
"""After so long to look again, where another coordinator has leased what was ready."""
SMALL_MESSAGE = 16
"""Tasks in a message whose acknowledgement tells how far the provider is."""

log = logging.getLogger(__name__)


class Dispatcher:
    def __init__(
        self,
        store: Store,
        writer: Writer,
        storage: Storage,
        providers: Providers,
        leases: Leases,
        history: History,
        gangs: Gangs,
        health: Health,
        send: Send,
        peers: Peers,
        elsewhere: Elsewhere,
        more: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        """`more` is called when there is more work than the providers here can take."""
        self.jobs: tuple[Job, ...] = ()
        """What was ready and found no place, last time."""
        self._store = store
        self._writer = writer
        self._storage = storage
        self._providers = providers
        self._leases = leases
        self._history = history
        self._health = health
        self._send = send
        self._peers = peers
        self._sharing = Sharing(elsewhere, leases)
        self._more = more
        self._metrics = metrics
        self._began = 0.0
        """When what this round hands out was asked for."""
        self._muster = Muster(store, writer, providers, leases, history, gangs, self._deliver)
        self._copies = Copies(store, writer, providers, history, self._give)
        self._appetite = placement.BATCH_TASKS

    async def run(self) -> None:
        """Until cancelled."""
        awake = self._leases.awake
        while True:
            await awake.wait()
            awake.clear()
            self._began = self._leases.woken
            try:
                fresh, self._leases.fresh = self._leases.fresh, False
                while await self._hand_out():
                    pass
                if fresh and self._peers.others and (self.jobs or self._sharing.leaves or not self._room()):
                    self._more()
                look = None
                if self._providers.at_work():
                    look = await self._copies.hand_out()
                self._leases.look_after(look)
            except Exception as error:  # noqa: BLE001 — it is told and logged, and tried again
                self._health.failed("tasks could not be handed out", error)
                self._leases.wake_after(1.0)

    async def _hand_out(self) -> bool:
        """One round; whether another may give more."""
        room = self._room()
        if not room:
            return False
        limit = rounds.look(room, self._appetite)
        found = await asyncio.to_thread(self._store.ready, limit, share=self._peers.share)
        nodes, full = self._providers.nodes(time.monotonic())
        if self._peers.others and len(found) < limit:
            idle = sum(max(0, node.slots - node.outstanding) for node in nodes if not node.resting)
            found = list(await self._sharing.mine(found, idle))
        ready = {task.task_id: task for task in found}
        if not ready:
            self.jobs = ()
            return False
        beyond = dict.fromkeys(rounds.cut(tuple(ready.values()), limit), self._appetite)
        ready, nodes = await self._muster.hand_out(ready, nodes)
        typical = max((node.gflops for node in nodes), default=DEFAULT_GFLOPS)
        jobs = [rounds.job(task, typical, self._history) for task in ready.values()]
        made = placement.assign(jobs, nodes, self._providers.running(), beyond, full)
        placed = {task for assignment in made for task in assignment.tasks}
        self.jobs = tuple(job for job in jobs if job.task_id not in placed)
        self._appetite = rounds.appetite(made)
        wishes = [wish for a in made if (wish := self._wish(a, [ready[task] for task in a.tasks]))]
        return await self._lease(wishes)

    async def _lease(self, wishes: Sequence[Wish]) -> bool:
        """Lease and send; whether there was anything to send."""
        if not wishes:
            return False
        leases = [wish.lease for wish in wishes]
        batches = await self._writer.apply(self._store.lease, leases, clock.now())
        for wish, tasks in zip(wishes, batches, strict=True):
            if tasks:
                self._give(wish, tasks)
        if not any(batches) and self._peers.others:  # another coordinator was faster
            self._leases.wake_after(TAKEN_SECONDS)
        return any(batches)

    def _room(self) -> int:
        """How many more batches there is room for, as far as that matters."""
        return self._providers.room(time.monotonic(), rounds.LOOK_AHEAD // self._appetite + 1)

    def _give(self, wish: Wish, tasks: tuple[Task, ...]) -> None:
        """What was leased is the provider's, and on its way to it."""
        provider = self._providers.get(wish.lease.provider_id)
        if provider is not None:
            batch = wish.batch
            batch.asked = self._began
            batch.blobs = frozenset().union(*map(needed, tasks))
            known = {
                ready.task_id: (ready, seconds)
                for ready, seconds in zip(wish.ready, wish.seconds, strict=True)
            }
            holdings = []
            for task in tasks:
                ready, seconds = known.get(task.task_id) or (None, self._guess(task, provider))
                holdings.append(
                    Holding(
                        task_id=task.task_id, attempt=task.attempt, batch=batch, estimate=seconds, ready=ready
                    )
                )
            self._leases.hold(provider, batch, holdings)
        self._leases.start(self._deliver(wish.lease.provider_id, wish.batch, tasks))

    def _guess(self, task: Task, provider: Provider) -> float:
        """Seconds that a task should take there that runs ahead, and was not looked at."""
        effort = deadlines.effort(task.flops, 0.0, self._history.pace(task.subgraph))
        return effort.seconds(provider.gflops)

    def _wish(self, assignment: Assignment, ready: Sequence[ReadyTask]) -> Wish | None:
        """The lease to ask for. None where the provider has gone meanwhile."""
        provider = self._providers.get(assignment.provider_id)
        if provider is None:
            return None
        stop, each = None, []
        for task in ready:
            seconds, stop = rounds.portion(task, provider.gflops, self._history)
            each.append(seconds)
        now = time.monotonic()
        waits = provider.backlog(now) / provider.profile.slots
        return wish_for(provider, ready, each, now, waits=waits, ahead=assignment.ahead, stop=stop)

    async def _deliver(self, provider_id: str, batch: Batch, tasks: tuple[Task, ...]) -> None:
        held = [HeldTask(task_id=task.task_id, attempt=task.attempt) for task in tasks]
        provider = self._providers.get(provider_id)
        if provider is None:
            return await self._leases.release(provider_id, held)
        self._leases.touch(batch.graph_id)
        try:
            fitted = await self._storage.fitted_tasks(tasks)
            if fitted is not tasks:
                batch.blobs = batch.blobs.union(*map(needed, fitted))
            trace = await self._trace(batch)
            sent = time.monotonic()
            with tracing.span("dispatch", trace, batch.since, provider=provider_id, **_about(batch, tasks)):
                await self._send(provider.sid, Assign(tasks=_traced(fitted)))
            self._metrics.attempts.labels("sent").inc(len(tasks))
            self._metrics.dispatch_seconds.observe(time.monotonic() - (batch.asked or batch.since))
            if len(tasks) <= SMALL_MESSAGE:
                self._history.answered(provider_id, time.monotonic() - sent)
        except MessageError as error:
            about = _about(batch, tasks)
            label = tasks[0].label
            log.warning("%d tasks from %s on cannot be sent: %s", len(tasks), label, error, extra=about)
            if len(tasks) == 1:
                await self._leases.fail(provider_id, held[0], error)
            else:  # smaller batches next time, until it is seen which one is at fault
                await self._leases.release(provider_id, held)
        except RavenError as error:
            about = {**_about(batch, tasks), "provider": provider_id}
            log.info("provider %s did not take %d tasks: %s", provider_id, len(tasks), error, extra=about)
            self._leases.rest_after_failure(provider)
            await self._leases.release(provider_id, held)
        return None

    async def _trace(self, batch: Batch) -> str:
        """The span of who asked for the run, where spans are recorded."""
        return await asyncio.to_thread(self._store.trace, batch.graph_id) if tracing.on() else ""


def _about(batch: Batch, tasks: Sequence[Task]) -> dict[str, Any]:
    """What a log line or a span tells of a batch: its first task stands for all."""
    return {"graph": batch.graph_id, "task": tasks[0].task_id, "attempt": tasks[0].attempt}


def _traced(tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    """The tasks with the span that the caller is in."""
    trace = tracing.current()
    return tuple(msgspec.structs.replace(task, trace=trace) for task in tasks) if trace else tasks
