"""`serve`: puts a provider together, from the settings to the running daemon, and takes it apart again.

The only place that knows all parts: state folder, what is lent, daemon, control, signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

from provider.control import listening
from provider.core.events import Quit
from provider.core.exits import Exit
from provider.core.state import State
from provider.core.tasks import Limits
from provider.daemon import Daemon
from provider.display import Display
from provider.executor import Backend
from provider.executors import Gateway
from provider.home import Home
from provider.machine import Machine
from provider.settings import Settings, sends_in_the_clear
from ravop import logs
from ravop.errors import ArgumentError, ClusterError, ComputeError

FLOP_SHARE = 0.3
"""Of the measured speed, that a subgraph may reach: only for the first guess of a task's duration."""

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
    backend = _backend(settings, home)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(backend.close)
        measuring = asyncio.create_task(backend.offer())
        stack.push_async_callback(_end, measuring)
        stop = Stopper(measuring.cancel)
        stack.enter_context(_signals(stop))
        if settings.with_stdin:
            _watch_stdin(stop)
        await asyncio.wait({measuring})
        if measuring.cancelled():
            return Quit(Exit.STOPPED)
        try:
            profile = measuring.result()
        except (ComputeError, ClusterError, ArgumentError) as error:
            return Quit(Exit.CLUSTER if settings.cluster else Exit.BROKEN, error.problem)
        provider_id = home.provider_id(settings.token)
        logs.always(provider=provider_id)
        daemon = Daemon(
            settings,
            provider_id=provider_id,
            profile=profile,
            state=State(
                slots=profile.slots,
                limits=Limits(memory=profile.memory, disk=settings.max_cache),
                pace=1 / (FLOP_SHARE * 1e9 * max(profile.matmul_gflops, 1e-3)),
            ),
            backend=backend,
            changed=display.changed,
        )
        stop.action = daemon.stop
        await stack.enter_async_context(listening(home, daemon.status, daemon.stop))
        stack.enter_context(display.showing(daemon.status))
        return await daemon.run()


def _backend(settings: Settings, home: Home) -> Backend:
    """What this provider lends."""
    if settings.cluster is None:
        return Machine(settings, home)
    return Gateway(settings, settings.cluster, home)


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})


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
