"""Virtual time: what happens when, in a heap; providers that come, compute, fail and go.

The clock of this world moves from event to event. Chance is drawn from the generator that is passed in, so that the same
seed gives the same world.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from ravsock.core import deadlines
from ravsock.core.simulation import machines
from ravsock.core.simulation.batches import Batch
from ravsock.core.simulation.coordinator import Coordinator
from ravsock.core.simulation.machines import HOUR, Machine
from ravsock.core.simulation.options import Options
from ravsock.core.simulation.result import Ledger, Result
from ravsock.core.simulation.work import graphs

SWEEP_SECONDS = 1.0
"""How often the coordinator looks at deadlines."""
TELL_SECONDS = 60.0
"""How often whoever watches is told the time."""


class World:
    def __init__(
        self,
        options: Options,
        random: np.random.Generator,
        stopwatch: Callable[[], float],
        tell: Callable[[float], None],
    ) -> None:
        self._tell = tell
        self._options = options
        self._random = random
        self._fleet = options.fleet
        self._machines = machines.drawn(options.fleet, random)
        self._by_name = {machine.provider_id: machine for machine in self._machines}
        connected = self._machines[: options.fleet.providers]
        self._graphs = graphs(
            options.work,
            power=sum(machine.power for machine in connected),
            median=float(np.median([machine.gflops for machine in connected])),
            slots=sum(machine.slots for machine in connected),
            random=random,
        )
        self._ledger = Ledger(sum(graph.work for graph in self._graphs))
        self._coordinator = Coordinator(self._graphs, options.trial, stopwatch)
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()
        self._round_at: float | None = None

    def run(self) -> Result:
        """Until all is done, or the hours are over."""
        for place, machine in enumerate(self._machines):
            if place < self._fleet.providers:
                self._arrive(machine)
            else:
                self._at(self._absence(), self._arrive, machine)
        self._at(SWEEP_SECONDS, self._sweep)
        self._at(TELL_SECONDS, self._pass)
        while self._events and self._coordinator.left:
            self._now, _, happens, what = heapq.heappop(self._events)
            if self._now > self._options.most_hours * HOUR:
                break
            happens(*what)
        for machine in self._machines:
            if machine.online:
                self._ledger.online(machine, machine.since, self._now)
        return self._ledger.result(self._options, self._coordinator.counts, self._now)

    def _at(self, seconds: float, happens: Callable[..., None], *what: Any) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._order), happens, what))

    # ── coming and going ──────────────────────────────────────────────────────────────────────────
    def _absence(self) -> float:
        return float(self._random.exponential(self._fleet.away_hours * HOUR))

    def _arrive(self, machine: Machine) -> None:
        machine.online, machine.since = True, self._now
        machine.session += 1
        self._coordinator.join(machine, self._now)
        if self._fleet.churn:
            self._at(float(self._random.exponential(HOUR / self._fleet.churn)), self._leave, machine)
        self._wake()

    def _leave(self, machine: Machine) -> None:
        machine.online = False
        machine.down_until = machine.up_until = 0.0
        self._ledger.online(machine, machine.since, self._now)
        for batch in list(machine.batches):
            self._end(machine, batch, "lost")
        silent = self._random.random() < self._fleet.silent
        self._at(deadlines.SILENT_SECONDS if silent else 0.0, self._missed, machine, machine.session)
        self._at(self._absence(), self._arrive, machine)

    def _missed(self, machine: Machine, session: int) -> None:
        """The coordinator sees that it is gone, unless it has come back."""
        if machine.session == session:
            self._coordinator.leave(machine.provider_id)
            self._wake()

    # ── work ──────────────────────────────────────────────────────────────────────────────────────
    def _wake(self) -> None:
        if self._round_at is None:
            self._round_at = self._now + self._options.trial.round_seconds
            self._at(self._options.trial.round_seconds, self._round)

    def _round(self) -> None:
        self._round_at = None
        while batches := self._coordinator.hand_out(self._now):
            self._give(batches)
        self._give(self._coordinator.copies(self._now))

    def _give(self, batches: list[Batch]) -> None:
        for batch in batches:
            machine = self._by_name[batch.provider_id]
            if machine.online:  # else it is silent, and the coordinator does not know yet
                machine.take(batch, self._now, self._fleet, self._random)
                self._plan(machine)

    def _plan(self, machine: Machine) -> None:
        for batch in machine.plan(self._now):
            self._at(batch.end - self._now, self._computed, machine, batch, batch.end)

    def _computed(self, machine: Machine, batch: Batch, end: float) -> None:
        """The slot is free; the result is on its way."""
        if not batch.over and batch.end == end:
            self._at(machine.reported(batch) - self._now, self._report, machine, batch)

    def _report(self, machine: Machine, batch: Batch) -> None:
        if batch.over:
            return
        share, unwanted = self._coordinator.report(batch, self._now)
        failed = "failed" if batch.fails else "doubted"
        self._end(machine, batch, "late" if batch.copied and not share and not batch.fails else failed, share)
        self._drop(unwanted, "copied")
        self._wake()

    def _sweep(self) -> None:
        self._drop(self._coordinator.expire(self._now), "expired")
        self._wake()
        self._at(SWEEP_SECONDS, self._sweep)

    def _pass(self) -> None:
        self._tell(self._now / HOUR)
        self._at(TELL_SECONDS, self._pass)

    def _drop(self, batches: list[Batch], why: str) -> None:
        for batch in batches:
            machine = self._by_name[batch.provider_id]
            if not batch.over and batch in machine.batches:
                self._end(machine, batch, why)
                self._plan(machine)

    def _end(self, machine: Machine, batch: Batch, why: str, share: float = 0.0) -> None:
        """Of the time that it took, `share` counts; the rest was wasted, and why."""
        batch.over = True
        machine.drop(batch)
        self._ledger.spent(machine, batch.begin, min(batch.end, self._now), why, share)
