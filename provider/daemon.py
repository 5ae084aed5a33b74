"""`Daemon`: performs what `core.lifecycle` decides. One event loop; everything slow is awaited.

Each instruction that takes time is an asyncio task whose end is an event. A batch has at most one such task
(`_effects`): starting another ends the one before. What these do is the executor's business (`provider.executor`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from provider.connection import Connection
from provider.core import events as e
from provider.core.batches import Stage
from provider.core.describe import describe
from provider.core.lifecycle import advance
from provider.core.state import State, holding
from provider.executor import Backend
from provider.settings import Settings
from provider.status import Doing, Status
from provider.work import now
from ravop import logs, tracing
from ravop.errors import MessageError, Problem, RavenError, error_from_problem
from ravop.protocol.messages import Assign, Done, Hello, Message, Profile, Recall, Register, Registered
from ravop.release import software

log = logging.getLogger(__name__)


class Daemon:
    """Made when everything is measured; `run` returns the exit code.

    Args:
        state: the first one of the lifecycle.
        backend: what is lent, and computes.
        changed: called whenever something happened that `status` may show.
    """

    def __init__(
        self,
        settings: Settings,
        provider_id: str,
        profile: Profile,
        state: State,
        backend: Backend,
        changed: Callable[[], None],
    ) -> None:
        self.state = state
        self._settings = settings
        self._provider_id = provider_id
        self._profile = profile
        self._changed = changed
        self._connection: Connection | None = None
        self._backend = backend
        self._executor = backend.executor(self)
        self._effects: dict[int, asyncio.Task[None]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._quit: asyncio.Future[e.Quit] = asyncio.get_running_loop().create_future()
        self._waiting = ""
        self._told: set[str] = set()
        """Why it is not connected, as far as that was told at length since it last was."""
        self._started = now()
        self._perform: dict[type[Any], Callable[[Any], None]] = {
            e.Connect: lambda _: self._start(self._connect()),
            e.Wait: lambda wait: self._start(self._later(wait.seconds, e.Waited)),
            e.Register: lambda register: self._start(self._register(register)),
            e.HangUp: lambda hang_up: self._start(self._hang_up(hang_up.problem)),
            e.Prepare: lambda prepare: self._work("fetch", self._executor.prepare, prepare),
            e.Compute: lambda compute: self._work("compute", self._executor.compute, compute),
            e.Deliver: lambda deliver: self._work("deliver", self._executor.deliver, deliver),
            e.Drop: lambda drop: self._drop(drop.batch),
            e.Remind: lambda remind: self._start(self._later(remind.seconds, self._stop_asked)),
            e.Quit: self._finish,
        }

    async def run(self) -> e.Quit:
        """Until told to stop, or refused for good."""
        self.post(e.Started())
        try:
            return await self._quit
        finally:
            await self._tidy_up()

    def stop(self) -> None:
        """Stop soon; at the second call sooner, at the third at once."""
        self.post(self._stop_asked())

    def status(self) -> Status:
        """What is shown to people now."""
        at = now()
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
                    label=held.tasks[0].label,
                    more=len(held.keys) - 1,
                    stage=held.stage.value,
                    seconds=at - (held.started if held.stage is Stage.RUNNING else held.arrived),
                )
                for held in self.state.held
            ),
            done=self.state.done,
            failed=self.state.failed,
            cache_bytes=self._executor.stored,
            running_seconds=at - self._started,
        )

    # ── what the executor sees ───────────────────────────────────────────────────────────────────────────────────
    @property
    def line(self) -> Connection | None:
        """To the coordinator, while there is one."""
        return self._connection

    def offer(self, profile: Profile) -> None:
        """From now on this is offered; the coordinator is told within a beat."""
        self._profile = profile
        self.post(e.Offered(profile.slots, profile.memory, now()))

    def leave(self, error: RavenError) -> None:
        """Nothing can be computed any more: end the line. The next one needs an offer of the backend."""
        self._start(self._hang_up(error.problem))

    # ── events and instructions ──────────────────────────────────────────────────────────────────────────────────
    def post(self, event: e.Event) -> None:
        """Go on with what has happened."""
        if self._quit.done():
            return
        self.state, instructions = advance(self.state, event)
        for instruction in instructions:
            self._perform[type(instruction)](instruction)
        self._changed()

    def _work(self, name: str, effect: Callable[[Any], Coroutine[Any, Any, None]], instruction: Any) -> None:
        """Begin an effect of a batch; its log lines and its span tell which."""
        held = next(held for held in self.state.held if held.number == instruction.batch)
        first = held.tasks[0]
        which: dict[str, Any] = {"graph": first.graph_id, "task": first.task_id, "attempt": first.attempt}

        async def followed() -> None:
            with logs.about(**which), tracing.span(name, first.trace, **which, tasks=len(held.tasks)):
                await effect(instruction)

        self._start(followed(), instruction.batch)

    def _start(self, work: Coroutine[Any, Any, None], batch: int | None = None) -> None:
        """Go on with `work`; with a batch, instead of what went on for that."""
        task = asyncio.create_task(work, context=Context())  # not about what the one before was about
        self._running.add(task)
        task.add_done_callback(self._ended)
        if batch is not None:
            self._end(batch)
            self._effects[batch] = task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A defect of the daemon ends it, with its traceback, rather than leaving it waiting for ever."""
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._quit.done():
            self._quit.set_exception(error)

    def _end(self, batch: int) -> None:
        effect = self._effects.pop(batch, None)
        if effect is not None:
            effect.cancel()

    def _drop(self, batch: int) -> None:
        self._end(batch)
        self._executor.drop(batch)

    def _finish(self, quit: e.Quit) -> None:
        self._quit.set_result(quit)

    def _stop_asked(self) -> e.StopAsked:
        return e.StopAsked(now())

    async def _later(self, seconds: float, event: Callable[[], e.Event]) -> None:
        await asyncio.sleep(seconds)
        self.post(event())

    async def _tidy_up(self) -> None:
        if self._connection is not None:
            await self._connection.close()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await self._executor.close()

    # ── the line ─────────────────────────────────────────────────────────────────────────────────────────────────
    async def _connect(self) -> None:
        """One connection from the attempt to its end."""
        hello = Hello(token=self._settings.token, role="provider", software=software())
        connection = Connection(self._settings.url, hello, self._on_message)
        try:
            self._profile = await self._backend.offer()
            await connection.connect()
        except RavenError as error:
            return self._lost(error.problem)
        self._connection = connection
        self.post(e.Connected())
        try:
            problem = await connection.ended()
        finally:
            self._connection = None
            await connection.close()
        return self._lost(problem)

    def _lost(self, problem: Problem) -> None:
        self.post(e.Lost(problem, random.random()))
        if self._quit.done():  # whoever runs this provider is told at its end
            return
        if problem.message in self._told:
            log.info("still not connected: %s", problem.message)
        else:
            log.warning("not connected: %s", problem.text())
            self._told.add(problem.message)

    async def _register(self, register: e.Register) -> None:
        """Register, then beat until the line ends. Whatever goes wrong ends the line, and so becomes `Lost`."""
        connection = self._connection
        if connection is None:
            return
        try:
            offered = self._profile
            registered = await self._introduce(connection, register.holding)
            log.info("connected to %s", self._settings.url)
            self._told.clear()
            self.post(e.Accepted(registered.drop))
            while await connection.wait(registered.beat_seconds):
                if self._profile is not offered:
                    offered = self._profile
                    again = await self._introduce(connection, holding(self.state))
                    self.post(e.Recalled(again.drop, now()))
                beaten = await connection.beat(holding(self.state), describe(self.state))
                self._waiting = beaten.waiting
                if beaten.drop:
                    self.post(e.Recalled(beaten.drop, now()))
                else:
                    self._changed()
        except RavenError as error:
            await connection.close(error)

    async def _introduce(self, connection: Connection, held: tuple[e.Key, ...]) -> Registered:
        """Tell who this is, and what it offers now; on one connection again whenever that changes."""
        return await connection.register(
            Register(
                provider_id=self._provider_id,
                profile=self._profile,
                graph_id=self._settings.graph,
                holding=held,
            )
        )

    async def _hang_up(self, problem: Problem) -> None:
        if self._connection is not None:
            await self._connection.close(error_from_problem(problem))

    async def _on_message(self, message: Any) -> Message:
        match message:
            case Assign(tasks=tasks):
                self.post(e.Assigned(tasks, now()))
            case Recall(tasks=keys):
                self.post(e.Recalled(keys, now()))
            case _:
                raise MessageError(
                    "a provider does not take this message",
                    expected="Assign or Recall",
                    received=type(message).__name__,
                )
        return Done()
