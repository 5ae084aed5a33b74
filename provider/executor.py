"""What lies between the daemon and whatever computes: a `Backend` offers something, its `Executor` performs the effects
of batches, and `Host` is what that sees of the daemon.

This machine is one (`provider.machine`, `provider.work`), clusters are others (`provider.executors`). What follows from
an event is `core.lifecycle`'s.
"""

from __future__ import annotations

from typing import Protocol

from provider.connection import Connection
from provider.core import events as e
from ravop.errors import RavenError
from ravop.protocol.messages import Profile


class Host(Protocol):
    """The daemon, as an executor sees it."""

    @property
    def line(self) -> Connection | None:
        """To the coordinator, while there is one."""

    def post(self, event: e.Event) -> None:
        """What became of an effect."""

    def offer(self, profile: Profile) -> None:
        """From now on this is offered."""

    def leave(self, error: RavenError) -> None:
        """Nothing can be computed any more: end the line, and connect again when the backend offers something."""


class Executor(Protocol):
    """Each effect ends in an event that is posted, or is cancelled."""

    async def prepare(self, prepare: e.Prepare) -> None: ...

    async def compute(self, compute: e.Compute) -> None: ...

    async def deliver(self, deliver: e.Deliver) -> None: ...

    def drop(self, batch: int) -> None:
        """The batch is over; nothing goes on for it."""

    @property
    def stored(self) -> int:
        """Bytes of blobs that are kept on this machine."""

    async def close(self) -> None: ...


class Backend(Protocol):
    """What a provider lends."""

    async def offer(self) -> Profile:
        """What is offered now; asked before each attempt to connect. Raises `RavenError` where nothing can be computed
        for now.
        """

    def executor(self, host: Host) -> Executor: ...

    async def close(self) -> None: ...
