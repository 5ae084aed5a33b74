"""The simulated coordinator: the core's functions, around tables in memory instead of a database.

What the server's shell does with sockets and SQL is done here with dictionaries; what it decides is decided by the same
functions.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import count

from ravsock.core import deadlines, doubts, failures, placement, rounds, stragglers
from ravsock.core.deadlines import Effort
from ravsock.core.doubts import Verdict
from ravsock.core.fleet import DEFAULT_GFLOPS
from ravsock.core.history import History, Run
from ravsock.core.jobs import LINK, Host, Node, room
from ravsock.core.placement import Running
from ravsock.core.simulation.batches import Batch, Held, Task
from ravsock.core.simulation.machines import Machine
from ravsock.core.simulation.options import Trial
from ravsock.core.simulation.work import Graph

ASIDE_SECONDS = 5.0
"""As in the server: who gave NaN waits while another computes the same."""
LOOK_SECONDS = 1.0
"""Second attempts are not looked for more often."""
Clock = Callable[[], float]


@dataclass(eq=False, slots=True)
class Seat:
    """A connected provider."""

    provider_id: str
    memory: int
    slots: int
    blobs: dict[str, None]
    latency: float
    claimed: float
    graph_id: str | None = None
    batches: list[Batch] = field(default_factory=list)
    failures: int = 0
    resting_until: float = 0.0
    reported: float = 0.0
    node: Node | None = None
    """As placement sees it while it has nothing to do and nothing is learnt of it."""


@dataclass
class Counts:
    attempts: int = 0
    done: int = 0
    expired: int = 0
    copies: int = 0
    copies_won: int = 0
    failed: int = 0
    given_up: int = 0
    doubted: int = 0
    wrong: int = 0
    """Results with NaN that were taken in although the work gives none."""
    rounds: int = 0
    placed: int = 0
    deepest: int = 0
    """Ready tasks that found no place, at most."""
    seconds: float = 0.0
    """Of the stopwatch, in `placement.assign`."""
    saturated: float = 0.0
    """When more was ready than there was room for, the last time."""


class Coordinator:
    def __init__(self, graphs: list[Graph], trial: Trial, stopwatch: Clock) -> None:
        self.counts = Counts()
        self.history = History()
        self._graphs = {graph.name: graph for graph in graphs}
        self._trial = trial
        self._stopwatch = stopwatch
        self._seats: dict[str, Seat] = {}
        self._gone: dict[str, Seat] = {}
        self._open: dict[str, Seat] = {}
        """Those that may have room."""
        self._appetite = placement.BATCH_TASKS
        self._deadlines: list[tuple[float, int, Batch]] = []
        self._numbers = count()
        self._running: dict[Batch, Running] = {}
        self._shares: Counter[Running] = Counter()
        self._genuine: set[str] = set()
        self._look_at = 0.0

    @property
    def left(self) -> int:
        """Tasks that are not done."""
        return sum(graph.left for graph in self._graphs.values())

    # ── providers ─────────────────────────────────────────────────────────────────────────────────
    def join(self, machine: Machine, now: float) -> None:
        self.leave(machine.provider_id)
        seat = self._gone.pop(machine.provider_id, None) or Seat(
            machine.provider_id, 1 << 33, machine.slots, machine.blobs, machine.latency, machine.claimed
        )
        self.history.claim(seat.provider_id, machine.claimed)
        self._seats[seat.provider_id] = self._open[seat.provider_id] = seat
        seat.node = None

    def leave(self, provider_id: str) -> None:
        """What it had goes back."""
        seat = self._seats.pop(provider_id, None)
        if seat is None:
            return
        self._open.pop(provider_id, None)
        self._gone[provider_id] = seat
        for batch in list(seat.batches):
            self._forget(batch)
            for held in batch.held:
                self._back(held, "give_back")

    # ── handing out ───────────────────────────────────────────────────────────────────────────────
    def hand_out(self, now: float) -> list[Batch]:
        """One round."""
        if not any(graph.waiting for graph in self._graphs.values()):
            return []
        self._open = {name: seat for name, seat in self._open.items() if self._room(seat)}
        nodes = self._nodes(now)
        places = sum(node.free for node in nodes)
        if not places:
            self._wait(now)
            return []
        limit = rounds.look(places, self._appetite)
        ready = {task.task_id: task for task in self._ready(limit)}
        if not ready:
            return []
        beyond = dict.fromkeys(rounds.cut(tuple(ready.values()), limit), self._appetite)
        typical = max((node.gflops for node in nodes), default=DEFAULT_GFLOPS)
        jobs = [rounds.job(task, typical, self.history, self._trial.times) for task in ready.values()]
        began = self._stopwatch()
        made = placement.assign(jobs, nodes, self._shares, beyond, _Others(self._seats, self._open))
        self.counts.seconds += self._stopwatch() - began
        self.counts.rounds += 1
        self._appetite = rounds.appetite(made)
        batches = [self._lease(a.provider_id, [ready[task] for task in a.tasks], now) for a in made]
        self.counts.placed += sum(len(batch.held) for batch in batches)
        if not batches:
            self._wait(now)
        return batches

    def copies(self, now: float) -> list[Batch]:
        """Second attempts of what is late."""
        if not self._trial.copies or now < self._look_at:
            return []
        nodes = self._nodes(now)
        if not any(node.idle for node in nodes):
            return []
        batches = [batch for batch in self._running if batch.alone]
        self._look_at = now + max(LOOK_SECONDS, stragglers.pause(len(batches), len(nodes)))
        leased = [
            rounds.leased(
                number, batch.provider_id, batch, [(h.task, h.estimate) for h in batch.held], now, self.history
            )
            for number, batch in enumerate(batches)
        ]  # fmt: skip
        made = stragglers.copies(leased, nodes, _Others(self._seats, self._open))
        return [
            self._twin(batches[copy.number], leased[copy.number].job.effort, copy.provider_id, now)
            for copy in made
        ]

    def _ready(self, limit: int) -> Iterator[Task]:
        """Graphs take turns."""
        lists = [graph.first(limit) for graph in self._graphs.values() if graph.waiting]
        for place in range(max(map(len, lists), default=0)):
            for tasks in lists:
                if place < len(tasks) and limit:
                    limit -= 1
                    yield tasks[place]

    def _lease(self, provider_id: str, tasks: list[Task], now: float) -> Batch:
        seat = self._seats[provider_id]
        gflops = self._gflops(seat)
        held = []
        for task in tasks:
            seconds, stop = rounds.portion(task, gflops, self.history, self._trial.times)
            del self._graphs[task.graph_id].ready[task.task_id]
            task.go("lease")
            stop = None if stop is None or task.length is None else min(stop, task.length)
            held.append(Held(task, 0, task.start, stop, seconds))
        waits = rounds.backlog(seat.batches, now) / seat.slots
        return self._give(seat, held, now, waits, copy=False)

    def _twin(self, batch: Batch, effort: Effort, provider_id: str, now: float) -> Batch:
        seat = self._seats[provider_id]
        whole, expected = effort.seconds(self._gflops(seat)), batch.estimate
        held = [
            Held(h.task, 0, h.start, h.stop, whole * h.estimate / (expected or 1.0))
            for h in batch.held
            if h.counts
        ]
        batch.copied = True
        self.counts.copies += 1
        return self._give(seat, held, now, 0.0, copy=True)

    def _give(self, seat: Seat, held: list[Held], now: float, waits: float, copy: bool) -> Batch:
        tasks = [h.task for h in held]
        incoming = {sha: size for task in tasks for sha, size in task.inputs if sha not in seat.blobs}
        transfer = sum(incoming.values()) + sum(task.bytes_out for task in tasks)
        seconds = [h.estimate for h in held]
        lasts = rounds.lasts(tasks, seconds, transfer, self.history, waits=waits, policy=self._trial.times)
        batch = Batch(
            provider_id=seat.provider_id,
            graph_id=tasks[0].graph_id,
            owner=tasks[0].owner,
            since=now,
            held=held,
            moving=transfer / (self.history.link(seat.provider_id) or LINK),
            waits=waits,
            estimate=sum(seconds),
            deadline=now + lasts,
            copied=copy,
            copy=copy,
        )
        for h in held:
            h.task.tries += 1
            h.task.attempts += 1
            h.attempt = h.task.attempts
            h.task.current[h.attempt] = batch
        self.counts.attempts += len(held)
        seat.batches.append(batch)
        seat.node = None
        self._running[batch] = share = Running(batch.owner, batch.graph_id)
        self._shares[share] += 1
        heapq.heappush(self._deadlines, (batch.deadline, next(self._numbers), batch))
        return batch

    # ── what comes back ───────────────────────────────────────────────────────────────────────────
    def report(self, batch: Batch, now: float) -> tuple[float, list[Batch]]:
        """A batch has ended: the share of it that counts, and what other providers may drop."""
        seat = self._seats[batch.provider_id]
        self.history.answered(seat.provider_id, seat.latency)
        self.history.moved(seat.provider_id, *batch.carried)
        seat.node = None
        good: list[Held] = []
        unwanted: list[Batch] = []
        for held in batch.held:
            if not held.counts:
                continue
            if batch.fails:
                self._failed(held, seat, now)
            elif self._doubts(held, seat, batch.nan, now):
                self._back(held, "give_back")
            else:
                unwanted += self._complete(held)
                good.append(held)
        if good:
            seat.failures = 0
            self._learn(batch, good, seat, now)
            self.counts.copies_won += batch.copy
        self._forget(batch)
        seat.reported = now
        return len(good) / len(batch.held), [b for b in unwanted if b is not batch]

    def expire(self, now: float) -> list[Batch]:
        """Leases that have run out; their providers may drop them."""
        found = []
        while self._deadlines and self._deadlines[0][0] <= now:
            batch = heapq.heappop(self._deadlines)[2]
            if batch not in self._running:
                continue
            found.append(batch)
            self._forget(batch)
            for held in batch.held:
                if held.counts:
                    self.counts.expired += 1
                    held.task.expiries += 1
                    if failures.counts(held.task.expiries):
                        held.task.expiries = 0
                        self._blame(held, batch.provider_id)
                    else:
                        self._back(held, "expire")
        return found

    def _complete(self, held: Held) -> list[Batch]:
        """The result counts; batches of other attempts of which nothing is wanted any more."""
        task = held.task
        others = [batch for attempt, batch in task.current.items() if attempt != held.attempt]
        task.current.clear()
        task.tries = task.failures = task.expiries = 0
        task.failed_on, task.doubted = (), None
        if held.stop is not None and task.length is not None and held.stop < task.length:
            task.start = held.stop
            task.go("repeat")
            self._graphs[task.graph_id].ready[task.task_id] = task
        else:
            task.go("complete")
            self.counts.done += 1
            self._graphs[task.graph_id].done(task)
        unwanted = [batch for batch in others if not any(h.counts for h in batch.held)]
        for batch in unwanted:
            self._forget(batch)
        return unwanted

    def _failed(self, held: Held, seat: Seat, now: float) -> None:
        self.counts.failed += 1
        seat.failures += 1
        seat.resting_until = now + deadlines.rest_seconds(seat.failures)
        self._blame(held, seat.provider_id)

    def _blame(self, held: Held, provider_id: str) -> None:
        task = held.task
        task.failures += 1
        task.failed_on = (*task.failed_on, provider_id)
        if failures.gives_up(task.failures):  # in truth, the graph ends here
            self.counts.given_up += 1
            task.current.clear()
            task.go("give_up")
            self._graphs[task.graph_id].done(task)
        else:
            self._back(held, "fail")

    def _back(self, held: Held, event: str) -> None:
        """The attempt counts no more; the task is ready again, unless another attempt goes on."""
        task = held.task
        if task.current.pop(held.attempt, None) is not None and not task.current:
            task.go(event)
            self._graphs[task.graph_id].ready[task.task_id] = task

    def _doubts(self, held: Held, seat: Seat, nan: bool, now: float) -> bool:
        task = held.task
        if task.graph_id in self._genuine or not (nan or task.doubted):
            return False
        verdict = doubts.judge(nan, seat.provider_id, task.doubted, nan and len(self._seats) > 1)
        if verdict is Verdict.DOUBTED:
            self.counts.doubted += 1
            task.doubted = seat.provider_id
            seat.resting_until = max(seat.resting_until, now + ASIDE_SECONDS)
            return True
        if verdict is Verdict.GENUINE:
            self._genuine.add(task.graph_id)
        elif verdict is Verdict.REFUTED and (wrong := self._seats.get(task.doubted or "")) is not None:
            wrong.failures += 1
            wrong.node = None
            wrong.resting_until = now + deadlines.rest_seconds(wrong.failures)
        self.counts.wrong += nan
        return False

    def _learn(self, batch: Batch, good: list[Held], seat: Seat, now: float) -> None:
        each = batch.run / sum(held.iterations for held in batch.held)
        runs = [
            Run(
                model=held.task.model,
                effort=deadlines.effort(held.task.flops, held.task.seconds_overhead),
                iterations=held.iterations,
                seconds=each * held.iterations,
                expected=held.estimate,
            )
            for held in good
        ]
        began = max(batch.since, seat.reported) if seat.slots == 1 else batch.since
        self.history.learn(seat.provider_id, runs, now - began, batch.moving)

    def _forget(self, batch: Batch) -> None:
        """Its provider does not have it any more."""
        if (share := self._running.pop(batch, None)) is None:
            return
        self._shares[share] -= 1
        seat = self._seats.get(batch.provider_id) or self._gone[batch.provider_id]
        seat.batches.remove(batch)
        if seat.provider_id in self._seats:
            self._open[seat.provider_id] = seat

    # ── how things are ────────────────────────────────────────────────────────────────────────────
    def _wait(self, now: float) -> None:
        if depth := sum(graph.waiting for graph in self._graphs.values()):
            self.counts.saturated = now
            self.counts.deepest = max(self.counts.deepest, depth)

    def _room(self, seat: Seat) -> int:
        return room(seat.slots, len(seat.batches), self._trial.prefetch)

    def _gflops(self, seat: Seat) -> float:
        return {
            "measured": self.history.gflops(seat.provider_id),
            "claimed": seat.claimed,
            "equal": DEFAULT_GFLOPS,
        }[self._trial.speeds]

    def _nodes(self, now: float) -> list[Node]:
        """Those that may have room."""
        return [seat.node or self._node(seat, now) for seat in self._open.values()]

    def _node(self, seat: Seat, now: float) -> Node:
        node = Node(
            provider_id=seat.provider_id,
            gflops=self._gflops(seat),
            memory=seat.memory,
            slots=seat.slots,
            outstanding=len(seat.batches),
            backlog=rounds.backlog(seat.batches, now),
            resting=now < seat.resting_until,
            holds=seat.blobs.keys(),
            link=self.history.link(seat.provider_id) or LINK,
            latency=self.history.latency(seat.provider_id),
            prefetch=self._trial.prefetch,
        )
        if not seat.batches and not node.resting:
            seat.node = node
        return node


class _Others(Collection[Host]):
    """The connected providers that have no room: hardly ever asked for, so they are not listed in each round."""

    def __init__(self, seats: dict[str, Seat], but: dict[str, Seat]) -> None:
        self._seats, self._but = seats, but

    def __iter__(self) -> Iterator[Host]:
        return (seat for name, seat in self._seats.items() if name not in self._but)

    def __len__(self) -> int:
        return len(self._seats) - len(self._but)

    def __contains__(self, host: object) -> bool:
        return any(seat is host for seat in self)
