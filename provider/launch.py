"""`serve`: puts a provider together, from the settings to the running daemon, and takes it apart again.

The only place that knows all parts: state folder, cache, sandboxes, measurement, daemon, control, signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from tenacity import retry, retry_if_exception_type, stop_after_attempt

from provider.cache import Cache
from provider.control import listening
from provider.core.events import Quit
from provider.core.exits import Exit
from provider.core.state import State
from provider.core.tasks import Limits
from provider.daemon import Daemon
from provider.display import Display
from provider.home import Home
from provider.sandbox import Sandbox
from provider.settings import Settings, sends_in_the_clear
from provider.slots import Slots
from provider.wire import Measured, Ready
from provider.work import Work
from ravop import logs
from ravop.errors import ComputeError, CrashedError
from ravop.protocol.messages import Profile
from ravop.release import software

FLOP_SHARE = 0.3
"""Of the measured speed, that a subgraph may reach: only for the first guess of a task's duration."""
TRIES = 3
"""How often a worker may die, by whatever hand, before the provider says that the engine does not work here."""

log = logging.getLogger(__name__)


class Stopper:
    """What a request to stop does: it depends on how far the start has come."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action

    def __call__(self) -> None:
        self.action()


async def serve(settings: Settings, home: Home, display: Display) -> Quit:
    """Run the provider until it ends. The caller holds the home's lock."""
    if sends_in_the_clear(settings.url):
        log.warning(
            "%s is not encrypted: others on the network can read the token and all data", settings.url
        )
    cache = Cache(home.cache, settings.max_cache)
    sandboxes = [
        Sandbox(home.slot(number), home.cache, settings.max_memory, settings.threads)
        for number in range(settings.slots)
    ]
    slots = Slots(sandboxes)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(slots.close)
        measuring = asyncio.create_task(speed(sandboxes[0], home, settings.threads))
        stack.push_async_callback(_end, measuring)
        stop = Stopper(measuring.cancel)
        stack.enter_context(_signals(stop))
        if settings.with_stdin:
            _watch_stdin(stop)
        await asyncio.wait({measuring})
        if measuring.cancelled():
            return Quit(Exit.STOPPED)
        try:
            ready, measured = measuring.result()
        except ComputeError as error:
            return Quit(Exit.BROKEN, error.problem)
        logs.always(provider=home.provider_id(settings.token))
        daemon = Daemon(
            settings,
            provider_id=home.provider_id(settings.token),
            profile=_profile(settings, ready, measured),
            state=State(
                slots=settings.slots,
                limits=Limits(memory=settings.max_memory, disk=settings.max_cache),
                pace=1 / (FLOP_SHARE * 1e9 * max(measured.matmul_gflops, 1e-3)),
            ),
            executor=partial(Work, cache, slots, settings.url, settings.token),
            changed=display.changed,
        )
        stop.action = daemon.stop
        await stack.enter_async_context(listening(home, daemon.status, daemon.stop))
        stack.enter_context(display.showing(daemon.status))
        return await daemon.run()


@retry(retry=retry_if_exception_type(CrashedError), stop=stop_after_attempt(TRIES), reraise=True)
async def speed(sandbox: Sandbox, home: Home, threads: int, again: bool = False) -> tuple[Ready, Measured]:
    """What the engine is, and how fast: measured once for each version and number of threads, or `again`.

    A worker that dies is started again. Raises `ComputeError` where the engine does not work here.
    """
    ready = await sandbox.start()
    measured = None if again else home.speed(ready.engine, threads)
    if measured is None:
        log.info("measuring this machine's speed")
        measured = await sandbox.measure()
        home.keep_speed(ready.engine, threads, measured)
    return ready, measured


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _profile(settings: Settings, ready: Ready, measured: Measured) -> Profile:
    return Profile(
        name=settings.name,
        slots=settings.slots,
        threads=settings.threads,
        memory=settings.max_memory,
        matmul_gflops=measured.matmul_gflops,
        conv_gflops=measured.conv_gflops,
        engine=ready.engine,
        opset=ready.opset,
        platform=platform.platform()[:200],
        software=software(),
    )


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """Stop at SIGINT, SIGTERM and Windows' Ctrl-Break."""
    loop = asyncio.get_running_loop()
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
    try:
        yield
    finally:
        for number in numbers:
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, before[number])


def _watch_stdin(stop: Callable[[], None]) -> None:
    """Stop when stdin ends: whoever started this provider has ended, however that happened."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        while os.read(0, 4096):
            pass
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has stopped already
            loop.call_soon_threadsafe(stop)

    threading.Thread(target=read, daemon=True).start()
