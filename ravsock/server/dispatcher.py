"""Hands ready tasks to providers: asks the store what is ready and `placement` who gets it, leases, sends.

Runs when something has happened (`wake`), never by polling. All decisions are in `ravsock.core`; leases are
in the store before a task is sent, and one that cannot be sent is released.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from ravop.errors import MessageError, RavenError
from ravop.protocol.messages import (
    Assign,
    HeldTask,
    Message,
    Recall,
    Task,
    TaskFailure,
    TaskResult,
    blobs_needed,
    models_needed,
)
from ravsock.core import deadlines, placement
from ravsock.core.deadlines import Effort, Pace
from ravsock.core.placement import Assignment, Job
from ravsock.server.providers import Holding, Provider, Providers
from ravsock.server.storage import Storage
from ravsock.server.writer import Writer
from ravsock.store import Failure, Lease, Outcome, ReadyTask, Release, Store
from ravsock.store import Recall as StoreRecall

LOOK_AHEAD, LOOK_BEYOND = 512, 16
"""Ready tasks considered at a time: at most, and beyond what there is room for (some fit nowhere)."""
PACES = 10_000
"""Subgraphs whose measured pace is remembered."""

Send = Callable[[str, Message], Awaitable[None]]
"""Sends a message to a connection and waits for its acknowledgement. Raises `RavenError` when none comes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Wish:
    lease: Lease
    estimate: float
    """Seconds the run should take."""


