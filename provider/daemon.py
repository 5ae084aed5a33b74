"""`Daemon`: performs what `core.lifecycle` decides. One event loop; everything slow is awaited.

Each instruction that takes time is an asyncio task whose end is an event. A task's attempt has at most one
such task (`_effects`): starting another ends the one before.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from provider.cache import Cache
from provider.connection import Connection
from provider.core import events as e
from provider.core.describe import describe
from provider.core.exits import PASSING
from provider.core.lifecycle import Stage, State, advance, holding
from provider.core.tasks import node_index
from provider.post import Post
from provider.settings import Settings, software
from provider.slots import Slots
from provider.status import Doing, Status
from provider.supply import Supply
from provider.wire import Failed, Run
from ravop.errors import (
    MessageError,
    Problem,
    RavenError,
    StorageFullError,
    UnreachableError,
    error_from_problem,
)
from ravop.protocol.messages import (
    Assign,
    Done,
    Hello,
    Message,
    Output,
    Profile,
    Recall,
    Register,
    Task,
    models_needed,
)
from ravop.protocol.tensors import Blob, Inline, blobs_of
from ravop.transport import BlobClient

log = logging.getLogger(__name__)


class Daemon:
    """Made when everything is measured; `run` returns the exit code.

    Args:
        state: the first one of the lifecycle.
        changed: called whenever something happened that `status` may show.
    """

    def __init__(
        self,
        settings: Settings,
        provider_id: str,
        profile: Profile,
        state: State,
        cache: Cache,
        slots: Slots,
        changed: Callable[[], None],
    ) -> None:
        self.state = state
        self._settings = settings
        self._provider_id = provider_id
        self._profile = profile
        self._cache = cache
        self._slots = slots
        self._changed = changed
        self._blobs = BlobClient(settings.url, settings.token)
        self._supply = Supply(cache, self._blobs)
        self._connection: Connection | None = None
        self._effects: dict[e.Key, asyncio.Task[None]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._quit: asyncio.Future[e.Quit] = asyncio.get_running_loop().create_future()
        self._waiting = ""
        self._started = time.time()
        self._perform: dict[type[Any], Callable[[Any], None]] = {
            e.Connect: lambda _: self._start(self._connect()),
            e.Wait: lambda wait: self._start(self._later(wait.seconds, e.Waited)),
            e.Register: lambda register: self._start(self._register(register)),
            e.Prepare: lambda prepare: self._start(self._prepare(prepare), e.key_of(prepare.task)),
            e.Compute: lambda compute: self._start(self._compute(compute.task), e.key_of(compute.task)),
            e.Deliver: lambda deliver: self._start(self._deliver(deliver), deliver.key),
            e.Drop: lambda drop: self._drop(drop.key),
            e.Remind: lambda remind: self._start(self._later(remind.seconds, self._stop_asked)),
            e.Quit: self._finish,
        }

    async def run(self) -> e.Quit:
        """Until told to stop, or refused for good."""
        self._post(e.Started())
        try:
            return await self._quit
        finally:
            await self._tidy_up()

    def stop(self) -> None:
        """Stop soon; at the second call sooner, at the third at once."""
        self._post(self._stop_asked())

    def status(self) -> Status:
        """What is shown to people now."""
        now = _now()
        return Status(
            name=self._profile.name,
            provider_id=self._provider_id,
            pid=os.getpid(),
            url=self._settings.url,
            graph_id=self._settings.graph,
            link=self.state.link.value,
            text=describe(self.state, self._waiting),
            profile=self._profile,
            tasks=tuple(
                Doing(
                    label=held.task.label,
                    stage=held.stage.value,
                    seconds=now - (held.started if held.stage is Stage.RUNNING else held.arrived),
                )
                for held in self.state.held
            ),
            done=self.state.done,
            failed=self.state.failed,
            cache_bytes=self._cache.size,
            running_seconds=time.time() - self._started,
        )

    # ── events and instructions ──────────────────────────────────────────────────────────────────────────────────
    def _post(self, event: e.Event) -> None:
        if self._quit.done():
            return
        self.state, instructions = advance(self.state, event)
        for instruction in instructions:
            self._perform[type(instruction)](instruction)
        self._changed()

    def _start(self, work: Coroutine[Any, Any, None], key: e.Key | None = None) -> None:
        """Go on with `work`; with a key, instead of what went on for that task."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        if key is not None:
            self._end(key)
            self._effects[key] = task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A defect of the daemon ends it, with its traceback, rather than leaving it waiting for ever."""
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._quit.done():
            self._quit.set_exception(error)

    def _end(self, key: e.Key) -> None:
        effect = self._effects.pop(key, None)
        if effect is not None:
            effect.cancel()

    def _drop(self, key: e.Key) -> None:
        self._end(key)
        self._cache.unpin(key)

    def _finish(self, quit: e.Quit) -> None:
        self._quit.set_result(quit)

    def _stop_asked(self) -> e.StopAsked:
        return e.StopAsked(_now())

    async def _later(self, seconds: float, event: Callable[[], e.Event]) -> None:
        await asyncio.sleep(seconds)
        self._post(event())

    async def _tidy_up(self) -> None:
        if self._connection is not None:
            await self._connection.close()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await self._blobs.close()
        await self._slots.close()

    # ── the line ─────────────────────────────────────────────────────────────────────────────────────────────────
    async def _connect(self) -> None:
        """One connection from the attempt to its end."""
        hello = Hello(token=self._settings.token, role="provider", software=software())
        connection = Connection(self._settings.url, hello, self._on_message)
        try:
            await connection.connect()
        except RavenError as error:
            return self._lost(error.problem)
        self._connection = connection
        self._post(e.Connected())
        try:
            problem = await connection.ended()
        finally:
            self._connection = None
            await connection.close()
        return self._lost(problem)

    def _lost(self, problem: Problem) -> None:
        self._post(e.Lost(problem, random.random()))
        if not self._quit.done():  # else whoever runs this provider is told at its end
            level = logging.WARNING if self.state.losses == 1 else logging.INFO
            log.log(level, "not connected: %s", problem.text())

    async def _register(self, register: e.Register) -> None:
        """Register, then beat until the line ends. Whatever goes wrong ends the line, and so becomes `Lost`."""
        connection = self._connection
        if connection is None:
            return
        try:
            registered = await connection.register(
                Register(
                    provider_id=self._provider_id,
                    profile=self._profile,
                    graph_id=self._settings.graph,
                    holding=register.holding,
                )
            )
            log.info("connected to %s", self._settings.url)
            self._post(e.Accepted(registered.drop))
            while await connection.wait(registered.beat_seconds):
                beaten = await connection.beat(holding(self.state), describe(self.state))
                self._waiting = beaten.waiting
                self._post(e.Recalled(beaten.drop, _now()))
        except RavenError as error:
            await connection.close(error)

    async def _on_message(self, message: Any) -> Message:
        match message:
            case Assign(tasks=tasks):
                self._post(e.Assigned(tasks, _now()))
            case Recall(tasks=keys):
                self._post(e.Recalled(keys, _now()))
            case _:
                raise MessageError(
                    "a provider does not take this message",
                    expected="Assign or Recall",
                    received=type(message).__name__,
                )
        return Done()

    # ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _prepare(self, prepare: e.Prepare) -> None:
        task, key = prepare.task, e.key_of(prepare.task)
        await asyncio.sleep(prepare.after)
        self._cache.pin(
            key, {*models_needed(task), *(blob.sha for given in task.inputs for blob in blobs_of(given.ref))}
        )
        try:
            await asyncio.gather(self._supply.prepare(task), self._slots.warm())
        except (RavenError, OSError) as error:
            self._trouble(key, error)
        else:
            self._post(e.Prepared(key, _now()))

    async def _compute(self, task: Task) -> None:
        key = e.key_of(task)
        try:
            async with self._slots.use(task.subgraph) as sandbox:
                run = Run(subgraph=task.subgraph, inputs=task.inputs, outputs=task.outputs, part=task.part)
                if task.part is None:
                    ran = await sandbox.run(run, task.lease_seconds)
                else:
                    post = Post(self._settings.url, self._settings.token, key, task.part, task.lease_seconds)
                    reply = await sandbox.run_part(run, task.lease_seconds, post)
                    if isinstance(reply, Failed):
                        return self._break(key, error_from_problem(reply.problem), reply.subgraph)
                    ran = reply
                outputs = [
                    Output(
                        name=output.name, ref=await self._reference(key, output.data, sandbox.output(index))
                    )
                    for index, output in enumerate(ran.outputs)
                ]
        except UnreachableError as error:  # the gang is broken off, its work somebody else's
            log.info("task %d is given up: %s", key.task_id, error)
            self._post(e.Recalled((key,), _now()))
        except (RavenError, OSError) as error:
            self._break(key, error)
        else:
            self._post(e.Computed(key, tuple(outputs), ran.seconds, ran.memory, _now()))

    async def _reference(self, key: e.Key, data: bytes | None, file: Path) -> Inline | Blob:
        """A small output itself; a large one goes into the cache, where the next task may find it."""
        if data is not None:
            return Inline(data)
        sha, size = await self._cache.adopt(file)
        self._cache.pin(key, [sha])
        return Blob(sha, size)

    async def _deliver(self, deliver: e.Deliver) -> None:
        await asyncio.sleep(deliver.after)
        try:
            if self._connection is None:
                raise UnreachableError("not connected to the coordinator")
            await self._connection.deliver(deliver.message, self._cache, self._blobs)
        except (RavenError, OSError) as error:
            self._trouble(deliver.key, error)
        else:
            self._post(e.Delivered(deliver.key, _now()))

    def _trouble(self, key: e.Key, error: RavenError | OSError) -> None:
        if isinstance(error, RavenError) and error.problem.code in PASSING:
            log.info("task %d waits: %s", key.task_id, error)
            self._post(e.Stalled(key, random.random()))
        else:
            self._break(key, error)

    def _break(self, key: e.Key, error: RavenError | OSError, subgraph: str | None = None) -> None:
        log.warning("task %d failed: %s", key.task_id, error)
        if not isinstance(error, RavenError):
            error = StorageFullError("the provider cannot work with its disk or processes", received=error)
        self._post(e.Broke(key, error.problem, _now(), node_index(error.problem.op), subgraph))


def _now() -> float:
    return time.monotonic()
