"""`Slots`: the sandboxes of a provider, handed out one batch each, their workers retired when nothing comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from collections.abc import Set as AbstractSet

from provider.sandbox import Sandbox

IDLE_SECONDS = 120.0
"""After so long without work a worker ends, and the volunteer has the memory back."""


class Slots:
    """For one event loop."""

    def __init__(self, sandboxes: Sequence[Sandbox]) -> None:
        self._free = list(sandboxes)
        self._all = tuple(sandboxes)
        self._places = asyncio.Semaphore(len(sandboxes))
        self._timer: asyncio.TimerHandle | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def use(self, models: AbstractSet[str]) -> AsyncIterator[Sandbox]:
        """A free sandbox, if possible one that has the models compiled. Waits while one is being tidied up."""
        async with self._places:
            sandbox = max(self._free, key=lambda free: (free.knows(models), free.pid is not None))
            self._free.remove(sandbox)
            try:
                yield sandbox
            finally:
                self._free.append(sandbox)
                self._rest()

    def grow(self, sandbox: Sandbox) -> None:
        """One more batch can be computed at one time."""
        self._free.append(sandbox)
        self._all = (*self._all, sandbox)
        self._places.release()

    async def warm(self) -> None:
        """Start a worker where a free slot has none: work is coming. Raises `CrashedError`."""
        self._rest()
        for sandbox in self._free:
            if sandbox.pid is None:
                await sandbox.start()

    async def close(self) -> None:
        """End all workers."""
        if self._timer is not None:
            self._timer.cancel()
        if self._retiring:
            await asyncio.wait(self._retiring)
        await asyncio.gather(*(sandbox.close() for sandbox in self._all))

    def _rest(self) -> None:
        """Begin anew to wait for idleness."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._retire)

    def _retire(self) -> None:
        for sandbox in self._free:
            task = asyncio.create_task(sandbox.close())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
