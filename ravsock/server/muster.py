"""Calls providers together for chunks of loops that several compute faster than one.

The decision is in `ravsock.core.teams`; here is what it needs to know, and the lease that follows from it. Called by the
dispatcher, before it gives single providers what is left.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec

from ravop.protocol.messages import Task
from ravsock.core import deadlines, teams
from ravsock.core.history import History
from ravsock.core.jobs import Node
from ravsock.core.teams import Chunk, Member, Team
from ravsock.server import clock
from ravsock.server.gangs import Gangs
from ravsock.server.leases import Leases, needed
from ravsock.server.provider import Batch, Holding
from ravsock.server.providers import Providers
from ravsock.server.writer import Writer
from ravsock.store import Lease, ReadyTask, Store

Deliver = Callable[[str, Batch, tuple[Task, ...]], Awaitable[None]]
"""Sends what was leased to a provider."""


class Muster:
    def __init__(
        self, store: Store, writer: Writer, providers: Providers, leases: Leases, history: History, gangs: Gangs,
        deliver: Deliver,
    ) -> None:  # fmt: skip
        self._store = store
        self._writer = writer
        self._providers = providers
        self._leases = leases
        self._history = history
        self._gangs = gangs
        self._deliver = deliver

    async def hand_out(
        self, ready: Mapping[int, ReadyTask], nodes: Sequence[Node]
    ) -> tuple[dict[int, ReadyTask], list[Node]]:
        """Lease to gangs what is best done so; the other tasks, and the providers with what they have now."""
        chosen: list[tuple[ReadyTask, Team]] = []
        fleet = {node.provider_id: node for node in nodes}
        for task in ready.values():
            if task.gangs and (team := self._choose(task, ready, fleet.values())) is not None:
                chosen.append((task, team))
                fleet |= {name: _busier(fleet[name], team.estimate) for name in team.providers}
        if chosen:
            leases = [_lease(task, team) for task, team in chosen]
            leased = await self._writer.apply(self._store.lease, leases, clock.now())
            for (task, team), tasks in zip(chosen, leased, strict=True):
                if tasks:
                    await self._give(task, team, tasks)
        taken = {task.task_id for task, _ in chosen}
        left = {task_id: task for task_id, task in ready.items() if task_id not in taken}
        return left, list(fleet.values())

    def _choose(self, task: ReadyTask, ready: Mapping[int, ReadyTask], nodes: Iterable[Node]) -> Team | None:
        free = [node for node in nodes if node.idle and node.graph_id in (None, task.graph_id)]
        if len(free) < 2:
            return None
        chunk = Chunk(
            left=(task.length or 0) - task.start,
            gangs=task.gangs,
            effort=deadlines.effort(task.flops, task.seconds_overhead),
            pace=self._history.pace(task.model),
            seen=self._gangs.past.seen(task.model),
            bytes_out=task.bytes_out,
            peak_memory=task.peak_memory,
            tries=task.tries,
            failed=bool(task.failed_on),
        )
        members = [_member(task, node) for node in free]
        usual = self._gangs.past.usual(task.graph_id, task.model)
        team = teams.choose(chunk, members, usual, self._share(task, ready))
        if team is None:
            self._gangs.past.passed_over(task.model)
        return team

    def _share(self, task: ReadyTask, ready: Mapping[int, ReadyTask]) -> int:
        """The ranks that a gang may have: others want providers too."""
        graphs = {task.graph_id} | {other.graph_id for other in ready.values()}
        graphs |= {running.graph_id for running in self._providers.running()}
        loops = Counter(other.graph_id for other in ready.values() if other.gangs)
        able = sum(1 for provider in self._providers if provider.graph_id in (None, task.graph_id))
        return able // (len(graphs) * loops[task.graph_id])

    async def _give(self, ready: ReadyTask, team: Team, tasks: tuple[Task, ...]) -> None:
        gang = self._gangs.begin(ready, team, tasks)
        for task, name in zip(tasks, team.providers, strict=True):
            provider = self._providers.get(name)
            if provider is None:
                return await self._gangs.break_off(gang, f"{name} left")
            batch = Batch(
                graph_id=ready.graph_id, owner=ready.owner, since=time.monotonic(), blobs=needed(task),
                moving=team.fetching, copyable=False,
            )  # fmt: skip
            holding = Holding(
                task_id=task.task_id, attempt=task.attempt, batch=batch, estimate=team.estimate, ready=ready
            )
            self._leases.hold(provider, batch, [holding])
            self._leases.start(self._deliver(name, batch, (task,)))
        return None


def _lease(task: ReadyTask, team: Team) -> Lease:
    moving = sum(size for _, size in task.inputs) + task.bytes_out
    seconds = deadlines.lease_seconds(team.estimate, moving, task.tries + 1)
    return Lease(
        provider_id=team.providers[0], deadline=clock.now() + seconds, tasks=(task.task_id,),
        stop=task.start + team.length, gang=team.gang,
    )  # fmt: skip


def _member(task: ReadyTask, node: Node) -> Member:
    sizes = {sha: size for sha, size in task.inputs if sha not in node.holds}
    lacks = {port: sum(sizes.get(sha, 0) for sha in shas) for port, shas in task.ports}
    return Member(
        provider_id=node.provider_id,
        gflops=node.gflops,
        memory=node.memory,
        link=node.link,
        round_trip=teams.round_trip(node.latency),
        lacking=sum(sizes.values()),
        lacks={port: size for port, size in lacks.items() if size},
    )


def _busier(node: Node, seconds: float) -> Node:
    return msgspec.structs.replace(node, outstanding=node.outstanding + 1, backlog=node.backlog + seconds)
