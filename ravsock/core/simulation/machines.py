"""The simulated providers: how fast they really are, when they come and go, and what they do with a batch.

The coordinator of the simulation knows nothing of this but what providers say and what it sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ravsock.core.simulation.batches import Batch
from ravsock.core.simulation.options import Fleet

HOUR = 3600.0
TASK_SECONDS = 0.0003
"""What any task costs beside its work."""
FAILS_AFTER = 1.0
"""Seconds until a run fails on a provider on which everything fails."""


@dataclass(eq=False, slots=True)
class Machine:
    provider_id: str
    gflops: float
    claimed: float
    link: float
    latency: float
    slots: int
    fails: bool = False
    nan: bool = False
    online: bool = False
    since: float = 0.0
    """When it came."""
    session: int = 0
    blobs: dict[str, None] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    down_until: float = 0.0
    """When its line has brought all that was asked for."""
    up_until: float = 0.0
    slow: bool = False
    phase_until: float = 0.0

    @property
    def power(self) -> float:
        """GFLOPS of all slots."""
        return self.gflops * self.slots

    def take(self, batch: Batch, now: float, fleet: Fleet, random: np.random.Generator) -> None:
        """A batch arrives: it is fetched at once, and computed in its turn."""
        lacking = sum(size for sha, size in batch.needs.items() if sha not in self.blobs)
        self.blobs.update(dict.fromkeys(batch.needs))
        batch.fetched = now + self.latency / 2
        if lacking:
            begin = max(batch.fetched, self.down_until) + self.latency
            batch.fetched = self.down_until = begin + lacking / self.link
        batch.carried = (lacking, lacking / self.link)
        factor = float(random.lognormal(0.0, fleet.noise)) * self._pace(now, fleet, random)
        work = sum(held.task.work * held.iterations for held in batch.held)
        batch.run = work / self.gflops * factor + TASK_SECONDS * len(batch.held)
        batch.nan = self.nan
        batch.fails = self.fails or random.random() < fleet.failures
        if batch.fails:
            batch.run = FAILS_AFTER if self.fails else batch.run * random.random()
        self.batches.append(batch)

    def drop(self, batch: Batch) -> None:
        self.batches.remove(batch)

    def plan(self, now: float) -> list[Batch]:
        """When each batch begins and ends, in their order; those whose times have changed."""
        free = sorted(max(now, b.end) for b in self.batches if b.begin <= now)
        free = [now] * (self.slots - len(free)) + free
        changed = []
        for batch in self.batches:
            if batch.begin <= now:
                continue
            begin = max(free.pop(0), batch.fetched)
            if begin != batch.begin:
                batch.begin, batch.end = begin, begin + batch.run
                changed.append(batch)
            free.append(batch.end)
            free.sort()
        return changed

    def reported(self, batch: Batch) -> float:
        """When the coordinator hears of a batch that ends now: what it gives is brought first."""
        self.up_until = max(self.up_until, batch.end) + batch.bytes_out / self.link
        return self.up_until + 1.5 * self.latency

    def _pace(self, now: float, fleet: Fleet, random: np.random.Generator) -> float:
        """How many times longer things take at the moment."""
        if not fleet.slow:
            return 1.0
        quick_hours = fleet.slow_hours * (1 - fleet.slow) / fleet.slow
        while self.phase_until <= now:
            self.slow = not self.slow if self.phase_until else random.random() < fleet.slow
            hours = fleet.slow_hours if self.slow else quick_hours
            self.phase_until = max(self.phase_until, now - HOUR) + random.exponential(hours * HOUR)
        return fleet.slow_factor if self.slow else 1.0


def drawn(fleet: Fleet, random: np.random.Generator) -> list[Machine]:
    """All that ever come: some are away at the beginning."""
    count = round(fleet.providers * (1 + fleet.churn * fleet.away_hours))
    gflops, link, latency = (
        np.exp(random.uniform(math.log(low), math.log(high), count))
        for low, high in (fleet.gflops, fleet.link, fleet.latency)
    )
    claims = random.lognormal(0.0, fleet.claims, count)
    fault = random.random(count)
    return [
        Machine(
            provider_id=f"p{place:06}",
            gflops=float(gflops[place]),
            claimed=float(gflops[place] * claims[place]),
            link=float(link[place]),
            latency=float(latency[place]),
            slots=fleet.slots,
            fails=bool(fault[place] < fleet.failing),
            nan=bool(fleet.failing <= fault[place] < fleet.failing + fleet.nan),
        )
        for place in range(count)
    ]
