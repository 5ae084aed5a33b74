"""Tasks that are ready, and those that are held. How they are leased is in `leasing`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from ravop.protocol.tensors import Blob, blobs_of
from ravsock.core import states
from ravsock.core.program import key_of
from ravsock.core.recent import Recent
from ravsock.core.tasks import (
    cost_of,
    gangs_of,
    label_of,
    large_inputs,
    length_of,
    model_of,
    needs,
)
from ravsock.store.bindings import Bindings
from ravsock.store.graphs import Graphs
from ravsock.store.schema import graphs, tasks
from ravsock.store.values import Held, ReadyTask

REMEMBERED_INPUTS = 20_000
IDS = tasks.c.id.in_(sa.bindparam("ids", expanding=True))
WITH_GRAPH = sa.select(tasks, graphs.c.state.label("graph_state"), graphs.c.owner).join(
    graphs, graphs.c.number == tasks.c.graph
)
_READ = ("id", "graph", "path", "unit", "waiting_for", "start", "tries", "failed_on")
_READY = (
    sa.select(*(tasks.c[name] for name in _READ))
    .where(tasks.c.graph == sa.bindparam("g"), tasks.c.state == states.READY)
    .order_by(tasks.c.id)
    .limit(sa.bindparam("most"))
)
_BEFORE, _FROM = (
    _READY.where(where) for where in (tasks.c.id < sa.bindparam("id"), tasks.c.id >= sa.bindparam("id"))
)
_ENDS = sa.select(sa.func.min(tasks.c.id), sa.func.max(tasks.c.id)).where(
    tasks.c.graph == sa.bindparam("g"), tasks.c.state == states.READY
)
_EXECUTING = (
    sa.select(graphs.c.number, graphs.c.id, graphs.c.owner)
    .where(graphs.c.state == states.EXECUTING)
    .order_by(graphs.c.number)
)


class Holder(NamedTuple):
    """An attempt of a task that is leased; it may have a second one, its copy."""

    provider_id: str
    attempt: int
    leased: float
    deadline: float
    copy: bool


@dataclass(frozen=True)
class _Kind:
    """What ready tasks of one unit have in common: `task`, with the blobs that are bound to the graph's inputs.
    `computed`: whether it may need others, which results are kept in."""

    task: ReadyTask
    computed: bool


def holders(row: Any) -> list[Holder]:
    """The attempts of a leased task."""
    found = [Holder(row.provider, row.attempt, row.leased, row.deadline, False)]
    if row.copy_provider is not None:
        found.append(Holder(row.copy_provider, row.copy_attempt, row.copy_leased, row.copy_deadline, True))
    return found


class Tasks(Graphs):
    def __init__(self, url: str, head: Callable[[Blob, int | None], bytes] | None = None) -> None:
        """`head` gives the first bytes of a blob's copy; with it, results in blobs are checked as closely as inline
        ones.
        """
        super().__init__(url)
        self._head = head
        self._needed: Recent[tuple[int, int], frozenset[Blob]] = Recent(REMEMBERED_INPUTS)
        self._ports: Recent[tuple[int, int], tuple[tuple[str, tuple[str, ...]], ...]] = Recent(
            REMEMBERED_INPUTS
        )

    # ── ready ─────────────────────────────────────────────────────────────────────────────────────
    def ready(
        self, limit: int, graph_id: str | None = None, share: tuple[int, int] = (0, 1)
    ) -> list[ReadyTask]:
        """Up to `limit` tasks that could be leased now, of all graphs or of one: turns are taken between
        owners, and between the graphs of each; within a graph, the oldest first. Results that are small by their
        type are not looked at: they are no blobs worth a thought. `share`: which of how many that ask at the same time
        this one is; each begins at another place of a graph's tasks, so that they seldom want the same."""
        with self.read() as connection:
            owners: dict[int, list[list[Any]]] = defaultdict(list)
            for number, name, owner in connection.execute(_EXECUTING).all():
                if graph_id in (None, name):
                    owners[owner].append(_ready_rows(connection, number, limit, share))
            fair = _in_turns([_in_turns(queues) for queues in owners.values()])[:limit]
            kinds = [self._kind(connection, row) for row in fair]
            computed = [row for row, kind in zip(fair, kinds, strict=True) if row.start or kind.computed]
            needed = self._blobs_needed(connection, computed)
            return [
                self._ready_task(connection, row, kind, needed.get(row.id))
                for row, kind in zip(fair, kinds, strict=True)
            ]

    def _ready_task(
        self, connection: sa.Connection, row: Any, kind: _Kind, needed: frozenset[Blob] | None
    ) -> ReadyTask:
        task, inputs, label = kind.task, kind.task.inputs, kind.task.label
        if needed is not None:
            inputs = tuple({task.model: inputs[0][1], **{blob.sha: blob.size for blob in needed}}.items())
        if row.path or task.length is not None:
            program = self._known(connection, row.graph).program
            label = label_of(program, row.path, row.unit, row.start, task.length or 1)
        return ReadyTask(
            task_id=row.id, graph_id=task.graph_id, owner=task.owner, model=task.model, label=label,
            flops=task.flops, seconds_overhead=task.seconds_overhead, bytes_out=task.bytes_out,
            peak_memory=task.peak_memory, inputs=inputs, start=row.start, length=task.length,
            tries=row.tries, failed_on=tuple(row.failed_on.split()), gangs=task.gangs,
            ports=self._blobs_by_port(connection, row) if task.gangs else (),
        )  # fmt: skip

    def _blobs_by_port(self, connection: sa.Connection, row: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The inputs of a task's model that need blobs, and which; remembered until the task moves on."""
        found = self._ports.get((row.id, row.start))
        if found is None:
            program = self._known(connection, row.graph).program
            places = {
                need.name: need.place
                for need in needs(program, row.path, row.unit, row.start, row.start)
                if need.place
            }
            bindings = Bindings(self, connection, row.graph)
            bindings.prefetch(places.values())
            ports = {
                name: tuple(blob.sha for part in bindings.parts(place) for blob in blobs_of(part.ref))
                for name, place in places.items()
            }
            self._ports[row.id, row.start] = found = tuple(
                (name, shas) for name, shas in ports.items() if shas
            )
        return found

    def _kind(self, connection: sa.Connection, row: Any) -> _Kind:
        """What the task has in common with all of its unit, made once."""
        known = self._known(connection, row.graph)
        where = (known.program, row.path, row.unit)
        key = (key_of(row.path), row.unit)
        made = known.kinds.get(key)
        if made is None:
            model, cost, length = model_of(*where), cost_of(*where), length_of(*where)
            bound, computed = large_inputs(*where)
            blobs = {model.model: known.model_sizes[model.model]}
            blobs |= {known.bound[name].sha: known.bound[name].size for name in bound}
            task = ReadyTask(
                task_id=0, graph_id=known.graph_id, owner=known.owner, model=model.model, label=model.label,
                flops=cost.flops, seconds_overhead=cost.seconds_overhead, bytes_out=cost.bytes_out,
                peak_memory=cost.peak_memory, inputs=tuple(blobs.items()), start=0, length=length, tries=0,
                failed_on=(), gangs=gangs_of(*where),
            )  # fmt: skip
            made = known.kinds[key] = _Kind(task, computed)
        return made

    def _blobs_needed(self, connection: sa.Connection, rows: Sequence[Any]) -> dict[int, frozenset[Blob]]:
        """The blobs among the inputs of tasks that are ready or leased, by task; remembered, since they do
        not change until the task moves on. One that runs ahead gets the rest from its provider's own results."""
        found = {row.id: self._needed.get((row.id, row.start)) for row in rows}
        for number, group in by_graph(row for row in rows if found[row.id] is None).items():
            program = self._known(connection, number).program
            bindings = Bindings(self, connection, number)
            places = {
                row: [n.place for n in needs(program, row.path, row.unit, row.start, row.start) if n.place]
                for row in group
            }
            bindings.prefetch(place for some in places.values() for place in some)
            for row, some in places.items():
                parts = [part for place in some for part in bindings.parts(place)]
                found[row.id] = blobs = frozenset(blob for part in parts for blob in blobs_of(part.ref))
                if not row.waiting_for:
                    self._needed[row.id, row.start] = blobs
        return {task: blobs for task, blobs in found.items() if blobs is not None}

    # ── held ──────────────────────────────────────────────────────────────────────────────────────
    def held_by(self, provider_id: str | None = None) -> list[Held]:
        """The attempts of what is leased, of one provider or of all; oldest lease first."""
        query = WITH_GRAPH.where(tasks.c.state == states.LEASED)
        if provider_id is not None:
            query = query.where(sa.or_(tasks.c.provider == provider_id, tasks.c.copy_provider == provider_id))
        with self.read() as connection:
            held = [
                self._held(connection, row, holder)
                for row in connection.execute(query).all()
                for holder in holders(row)
                if provider_id in (None, holder.provider_id)
            ]
        return sorted(held, key=lambda one: (one.leased, one.task_id))

    def _held(self, connection: sa.Connection, row: Any, holder: Holder) -> Held:
        known = self._known(connection, row.graph)
        cost = cost_of(known.program, row.path, row.unit)
        return Held(
            task_id=row.id, attempt=holder.attempt, provider_id=holder.provider_id, graph_id=known.graph_id,
            owner=known.owner, model=model_of(known.program, row.path, row.unit).model, flops=cost.flops,
            iterations=max(1, row.stop - row.start), leased=holder.leased, deadline=holder.deadline,
            ranks=row.ranks,
        )  # fmt: skip


def _ready_rows(connection: sa.Connection, number: int, limit: int, share: tuple[int, int]) -> list[Any]:
    """Of one graph, from where this share of them begins, and round to there."""
    place, count = share
    here = {"g": number, "most": limit}
    if not place:
        return list(connection.execute(_READY, here))
    low, high = connection.execute(_ENDS, {"g": number}).one()
    if low is None:
        return []
    here["id"] = low + (high - low + 1) * place // count
    rows = list(connection.execute(_FROM, here))
    if len(rows) < limit:
        rows += connection.execute(_BEFORE, here | {"most": limit - len(rows)})
    return rows


def by_graph(rows: Iterable[Any]) -> dict[int, list[Any]]:
    groups: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        groups[row.graph].append(row)
    return groups


def _in_turns(queues: list[list[Any]]) -> list[Any]:
    """One of each queue, then the next of each."""
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
