"""`Gateway`: a cluster as the daemon's event loop sees it: what it offers now, jobs for it, that it is gone.

A cluster that is gone is left, and reached anew when the daemon asks for an offer again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from provider.executor import Host
from provider.executors.batches import ClusterWork
from provider.executors.clusters import Capacity, Cluster, connect, unable
from provider.executors.jobs import (
    Compute,
    Introduce,
    Introduced,
    Reply,
    Request,
    Terms,
    Unable,
    pack,
    unpack,
)
from provider.home import Home
from provider.machine import profile_of
from provider.settings import DEFAULT_MEMORY, ClusterSettings, Settings
from provider.wire import Measured, Ready
from ravop.errors import ClusterError, MessageError
from ravop.protocol.messages import Profile, Task
from ravop.release import software
from ravop.sizes import parse_size

LOOK_SECONDS = 2.0
"""Between two looks at what the cluster has."""
ANSWER_SECONDS = 30.0
"""A cluster that is silent for so long is gone."""

log = logging.getLogger(__name__)


class Gateway:
    """Of one provider. For one event loop."""

    def __init__(self, settings: Settings, cluster: ClusterSettings, home: Home) -> None:
        self._settings = settings
        self._place = cluster
        self._home = home
        self._cluster: Cluster | None = None
        self._gone: asyncio.Future[None]
        """Set when the cluster is left."""
        self._closing: asyncio.Future[None] | None = None
        self._capacity = Capacity(0, None)
        self._known: Introduced | None = None
        """What a worker said of itself and its machine."""
        self._measured: Measured | None = None

    async def offer(self) -> Profile:
        """What the cluster has now; the speed is measured once. Raises `ClusterError`, and `ArgumentError` where
        something is not installed.
        """
        if self._cluster is None:
            self._cluster = await asyncio.to_thread(connect, self._place, self._settings.threads)
            self._gone = asyncio.get_running_loop().create_future()
        try:
            self._capacity = await self._look()
            log.info("the cluster has %d slots; waiting for a worker to say what it is", self._capacity.slots)
            self._known = await self._introduce(measure=False)
            self._measured = self._measured or await self._speed(self._known.engine)
        except ClusterError:
            self.leave()
            raise
        return self._profile(self._known, self._measured)

    async def look(self) -> Profile | None:
        """Wait a moment; what is offered now, if that has changed. Raises `ClusterError` when the cluster is gone."""
        await asyncio.sleep(LOOK_SECONDS)
        capacity = await self._look()
        if capacity == self._capacity or self._known is None or self._measured is None:
            return None
        self._capacity = capacity
        return self._profile(self._known, self._measured)

    async def compute(self, tasks: Sequence[Task]) -> Reply:
        """What a worker makes of a batch. Cancelling ends it there. Raises `ClusterError`."""
        return await self._ask(Compute(terms=self._terms(), tasks=tuple(tasks)))

    def executor(self, host: Host) -> ClusterWork:
        """What computes there for the daemon."""
        return ClusterWork(self, host)

    @property
    def connected(self) -> bool:
        """Whether there is a cluster."""
        return self._cluster is not None

    def leave(self) -> None:
        """The cluster is of no use any more."""
        cluster, self._cluster, self._known = self._cluster, None, None
        if cluster is not None:
            self._gone.set_result(None)
            self._closing = asyncio.get_running_loop().run_in_executor(None, cluster.close)

    async def close(self) -> None:
        """End what goes on there."""
        self.leave()
        if self._closing is not None:
            await asyncio.wait({self._closing})

    async def _look(self) -> Capacity:
        if self._cluster is None:
            raise _lost()
        hello = pack(Introduce(terms=self._terms()))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                capacity = await asyncio.to_thread(self._cluster.capacity, hello)
        except TimeoutError as error:
            raise ClusterError(
                "the cluster is silent", expected=f"an answer in {ANSWER_SECONDS:g} s"
            ) from error
        if capacity.slots < 1:
            raise ClusterError(
                "the cluster has no workers that could compute",
                expected=f"at least one with {self._settings.threads} threads",
                hint="start a worker, or the provider with fewer --threads",
            )
        return capacity

    async def _speed(self, engine: str) -> Measured:
        """Of one worker, as measured at the first start with this cluster."""
        key, threads = f"{engine} at {self._place.address}", self._settings.threads
        measured = self._home.speed(key, threads)
        if measured is None:
            log.info("measuring a worker's speed")
            measured = (await self._introduce(measure=True)).measured
            if measured is None:
                raise ClusterError("a worker did not measure its speed")
            self._home.keep_speed(key, threads, measured)
        return measured

    async def _introduce(self, measure: bool) -> Introduced:
        reply = await self._ask(Introduce(terms=self._terms(), measure=measure))
        if isinstance(reply, Introduced):
            return reply
        if isinstance(reply, Unable):
            raise unable(reply.problem)
        raise ClusterError("a worker answered something else than it was asked for")

    async def _ask(self, request: Request) -> Reply:
        """A worker's reply. Raises `ClusterError` where none comes."""
        if self._cluster is None:
            raise _lost()
        future: asyncio.Future[Any] = asyncio.wrap_future(self._cluster.submit(pack(request)))
        ends: set[asyncio.Future[Any]] = {future, self._gone}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not future.done():
                raise _lost()
            if future.cancelled():
                raise ClusterError("the cluster has forgotten a job")
            if (error := future.exception()) is not None:
                raise ClusterError(
                    "a job failed on the cluster",
                    received=f"{type(error).__name__}: {error}",
                    hint="see the log of the cluster's workers; they need the same release of ravenverse as this"
                    " provider",
                )
            reply: Reply = unpack(future.result(), Reply)
            return reply
        except MessageError as error:
            raise ClusterError("a worker answered nonsense", received=error.problem.received) from error
        finally:
            future.cancel()

    def _terms(self) -> Terms:
        known = self._known
        return Terms(
            url=self._settings.url,
            token=self._settings.token,
            threads=self._settings.threads,
            memory=self._memory(known) if known else 0,
            max_cache=self._settings.max_cache,
            software=software(),
            engine=known.engine if known else "",
        )

    def _memory(self, known: Introduced) -> int:
        """Bytes of one slot: half of what is there, unless told."""
        if self._settings.max_memory:
            return self._settings.max_memory
        there = self._capacity.memory or known.memory * self._settings.threads
        return min(parse_size(DEFAULT_MEMORY), there // 2)

    def _profile(self, known: Introduced, measured: Measured) -> Profile:
        slots = min(self._capacity.slots, self._settings.slots)
        ready = Ready(engine=known.engine, opset=known.opset)
        return profile_of(self._settings, slots, self._memory(known), ready, measured, known.system)


def _lost() -> ClusterError:
    return ClusterError("the connection to the cluster was lost")
