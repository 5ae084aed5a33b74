"""Runs in the worker processes of a cluster: `answer`, the one function that a cluster's engine calls there.

What it needs it keeps in the process: a cache folder, a line to the coordinator, sandboxes. The cluster's worker itself
computes nothing of strangers: that happens in `provider.sandbox`'s child processes, without the token.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import os
import platform
import random
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import Any

import msgspec
import psutil

from provider.cache import Cache
from provider.connection import Connection
from provider.core import events as e
from provider.core.backoff import backoff
from provider.core.exits import PASSING
from provider.executors.jobs import (
    Blamed,
    Compute,
    Done,
    GivenUp,
    Introduce,
    Introduced,
    Reply,
    Request,
    Terms,
    Unable,
    pack,
    unpack,
)  # fmt: skip
from provider.home import Home, root
from provider.sandbox import Sandbox
from provider.settings import clean_name
from provider.slots import Slots
from provider.wire import Measured
from provider.work import Work
from ravop.errors import AlreadyRunningError, ClusterError, Problem, RavenError, VersionError
from ravop.graph.infer import OPSET
from ravop.protocol.messages import Profile, Task
from ravop.protocol.tensors import blobs_of
from ravop.release import software

POLL_SECONDS = 0.5
"""Between two looks whether the engine has cancelled a job."""
PATIENCE_SECONDS = 30.0
"""A coordinator that does not answer, or does not know its provider again yet, is asked for so long at least."""
MAX_PLACES = 10_000
AWAY = PASSING | {"forbidden_blob"}
"""Codes of problems that pass when the coordinator, and the daemon's line to it, are back."""


def answer(data: bytes, cancelled: Callable[[], bool] = lambda: False) -> bytes:
    """The reply to a request, both as `jobs` packs them. `cancelled`: whether nobody wants it any more."""
    request = unpack(data, Request)
    try:
        _check(request.terms)
        if isinstance(request, Introduce) and not request.measure:
            return pack(_introduced())
        site = _site(request.terms)
        return pack(site.wait_for(site.reply(request), cancelled))
    except RavenError as error:
        return pack(Unable(problem=error.problem))