class Dispatcher:
    """`touch(graph_id)` is called whenever a graph's progress may look different."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        storage: Storage,
        providers: Providers,
        send: Send,
        touch: Callable[[str], None],
    ) -> None:
        self.jobs: tuple[Job, ...] = ()
        """What was ready and found no place, last time."""
        self._store = store
        self._writer = writer
        self._storage = storage
        self._providers = providers
        self._send = send
        self._touch = touch
        self._awake = asyncio.Event()
        self._paces: OrderedDict[str, Pace] = OrderedDict()
        self._sending: set[asyncio.Future[None]] = set()

    def wake(self) -> None:
        """A task became ready, or room for one."""
        self._awake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._awake.wait()
            self._awake.clear()
            try:
                while await self._hand_out():
                    pass
            except Exception:
                log.exception("tasks could not be handed out; trying again in a second")
                self._wake_after(1.0)

    def stop(self) -> None:
        """Send nothing more. What was leased stays leased."""
        for task in self._sending:
            task.cancel()

    async def _hand_out(self) -> bool:
        """One round; whether another may give more."""
        nodes = [provider.node(time.monotonic()) for provider in self._providers]
        room = sum(node.free for node in nodes)
        if not room:
            return False
        limit = min(LOOK_AHEAD, LOOK_BEYOND + 4 * room)
        ready = {task.task_id: task for task in await asyncio.to_thread(self._store.ready, limit)}
        jobs = [self._job(task, nodes) for task in ready.values()]
        made = placement.assign(jobs, nodes, self._providers.running())
        placed = {assignment.task_id for assignment in made}
        self.jobs = tuple(job for job in jobs if job.task_id not in placed)
        wishes = [wish for a in made if (wish := self._wish(a, ready[a.task_id])) is not None]
        if not wishes:
            return False
        batches = await self._writer.do(self._store.lease, [wish.lease for wish in wishes], time.time())
        for wish, batch in zip(wishes, batches, strict=True):
            provider = self._providers.get(wish.lease.provider_id)
            for task in batch:
                if provider is not None:
                    self.hold(provider, task, ready[task.task_id].owner, wish.estimate)
                self._start(self._deliver(wish.lease.provider_id, task))
        return any(batches)

    def _job(self, task: ReadyTask, nodes: list[placement.Node]) -> Job:
        effort = self._effort(task)
        if task.length is not None:
            typical = max(node.gflops for node in nodes)
            effort = effort.times(self._chunk(task, effort.seconds(typical)))
        return Job(
            task_id=task.task_id,
            graph_id=task.graph_id,
            owner=task.owner,
            effort=effort,
            peak_memory=task.peak_memory,
            inputs=task.inputs,
            failed_on=frozenset(task.failed_on),
        )

    def _effort(self, task: ReadyTask) -> Effort:
        return deadlines.effort(task.flops, task.seconds_overhead, self._paces.get(task.model))

    def _chunk(self, task: ReadyTask, estimate: float) -> int:
        return deadlines.chunk_length((task.length or 0) - task.start, estimate, self._paces.get(task.model))

    def _wish(self, assignment: Assignment, task: ReadyTask) -> _Wish | None:
        """The lease to ask for. None where the provider has gone meanwhile."""
        provider = self._providers.get(assignment.provider_id)
        if provider is None:
            return None
        estimate, stop = self._effort(task).seconds(provider.gflops), None
        if task.length is not None:
            chunk = self._chunk(task, estimate)
            estimate, stop = estimate * chunk, task.start + chunk
        transfer = sum(size for sha, size in task.inputs if sha not in provider.blobs) + task.bytes_out
        seconds = deadlines.lease_seconds(estimate, transfer, task.tries + 1)
        lease = Lease(
            provider_id=provider.provider_id, deadline=time.time() + seconds, tasks=(task.task_id,), stop=stop
        )
        return _Wish(lease, estimate)

    async def _deliver(self, provider_id: str, task: Task) -> None:
        held = HeldTask(task_id=task.task_id, attempt=task.attempt)
        provider = self._providers.get(provider_id)
        if provider is None:
            return await self.release(provider_id, [held])
        self._touch(task.graph_id)
        try:
            task = await self._storage.fitted_task(task)
            holding = provider.held.get(task.task_id)
            if holding is not None and holding.attempt == task.attempt:
                provider.held[task.task_id] = replace(holding, blobs=_needed(task))
            await self._send(provider.sid, Assign(tasks=(task,)))
        except MessageError as error:
            log.warning("task %d cannot be sent: %s", task.task_id, error)
            await self.fail(provider_id, held, error)
        except RavenError as error:
            log.info("provider %s did not take task %d: %s", provider_id, task.task_id, error)
            self.rest_after_failure(provider)
            await self.release(provider_id, [held])
        return None

    def hold(self, provider: Provider, task: Task, owner: int, estimate: float) -> None:
        """Note that the provider has the task."""
        needed = _needed(task)
        provider.blobs.add(needed)
        provider.held[task.task_id] = Holding(
            task_id=task.task_id,
            attempt=task.attempt,
            graph_id=task.graph_id,
            owner=owner,
            estimate=estimate,
            since=time.monotonic(),
            blobs=needed,
        )

    async def release(self, provider_id: str, tasks: Iterable[HeldTask]) -> None:
        """Give attempts back to the queue, without blame."""
        given = list(tasks)
        self.forget(provider_id, given)
        releases = [Release(task_id=h.task_id, attempt=h.attempt, provider_id=provider_id) for h in given]
        if releases:
            await self._writer.do(self._store.release, releases)
        self.wake()

    async def fail(
        self, provider_id: str, held: HeldTask, error: RavenError, node: int | None = None
    ) -> Outcome:
        """Count an attempt as failed."""
        failure = Failure(
            task_id=held.task_id,
            attempt=held.attempt,
            provider_id=provider_id,
            problem=error.problem,
            node=node,
        )
        self.forget(provider_id, [held])
        (outcome,) = await self._writer.do(self._store.fail, [failure], time.time())
        self.settle([outcome])
        return outcome

    def rest_after_failure(self, provider: Provider) -> None:
        """No work for a while, longer after each failure in a row."""
        self._wake_after(provider.failed(time.monotonic()))

    def rest(self, provider: Provider, seconds: float, why: str) -> None:
        """No work for so long."""
        self._wake_after(provider.rest(seconds, why, time.monotonic()))

    def _wake_after(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.wake)

    def settle(self, outcomes: Iterable[Outcome]) -> None:
        """What follows from results or failures, beside what the store has done."""
        listed = list(outcomes)
        self.recall(recall for outcome in listed for recall in outcome.recalls)
        for graph_id in {outcome.graph_id for outcome in listed if outcome.graph_id}:
            self._touch(graph_id)
        self.wake()

    def learn(self, outcome: Outcome, gflops: float, seconds: float, elapsed: float) -> None:
        """Remember how fast a subgraph ran."""
        self._paces[outcome.model] = deadlines.learn(gflops, seconds, elapsed, outcome.iterations)
        self._paces.move_to_end(outcome.model)
        if len(self._paces) > PACES:
            self._paces.popitem(last=False)

    def recall(self, recalls: Iterable[StoreRecall]) -> None:
        """Tell providers to stop computing what nobody wants any more."""
        for recall in recalls:
            provider = self._providers.get(recall.provider_id)
            self.forget(recall.provider_id, [recall.task])
            if provider is not None:
                self._start(self._tell(provider, recall.task))
        self.wake()

    async def _tell(self, provider: Provider, task: HeldTask) -> None:
        try:
            await self._send(provider.sid, Recall(tasks=(task,)))
        except RavenError as error:  # it learns it from its next beat
            log.info("provider %s did not hear a recall: %s", provider.provider_id, error)

    def forget(self, provider_id: str, tasks: Iterable[HeldTask | TaskResult | TaskFailure]) -> None:
        """The provider does not have these any more."""
        provider = self._providers.get(provider_id)
        for held in tasks:
            if provider is not None and provider.holds(held.task_id, held.attempt):
                del provider.held[held.task_id]

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._sending.add(task)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Future[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a message to a provider failed", exc_info=error)


def _needed(task: Task) -> frozenset[str]:
    """The blobs without which the task cannot run."""
    return frozenset(models_needed(task)) | {blob.sha for blob in blobs_needed(task)}
