"""Gives a second copy of what is late to providers that have nothing else to do.

The decision is in `ravsock.core.stragglers`; here is when it is asked, and the lease that follows from it. Called by
the dispatcher, when nothing is left to hand out.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

from ravop.protocol.messages import Task
from ravsock.core import rounds, stragglers
from ravsock.core.deadlines import Effort
from ravsock.core.history import History
from ravsock.server import clock
from ravsock.server.leases import Wish, wish_for
from ravsock.server.provider import Batch, Holding, Provider
from ravsock.server.providers import Providers
from ravsock.server.writer import Writer
from ravsock.store import ReadyTask, Store

log = logging.getLogger(__name__)


class Copies:
    def __init__(
        self,
        store: Store,
        writer: Writer,
        providers: Providers,
        history: History,
        give: Callable[[Wish, tuple[Task, ...]], None],
    ) -> None:
        self._store = store
        self._writer = writer
        self._providers = providers
        self._history = history
        self._give = give
        self._look_at = 0.0
        """Not before that, on the clock of `time.monotonic`."""

    async def hand_out(self) -> float | None:
        """Lease copies of what is late; seconds until there may be more to copy."""
        now = time.monotonic()
        if now < self._look_at:
            return self._look_at - now
        nodes, full = self._providers.nodes(now)
        if not any(node.idle for node in nodes):
            return None
        holders = Counter(task for provider in self._providers for task in provider.held)
        batches = [
            (provider, batch, holdings)
            for provider in self._providers
            for batch, holdings in _by_batch(provider).items()
            if batch.copyable and all(holders[holding.task_id] == 1 for holding in holdings)
        ]
        leased = [
            rounds.leased(number, provider.provider_id, batch, _told(holdings), now, self._history)
            for number, (provider, batch, holdings) in enumerate(batches)
        ]
        self._look_at = now + stragglers.pause(len(leased), len(nodes))
        made = stragglers.copies(leased, nodes, full)
        wishes = []
        for copy in made:
            _, batch, holdings = batches[copy.number]
            other = self._providers.get(copy.provider_id)
            if other is not None:
                wishes.append((batch, _twin(other, leased[copy.number].job.effort, holdings, now)))
        if wishes:
            leases = [wish.lease for _, wish in wishes]
            copied = await self._writer.apply(self._store.copy, leases, clock.now())
            for (batch, wish), tasks in zip(wishes, copied, strict=True):
                batch.copyable = bool(tasks)
                if tasks:
                    name, first = wish.lease.provider_id, tasks[0]
                    about = {"graph": first.graph_id, "task": first.task_id, "provider": name}
                    log.info("%s is late; %s computes it too", first.label, name, extra=about)
                    self._give(wish, tasks)
        copied_now = {copy.number for copy in made}
        return stragglers.next_look(task for task in leased if task.number not in copied_now)


def _twin(other: Provider, effort: Effort, holdings: Sequence[Holding], now: float) -> Wish:
    """The same tasks, which are of this effort together, for another provider."""
    ready = [h.ready for h in holdings if h.ready is not None]
    whole, expected = effort.seconds(other.gflops), sum(h.estimate for h in holdings)
    seconds = [whole * h.estimate / (expected or 1.0) for h in holdings]
    return wish_for(other, ready, seconds, now)


def _told(holdings: Sequence[Holding]) -> list[tuple[ReadyTask, float]]:
    """What was handed out, and the seconds that each should take."""
    return [(holding.ready, holding.estimate) for holding in holdings if holding.ready is not None]


def _by_batch(provider: Provider) -> dict[Batch, list[Holding]]:
    """What it holds of which it is known what was handed out."""
    found: dict[Batch, list[Holding]] = {}
    for holding in provider.held.values():
        if holding.ready is not None:
            found.setdefault(holding.batch, []).append(holding)
    return found