class Site:
    """What a worker process keeps for one provider: `reply` runs on an event loop of its own.

    As many batches are computed at one time as the cluster's engine asks for.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._lock = contextlib.ExitStack()
        self._home = _place(self._lock)
        self._slots = Slots(())
        self._busy = self._sandboxes = 0
        self._cache = Cache(self._home.cache, terms.max_cache)
        self._work = Work(self._cache, self._slots, terms.url, terms.token, self)
        self._numbers = itertools.count()
        self._ends: dict[int, e.Event] = {}
        """What became of an effect, by batch."""
        self._loop = _loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="ravenverse").start()

    def wait_for(self, work: Coroutine[Any, Any, Reply], cancelled: Callable[[], bool]) -> Reply:
        """What `work` gives, on the site's loop. Ends it when the engine does not want it, or interrupts this thread."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not concurrent.futures.wait([future], POLL_SECONDS).done:
                if cancelled():
                    raise ClusterError("the job was cancelled")
            return future.result()
        finally:
            future.cancel()

    async def reply(self, request: Request) -> Reply:
        self._busy += 1
        if self._busy > self._sandboxes:
            self._slots.grow(self._sandbox(self._sandboxes))
            self._sandboxes += 1
        try:
            if isinstance(request, Compute):
                return await self._compute(request.tasks)
            async with self._slots.use(frozenset()) as sandbox:
                return _introduced(await sandbox.measure())
        finally:
            self._busy -= 1

    # ── a batch ──────────────────────────────────────────────────────────────────────────────────────────────────
    async def _compute(self, tasks: tuple[Task, ...]) -> Reply:
        batch = next(self._numbers)
        patience = max(PATIENCE_SECONDS, *(task.lease_seconds for task in tasks))
        try:
            event = await self._prepared(batch, tasks)
            if isinstance(event, e.Prepared):
                await self._work.compute(e.Compute(batch, tasks))
                event = self._ends.pop(batch, None)
            match event:
                case e.Computed(done=done, failed=failed):
                    refs = [output.ref for result in done for output in result.outputs]
                    await self._upload({blob.sha for ref in refs for blob in blobs_of(ref)}, patience)
                    return Done(done=done, failed=failed)
                case e.Broke(problem=problem) if problem.code not in AWAY:
                    return Blamed(key=event.key, problem=problem, node=event.node, subgraph=event.subgraph)
                case e.Broke(problem=problem) | e.Unfit(problem=problem):
                    return Unable(problem=problem)
                case e.Stalled():
                    return Unable(problem=self._away())
                case _:
                    return GivenUp()
        finally:
            self._work.drop(batch)
            self._ends.pop(batch, None)

    async def _prepared(self, batch: int, tasks: tuple[Task, ...]) -> e.Event | None:
        """How preparing ended, tried again as long as the coordinator is away."""
        end, pause = self._loop.time() + PATIENCE_SECONDS, 0.0
        for tries in itertools.count(1):
            await self._work.prepare(e.Prepare(batch, tasks, pause))
            event = self._ends.pop(batch, None)
            pause = backoff(tries, random.random())
            away = isinstance(event, e.Stalled) or (isinstance(event, e.Broke) and event.problem.code in AWAY)
            if not away or self._loop.time() + pause > end:
                return event
        return None

    async def _upload(self, shas: set[str], patience: float) -> None:
        """Bring results to the coordinator, tried again as long as it is away."""
        end = self._loop.time() + patience
        for tries in itertools.count(1):
            try:
                return await self._work.upload(shas)
            except RavenError as error:
                pause = backoff(tries, random.random())
                if error.problem.code not in AWAY or self._loop.time() + pause > end:
                    raise
            except OSError as error:
                raise ClusterError("a worker cannot read its own results", received=error) from error
            await asyncio.sleep(pause)

    def _away(self) -> Problem:
        return ClusterError(
            "a worker of the cluster does not reach the coordinator",
            expected=f"a coordinator that answers {socket.gethostname()} at {self._terms.url}",
            hint="start the provider with a --url that the cluster's machines reach too",
        ).problem

    def _sandbox(self, number: int) -> Sandbox:
        return Sandbox(self._home.slot(number), self._home.cache, self._terms.memory, self._terms.threads)

    # ── the host of `Work` ───────────────────────────────────────────────────────────────────────────────────────
    @property
    def line(self) -> Connection | None:
        """The daemon has it."""
        return None

    def post(self, event: e.Event) -> None:
        """Keep what became of a batch; that a gang broke it off is said of its tasks, not of the batch."""
        if isinstance(event, e.Prepared | e.Computed | e.Broke | e.Unfit | e.Stalled):
            self._ends[event.batch] = event

    def offer(self, profile: Profile) -> None:
        """The daemon does."""

    def leave(self, error: RavenError) -> None:
        """The daemon does."""


def _loop() -> asyncio.AbstractEventLoop:
    """One that can start processes, whatever kind the cluster's engine prefers."""
    if sys.platform == "win32":
        return asyncio.ProactorEventLoop()
    return asyncio.new_event_loop()


def engine() -> str:
    """What computes here, name and version."""
    return f"onnxruntime {version('onnxruntime')}"


def _check(terms: Terms) -> None:
    """Raises `VersionError` where this worker is not as the daemon and the other workers."""
    wanted = terms.software, terms.engine or engine()
    if wanted != (software(), engine()):
        raise VersionError(
            f"the worker on {socket.gethostname()} is of another release",
            expected=" with ".join(wanted),
            received=f"{software()} with {engine()}",
            hint="install the same releases for the provider and for all workers of the cluster",
        )


def _introduced(measured: Measured | None = None) -> Introduced:
    cores = os.cpu_count() or 1
    return Introduced(
        engine=engine(),
        opset=OPSET,
        system=platform.platform()[:200],
        memory=psutil.virtual_memory().total // cores,
        measured=measured,
    )


def _place(stack: contextlib.ExitStack) -> Home:
    """A state folder that no other worker process on this machine uses now; its cache is used again."""
    name = clean_name(socket.gethostname())
    for number in range(MAX_PLACES):
        home = Home(root(os.environ), f"{name}-{number}", "worker-")
        with contextlib.suppress(AlreadyRunningError):
            stack.enter_context(home.lock())
            return home
    raise ClusterError("all state folders are in use", received=str(root(os.environ)))


_SITES: dict[Terms, Site] = {}
_MAKING = threading.Lock()


def _site(terms: Terms) -> Site:
    terms = msgspec.structs.replace(terms, engine="")
    with _MAKING:
        if terms not in _SITES:
            _SITES[terms] = Site(terms)
        return _SITES[terms]
