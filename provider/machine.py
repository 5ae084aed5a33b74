"""`Machine`: this machine as what a provider offers: its cache, its sandboxes, its measured speed."""

from __future__ import annotations

import logging
import platform

from tenacity import retry, retry_if_exception_type, stop_after_attempt

from provider.cache import Cache
from provider.executor import Host
from provider.home import Home
from provider.sandbox import Sandbox
from provider.settings import Settings
from provider.slots import Slots
from provider.wire import Measured, Ready
from provider.work import Work
from ravop.errors import CrashedError
from ravop.protocol.messages import Profile
from ravop.release import software

TRIES = 3
"""How often a worker may die, by whatever hand, before the provider says that the engine does not work here."""

log = logging.getLogger(__name__)


class Machine:
    """Of one provider; the caller holds the home's lock."""

    def __init__(self, settings: Settings, home: Home) -> None:
        self._settings = settings
        self._home = home
        self._cache = Cache(home.cache, settings.max_cache)
        self._sandboxes = [
            Sandbox(home.slot(number), home.cache, settings.max_memory, settings.threads)
            for number in range(settings.slots)
        ]
        self._slots = Slots(self._sandboxes)
        self._profile: Profile | None = None

    async def offer(self) -> Profile:
        """What this machine can do, measured once. Raises `ComputeError` where the engine does not work here."""
        if self._profile is None:
            settings = self._settings
            ready, measured = await speed(self._sandboxes[0], self._home, settings.threads)
            self._profile = profile_of(settings, settings.slots, settings.max_memory, ready, measured)
        return self._profile

    def executor(self, host: Host) -> Work:
        """What computes here for the daemon."""
        return Work(self._cache, self._slots, self._settings.url, self._settings.token, host)

    async def close(self) -> None:
        """End the workers."""
        await self._slots.close()


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


def profile_of(
    settings: Settings, slots: int, memory: int, ready: Ready, measured: Measured, system: str = ""
) -> Profile:
    """What is told of so many slots with so much memory each, on machines of this `system`, or like this one."""
    return Profile(
        name=settings.name,
        slots=slots,
        threads=settings.threads,
        memory=memory,
        matmul_gflops=measured.matmul_gflops,
        conv_gflops=measured.conv_gflops,
        engine=ready.engine,
        opset=ready.opset,
        platform=system or platform.platform()[:200],
        software=software(),
    )
