"""`Work`: the effects of a batch on this machine: preparing, computing, storing what came out, delivering.

Each ends in an event. What follows from it is `core.lifecycle`'s; the daemon starts these effects and ends them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from provider.bridge import Bridge
from provider.cache import Cache
from provider.core import events as e
from provider.core.batches import failure, key_of
from provider.core.exits import PASSING
from provider.core.tasks import node_index
from provider.executor import Host
from provider.sandbox import Sandbox
from provider.slots import Slots
from provider.supply import Supply, needed
from provider.wire import Ran
from ravop.errors import (
    CrashedError,
    MessageError,
    Problem,
    RavenError,
    StorageFullError,
    UnreachableError,
    error_from_problem,
)
from ravop.protocol.messages import Output, Task, TaskFailure, TaskResult, models_needed
from ravop.protocol.tensors import Blob, Inline
from ravop.transport import BlobClient

log = logging.getLogger(__name__)
UPLOADS = 4
"""At one time."""
MAX_TOLD = 100
"""Reasons of slow models that are logged, each once."""


class Work:
    """For one coordinator, at `url`."""

    def __init__(self, cache: Cache, slots: Slots, url: str, token: str, host: Host) -> None:
        self._cache = cache
        self._slots = slots
        self._url, self._token = url, token
        self._blobs = BlobClient(url, token)
        self._supply = Supply(cache, self._blobs)
        self._host = host
        self._post = host.post
        self._told: set[str] = set()

    @property
    def stored(self) -> int:
        """Bytes in the cache."""
        return self._cache.size

    def drop(self, batch: int) -> None:
        """What the batch used may leave the cache."""
        self._cache.unpin(batch)

    async def close(self) -> None:
        """End transfers and workers."""
        await self._blobs.close()
        await self._slots.close()

    async def prepare(self, prepare: e.Prepare) -> None:
        if prepare.after:
            await asyncio.sleep(prepare.after)
        batch, needs = prepare.batch, needed(prepare.tasks)
        self._cache.pin(batch, needs)
        try:
            failed, _ = await asyncio.gather(self._supply.prepare(needs), self._slots.warm())
        except (CrashedError, OSError) as trouble:
            return self._unfit(batch, trouble)
        if not failed:
            return self._post(e.Prepared(batch, now()))
        refused: dict[str, RavenError] = {}
        for sha, error in failed.items():
            if not isinstance(error, RavenError):
                return self._unfit(batch, error)
            if error.problem.code in PASSING:
                return self._stalled(batch, error)
            refused[sha] = error
        blamed, sha = next((task, sha) for task in prepare.tasks for sha in needed([task]) if sha in refused)
        self._broke(batch, key_of(blamed), refused[sha])

    async def compute(self, compute: e.Compute) -> None:
        batch, tasks = compute.batch, compute.tasks
        try:
            async with self._slots.use(set().union(*map(models_needed, tasks))) as sandbox:
                await sandbox.start()
                try:
                    ran = await self._run(sandbox, tasks)
                except UnreachableError as error:  # the gang is broken off, its work somebody else's
                    log.info("task %d is given up: %s", tasks[0].task_id, error)
                    return self._post(e.Recalled(tuple(map(key_of, tasks)), now()))
                except RavenError as error:
                    blamed = tasks[min(sandbox.place, len(tasks) - 1)]
                    return self._broke(batch, key_of(blamed), error)
                if ran.problem is not None and ran.problem.code == StorageFullError.code:
                    sandbox.discard()
                    return self._unfit(batch, error_from_problem(ran.problem))
                self._tell_slow(ran)
                files = sandbox.outputs(ran)
            done = await self._store(batch, tasks, ran, files)
        except (CrashedError, OSError) as error:
            return self._unfit(batch, error)
        failed = None if ran.problem is None else _failure(tasks[len(done)], ran.problem, ran.subgraph)
        self._post(e.Computed(batch, done, failed, now()))

    async def _run(self, sandbox: Sandbox, tasks: Sequence[Task]) -> Ran:
        seconds = max(task.lease_seconds for task in tasks)
        if tasks[0].part is None:
            return await sandbox.run(tasks, seconds)
        return await sandbox.run_part(tasks[0], seconds, self._exchange(tasks[0]))

    def _tell_slow(self, ran: Ran) -> None:
        for reason in ran.slow:
            if reason not in self._told and len(self._told) < MAX_TOLD:
                self._told.add(reason)
                log.warning("ONNX's reference evaluator, which is slow, computes models here: %s", reason)

    async def deliver(self, deliver: e.Deliver) -> None:
        if deliver.after:
            await asyncio.sleep(deliver.after)
        batch, report = deliver.batch, deliver.report
        try:
            line = self._host.line
            if line is None:
                raise UnreachableError("not connected to the coordinator")
            await line.deliver(report, self.upload)
        except RavenError as error:
            if error.problem.code in PASSING:
                return self._stalled(batch, error)
            told = (*report.done, *report.failed, *report.returned)
            return self._broke(batch, key_of(told[0]), error)
        except OSError as error:
            return self._unfit(batch, error)
        self._post(e.Delivered(batch, now()))

    async def upload(self, shas: Collection[str]) -> None:
        """Bring blobs from the cache to the coordinator. Raises as `BlobClient.put`."""
        places = asyncio.Semaphore(UPLOADS)

        async def put(sha: str) -> None:
            async with places:
                await self._blobs.put(self._cache.path(sha), sha, new=True)

        await asyncio.gather(*map(put, shas))

    def _exchange(self, task: Task) -> Bridge:
        """With the other ranks of the task's gang. Raises `MessageError` for a task without a part."""
        if task.part is None:
            raise MessageError("only a task with a part has something to exchange", received=task.label)
        return Bridge(self._url, self._token, key_of(task), task.part, task.lease_seconds)

    async def _store(
        self, batch: int, tasks: Sequence[Task], ran: Ran, files: dict[int, Path]
    ) -> tuple[TaskResult, ...]:
        """The results, when large outputs are in the cache, where a next task may find them. The worker is free
        meanwhile.
        """
        self._post(e.Vacated(batch, now()))
        await asyncio.sleep(0)  # the worker gets its next batch before anything else is done
        try:
            blobs = await asyncio.gather(*map(self._cache.adopt, files.values()))
        finally:
            for file in files.values():
                file.unlink(missing_ok=True)
        self._cache.pin(batch, [sha for sha, _ in blobs])
        refs = {number: Blob(*blob) for number, blob in zip(files, blobs, strict=True)}
        return tuple(
            TaskResult(
                task_id=task.task_id,
                attempt=task.attempt,
                outputs=tuple(
                    Output(name=out.name, ref=Inline(out.data) if out.file is None else refs[out.file])
                    for out in result.outputs
                ),
                seconds=result.seconds,
                peak_memory=ran.memory,
            )
            for task, result in zip(tasks, ran.results, strict=False)
        )

    def _stalled(self, batch: int, error: RavenError) -> None:
        log.info("a batch waits: %s", error)
        self._post(e.Stalled(batch, random.random()))

    def _broke(self, batch: int, key: e.Key, error: RavenError) -> None:
        log.warning("task %d failed: %s", key.task_id, error, extra=_which(key))
        self._post(e.Broke(batch, key, error.problem, now(), node_index(error.problem.op)))

    def _unfit(self, batch: int, error: RavenError | OSError) -> None:
        """Nobody's fault but this machine's: others shall do it."""
        log.warning("this machine cannot work now: %s", error)
        if not isinstance(error, RavenError):
            error = StorageFullError("the provider cannot work with its disk or processes", received=error)
            self._cache.make_room()
        self._post(e.Unfit(batch, error.problem, now()))


def now() -> float:
    """On the clock of events."""
    return time.monotonic()


def _which(key: e.Key) -> dict[str, int]:
    """What a log line is about, which need not be the first task of its batch."""
    return {"task": key.task_id, "attempt": key.attempt}


def _failure(task: Task, problem: Problem, subgraph: str | None) -> TaskFailure:
    log.warning("task %d failed: %s", task.task_id, problem.text(), extra=_which(key_of(task)))
    return failure(task, problem, node_index(problem.op), subgraph)
