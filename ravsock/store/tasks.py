"""Tasks that are ready or leased. What becomes of the leased ones is in `outcomes`."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from ravop.protocol.messages import Task, TaskInput
from ravop.protocol.tensors import Blob, Inline, TensorRef, blobs_of, encode_tensor
from ravsock.core import states
from ravsock.core.program import Place
from ravsock.core.tasks import (
    Need,
    cost_of,
    gangs_of,
    label_of,
    length_of,
    model_of,
    needs,
    output_specs,
)
from ravsock.store.bindings import Bindings
from ravsock.store.graphs import Graphs
from ravsock.store.schema import graphs, tasks
from ravsock.store.values import Held, Lease, ReadyTask

REMEMBERED_INPUTS = 20_000
IDS = tasks.c.id.in_(sa.bindparam("ids", expanding=True))
WITH_GRAPH = sa.select(tasks, graphs.c.state.label("graph_state"), graphs.c.owner).join(
    graphs, graphs.c.number == tasks.c.graph
)
_READY = (
    sa.select(tasks)
    .where(tasks.c.graph == sa.bindparam("g"), tasks.c.state == states.READY)
    .order_by(tasks.c.id)
    .limit(sa.bindparam("most"))
)
_EXECUTING = (
    sa.select(graphs.c.number, graphs.c.id, graphs.c.owner)
    .where(graphs.c.state == states.EXECUTING)
    .order_by(graphs.c.number)
)
_LEASABLE = WITH_GRAPH.where(
    IDS, tasks.c.state == states.READY, graphs.c.state == states.EXECUTING
).with_for_update(of=tasks, skip_locked=True)
_LEASE = (
    sa.update(tasks)
    .where(tasks.c.id == sa.bindparam("t"))
    .values(
        state=states.next_state(states.TASK, states.READY, "lease"), attempt=tasks.c.attempt + 1,
        tries=tasks.c.tries + 1, provider=sa.bindparam("by"), stop=sa.bindparam("until"),
        deadline=sa.bindparam("latest"), leased=sa.bindparam("at"),
    )
)  # fmt: skip


class Tasks(Graphs):
    def __init__(self, url: str, head: Callable[[Blob], bytes] | None = None) -> None:
        """`head` gives the first bytes of a blob; with it, results in blobs are checked as closely as inline
        ones.
        """
        super().__init__(url)
        self._head = head
        self._needed: OrderedDict[tuple[int, int], frozenset[Blob]] = OrderedDict()

    # ── ready ─────────────────────────────────────────────────────────────────────────────────────
    def ready(self, limit: int, graph_id: str | None = None) -> list[ReadyTask]:
        """Up to `limit` tasks that could be leased now, of all graphs or of one: turns are taken between
        owners, and between the graphs of each; within a graph, the oldest first."""
        with self.read() as connection:
            owners: dict[int, list[list[Any]]] = defaultdict(list)
            for number, name, owner in connection.execute(_EXECUTING).all():
                if graph_id in (None, name):
                    rows = connection.execute(_READY, {"g": number, "most": limit}).all()
                    owners[owner].append(list(rows))
            fair = _in_turns([_in_turns(queues) for queues in owners.values()])[:limit]
            needed = self._blobs_needed(connection, fair)
            return [self._ready_task(connection, row, needed[row.id]) for row in fair]

    def _ready_task(self, connection: sa.Connection, row: Any, needed: frozenset[Blob]) -> ReadyTask:
        known = self._known(connection, row.graph)
        model = model_of(known.program, row.path, row.unit)
        cost, length = (
            cost_of(known.program, row.path, row.unit),
            length_of(known.program, row.path, row.unit),
        )
        inputs = {model.model: known.model_sizes[model.model]}
        inputs |= {blob.sha: blob.size for blob in needed}
        return ReadyTask(
            task_id=row.id, graph_id=known.graph_id, owner=known.owner, model=model.model,
            label=label_of(known.program, row.path, row.unit, row.start, length or 1), flops=cost.flops,
            seconds_overhead=cost.seconds_overhead, bytes_out=cost.bytes_out, peak_memory=cost.peak_memory,
            inputs=tuple(inputs.items()), start=row.start, length=length, tries=row.tries,
            failed_on=tuple(row.failed_on.split()), gangs=gangs_of(known.program, row.path, row.unit),
        )  # fmt: skip

    def _blobs_needed(self, connection: sa.Connection, rows: Sequence[Any]) -> dict[int, frozenset[Blob]]:
        """The blobs among the inputs of tasks that are ready or leased, by task; remembered, since they do
        not change until the task moves on."""
        found = {row.id: self._needed.get((row.id, row.start)) for row in rows}
        for number, group in _by_graph(row for row in rows if found[row.id] is None).items():
            program = self._known(connection, number).program
            bindings = Bindings(self, connection, number)
            places = {
                row: [n.place for n in needs(program, row.path, row.unit, row.start, row.start) if n.place]
                for row in group
            }
            bindings.prefetch(place for some in places.values() for place in some)
            for row, some in places.items():
                blobs = frozenset(blob for place in some for blob in blobs_of(bindings.get(place)))
                found[row.id] = self._needed[row.id, row.start] = blobs
        while len(self._needed) > REMEMBERED_INPUTS:
            self._needed.popitem(last=False)
        return {task: blobs for task, blobs in found.items() if blobs is not None}

    # ── lease ─────────────────────────────────────────────────────────────────────────────────────
    def lease(self, leases: Sequence[Lease], now: float) -> list[tuple[Task, ...]]:
        """Lease each batch to its provider, with new attempts; without those that are not ready (any more)."""
        with self.write() as connection:
            wanted = {task: lease for lease in leases for task in lease.tasks}
            rows = connection.execute(_LEASABLE, {"ids": list(wanted)}).all()
            stops = {row.id: self._stop(connection, row, wanted[row.id].stop) for row in rows}
            if rows:
                made = [(row.id, wanted[row.id], stops[row.id]) for row in rows]
                connection.execute(
                    _LEASE,
                    [
                        {
                            "t": task,
                            "by": lease.provider_id,
                            "until": stop,
                            "latest": lease.deadline,
                            "at": now,
                        }
                        for task, lease, stop in made
                    ],
                )
            shipped = self._shipped(
                connection, rows, stops, {r.id: wanted[r.id].deadline - now for r in rows}
            )
            return [tuple(shipped.pop(task) for task in lease.tasks if task in shipped) for lease in leases]

    def _stop(self, connection: sa.Connection, row: Any, wish: int | None) -> int:
        length = length_of(self._known(connection, row.graph).program, row.path, row.unit)
        if length is None:
            return 1
        return length if wish is None else min(max(wish, row.start + 1), length)

    def _shipped(
        self, connection: sa.Connection, rows: Sequence[Any], stops: dict[int, int], seconds: dict[int, float]
    ) -> dict[int, Task]:
        """The tasks as they travel, with their inputs."""
        made: dict[int, Task] = {}
        for number, group in _by_graph(rows).items():
            known = self._known(connection, number)
            bindings = Bindings(self, connection, number)
            wants = {r.id: needs(known.program, r.path, r.unit, r.start, stops[r.id]) for r in group}
            bindings.prefetch(need.place for some in wants.values() for need in some if need.place)
            for row in group:
                where = (known.program, row.path, row.unit, row.start, stops[row.id])
                cost = cost_of(*where[:3])
                made[row.id] = Task(
                    task_id=row.id, attempt=row.attempt + 1, graph_id=known.graph_id, label=label_of(*where),
                    subgraph=model_of(*where[:3]).model, outputs=output_specs(*where),
                    inputs=tuple(TaskInput(name=n.name, ref=_value(n, bindings)) for n in wants[row.id]),
                    flops=cost.flops * max(1, stops[row.id] - row.start), peak_memory=cost.peak_memory,
                    lease_seconds=max(0.0, seconds[row.id]),
                )  # fmt: skip
        return made

    def held_by(self, provider_id: str | None = None) -> list[Held]:
        """What is leased, to one provider or to all; oldest lease first."""
        query = WITH_GRAPH.where(tasks.c.state == states.LEASED).order_by(tasks.c.leased, tasks.c.id)
        if provider_id is not None:
            query = query.where(tasks.c.provider == provider_id)
        with self.read() as connection:
            return [self._held(connection, row) for row in connection.execute(query).all()]

    def _held(self, connection: sa.Connection, row: Any) -> Held:
        known = self._known(connection, row.graph)
        cost = cost_of(known.program, row.path, row.unit)
        return Held(
            task_id=row.id, attempt=row.attempt, provider_id=row.provider, graph_id=known.graph_id,
            owner=known.owner, model=model_of(known.program, row.path, row.unit).model, flops=cost.flops,
            iterations=max(1, row.stop - row.start), leased=row.leased, deadline=row.deadline,
        )  # fmt: skip


def _value(need: Need, bindings: Bindings) -> TensorRef:
    if isinstance(need.place, Place):
        return bindings.get(need.place)
    return Inline(encode_tensor(np.array([need.number], np.int64)))


def _by_graph(rows: Iterable[Any]) -> dict[int, list[Any]]:
    groups: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        groups[row.graph].append(row)
    return groups


def _in_turns(queues: list[list[Any]]) -> list[Any]:
    """One of each queue, then the next of each."""
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
