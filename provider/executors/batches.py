"""`ClusterWork`: the effects of a batch on a cluster: one job for all of it. Each ends in an event.

The worker fetches and stores blobs by itself (`site`); here only the report passes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection
from typing import TYPE_CHECKING

from provider.core import events as e
from provider.core.batches import key_of
from provider.core.exits import PASSING
from provider.executor import Host
from provider.executors.jobs import Blamed, Done, GivenUp, Unable
from provider.work import now
from ravop.errors import BlobError, ClusterError, RavenError, UnreachableError

if TYPE_CHECKING:
    from provider.executors.gateway import Gateway

TRIES = 3
"""How often the cluster may try a batch, on whichever workers, before it is given back."""

log = logging.getLogger(__name__)


class ClusterWork:
    """For one daemon."""

    def __init__(self, gateway: Gateway, host: Host) -> None:
        self._gateway = gateway
        self._host = host
        self._watching = asyncio.create_task(self._watch())

    @property
    def stored(self) -> int:
        """The workers keep blobs, this machine none."""
        return 0

    async def prepare(self, prepare: e.Prepare) -> None:
        """The worker that gets the batch does that."""
        await asyncio.sleep(prepare.after)
        self._host.post(e.Prepared(prepare.batch, now()))

    async def compute(self, compute: e.Compute) -> None:
        batch = compute.batch
        for _ in range(TRIES):
            try:
                reply = await self._gateway.compute(compute.tasks)
            except ClusterError as error:
                if (
                    not self._gateway.connected
                ):  # the line is ended: the coordinator gives the tasks to others
                    return self._recalled(compute)
                log.warning("a batch was not computed: %s", error)
                continue
            match reply:
                case Done(done=done, failed=failed):
                    return self._host.post(e.Computed(batch, done, failed, now()))
                case Blamed(key=key, problem=problem):
                    return self._host.post(e.Broke(batch, key, problem, now(), reply.node, reply.subgraph))
                case GivenUp():
                    return self._recalled(compute)
                case Unable(problem=problem):
                    log.warning("a worker of the cluster cannot compute a batch: %s", problem.text())
        return self._host.post(e.Undone(batch, now()))

    async def deliver(self, deliver: e.Deliver) -> None:
        await asyncio.sleep(deliver.after)
        batch, uploaded = deliver.batch, set[str]()

        async def upload(shas: Collection[str]) -> None:
            """The worker has done that; where its blobs are lost since, the batch has to be computed again."""
            if uploaded.intersection(shas):
                raise BlobError("the coordinator lacks what a worker has stored there")
            uploaded.update(shas)

        try:
            line = self._host.line
            if line is None:
                raise UnreachableError("not connected to the coordinator")
            await line.deliver(deliver.report, upload)
        except RavenError as error:
            log.info("a report cannot be delivered: %s", error)
            passing = error.problem.code in PASSING
            return self._host.post(e.Stalled(batch, random.random()) if passing else e.Undone(batch, now()))
        return self._host.post(e.Delivered(batch, now()))

    def drop(self, batch: int) -> None:
        """Its job is cancelled with its effect."""

    async def close(self) -> None:
        self._watching.cancel()
        await asyncio.wait({self._watching})

    def _recalled(self, compute: e.Compute) -> None:
        """Nobody waits for it any more."""
        self._host.post(e.Recalled(tuple(map(key_of, compute.tasks)), now()))

    async def _watch(self) -> None:
        """Tell the daemon what the cluster has now, and when it is gone."""
        while True:
            try:
                profile = await self._gateway.look()
                if profile is not None:
                    log.info("the cluster has %d slots now", profile.slots)
                    self._host.offer(profile)
            except ClusterError as error:
                self._gateway.leave()
                self._host.leave(error)
