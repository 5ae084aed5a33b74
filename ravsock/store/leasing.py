"""Tasks are leased: in batches that may run ahead of their inputs, to gangs, and a second time to be sure.

What becomes of them is in `returns` and `outcomes`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa

from ravop.errors import ArgumentError
from ravop.protocol.messages import Earlier, Task, TaskInput, models_needed
from ravop.protocol.parts import Part
from ravop.protocol.tensors import Inline, TensorRef, encode_tensor
from ravsock.core import ahead, states
from ravsock.core.plan import Gang, Subgraph
from ravsock.core.program import Place, Scope
from ravsock.core.tasks import Need, cost_of, gangs_of, label_of, length_of, model_of, needs, output_specs
from ravsock.store.bindings import Bindings
from ravsock.store.rows import TaskRow
from ravsock.store.schema import graphs, tasks
from ravsock.store.tasks import IDS, WITH_GRAPH, Tasks, by_graph
from ravsock.store.values import Lease

LOOK_AT = (1, 4)
"""Waiting tasks looked at for each that may run ahead: first few, then more, since some wait for something else as well."""
_LEASABLE = WITH_GRAPH.where(
    IDS, tasks.c.state == states.READY, graphs.c.state == states.EXECUTING
).with_for_update(of=tasks, skip_locked=True)
_COPYABLE = WITH_GRAPH.where(
    IDS, tasks.c.state == states.LEASED, graphs.c.state == states.EXECUTING, tasks.c.waiting_for == 0,
    tasks.c.ranks.is_(None), tasks.c.copy_provider.is_(None),
).with_for_update(of=tasks, skip_locked=True)  # fmt: skip
_AHEAD = (
    sa.select(tasks)
    .where(
        tasks.c.graph == sa.bindparam("g"),
        tasks.c.path == sa.bindparam("p"),
        tasks.c.unit.in_(sa.bindparam("units", expanding=True)),
        tasks.c.state.in_(states.allowing(states.TASK, "run_ahead")),
    )
    .with_for_update(skip_locked=True)
)
_LEASE = (
    sa.update(tasks)
    .where(tasks.c.id == sa.bindparam("t"))
    .values(
        state=states.next_state(states.TASK, states.READY, "lease"), attempt=sa.bindparam("number"),
        tries=tasks.c.tries + 1, provider=sa.bindparam("by"), stop=sa.bindparam("until"),
        deadline=sa.bindparam("latest"), leased=sa.bindparam("at"), ranks=sa.bindparam("parts"),
    )
)  # fmt: skip
_COPY = (
    sa.update(tasks)
    .where(tasks.c.id == sa.bindparam("t"))
    .values(
        copy_attempt=sa.bindparam("number"), copy_provider=sa.bindparam("by"),
        copy_deadline=sa.bindparam("latest"), copy_leased=sa.bindparam("at"),
    )
)  # fmt: skip


@dataclass(frozen=True)
class Shipment:
    """An attempt to be sent to its provider."""

    row: Any
    attempt: int
    stop: int
    seconds: float
    earlier: Mapping[Place, Earlier] = field(default_factory=dict)
    """Inputs that earlier tasks of the batch give."""
    gang: Gang | None = None


class Leasing(Tasks):
    def lease(self, leases: Sequence[Lease], now: float) -> list[tuple[Task, ...]]:
        """Lease each batch to its provider, with new attempts; without those that are not ready (any more).

        A gang's lease gives one task for each rank.
        """
        with self.write() as connection:
            wanted = {"ids": [task for lease in leases for task in lease.tasks]}
            rows = {row.id: row for row in map(TaskRow._make, connection.execute(_LEASABLE, wanted))}
            batches = [self._batch(connection, lease, rows, now) for lease in leases]
            made = [
                {
                    "t": one.row.id, "number": one.attempt, "by": lease.provider_id, "until": one.stop,
                    "latest": lease.deadline, "at": now, "parts": one.gang and len(one.gang.parts),
                }
                for lease, batch in zip(leases, batches, strict=True)
                for one in batch
            ]  # fmt: skip
            if made:
                self.many(connection, _LEASE, made)
            return self._shipped(connection, batches)

    def copy(self, leases: Sequence[Lease], now: float) -> list[tuple[Task, ...]]:
        """Lease tasks a second time that others have, the first accepted result to be taken; without those that
        have two attempts already, are a gang's, wait for another task, or are this provider's own."""
        with self.write() as connection:
            wanted = {"ids": [task for lease in leases for task in lease.tasks]}
            rows = {row.id: row for row in map(TaskRow._make, connection.execute(_COPYABLE, wanted))}
            batches: list[list[Shipment]] = []
            made: list[dict[str, Any]] = []
            for lease in leases:
                found = [rows.pop(task) for task in lease.tasks if task in rows]
                others = [row for row in found if row.provider != lease.provider_id]
                seconds = lease.deadline - now
                batches.append([Shipment(row, _next(row), row.stop, seconds) for row in others])
                made += [
                    {
                        "t": row.id, "number": _next(row), "by": lease.provider_id,
                        "latest": lease.deadline, "at": now,
                    }
                    for row in others
                ]  # fmt: skip
            if made:
                connection.execute(_COPY, made)
            return self._shipped(connection, batches)

    # ── which ─────────────────────────────────────────────────────────────────────────────────────
    def _batch(
        self, connection: sa.Connection, lease: Lease, rows: dict[int, Any], now: float
    ) -> list[Shipment]:
        """The batch's attempts; what it takes of `rows`, nobody else gets."""
        seconds, batch = lease.deadline - now, []
        for row in [rows.pop(task) for task in lease.tasks if task in rows]:
            stop, gang = self._stop(connection, row, lease.stop), self._gang(connection, row, lease.gang)
            batch.append(Shipment(row, _next(row), stop, seconds, gang=gang))
        if lease.ahead and batch and lease.gang is None:
            self._run_ahead(connection, batch, lease.ahead, seconds)
        return batch

    def _stop(self, connection: sa.Connection, row: Any, wish: int | None) -> int:
        length = length_of(self._known(connection, row.graph).program, row.path, row.unit)
        if length is None:
            return 1
        return length if wish is None else min(max(wish, row.start + 1), length)

    def _gang(self, connection: sa.Connection, row: Any, wish: int | None) -> Gang | None:
        if wish is None:
            return None
        gangs = gangs_of(self._known(connection, row.graph).program, row.path, row.unit)
        if not 0 <= wish < len(gangs):
            raise ArgumentError(
                "a task has no such gang", expected=f"one of {len(gangs)}, from 0", received=wish
            )
        return gangs[wish]

    def _run_ahead(self, connection: sa.Connection, batch: list[Shipment], most: int, seconds: float) -> None:
        """Add up to `most` tasks that wait for nothing but what the batch gives."""
        earlier: dict[Place, Earlier] = {}
        scopes: dict[tuple[int, str], list[int]] = defaultdict(list)
        for index, one in enumerate(batch):
            if self._note_outputs(connection, one.row, index, earlier):
                scopes[one.row.graph, one.row.path].append(one.row.unit)
        for (number, path), units in scopes.items():
            scope = self._known(connection, number).program.scope(path)
            for row in _following(connection, scope, {"g": number, "p": path}, units, most):
                self._note_outputs(connection, row, len(batch), earlier)
                batch.append(Shipment(row, _next(row), 1, seconds, earlier))
                most -= 1

    def _note_outputs(
        self, connection: sa.Connection, row: Any, index: int, earlier: dict[Place, Earlier]
    ) -> bool:
        """Where in the batch the task's outputs can be had. False for a loop, which gives nothing to a batch."""
        unit = self._known(connection, row.graph).program.unit(row.path, row.unit)
        if not isinstance(unit, Subgraph):
            return False
        for port in unit.outputs:
            earlier[Place(row.path, port.value)] = Earlier(task=index, output=port.name)
        return True

    # ── as they travel ────────────────────────────────────────────────────────────────────────────
    def _shipped(
        self, connection: sa.Connection, batches: Sequence[Sequence[Shipment]]
    ) -> list[tuple[Task, ...]]:
        """The tasks as they travel, with their inputs."""
        made: dict[int, tuple[Task, ...]] = {}
        everything = {one.row.id: one for batch in batches for one in batch}
        for number, group in by_graph(one.row for one in everything.values()).items():
            program = self._known(connection, number).program
            bindings = Bindings(self, connection, number)
            wants = {
                row.id: needs(program, row.path, row.unit, row.start, everything[row.id].stop)
                for row in group
            }
            bindings.prefetch(
                need.place
                for task, some in wants.items()
                for need in some
                if need.place and need.place not in everything[task].earlier
            )
            for task, some in wants.items():
                made[task] = self._tasks(connection, everything[task], some, bindings)
        return [tuple(task for one in batch for task in made[one.row.id]) for batch in batches]

    def _tasks(
        self, connection: sa.Connection, one: Shipment, some: Sequence[Need], bindings: Bindings
    ) -> tuple[Task, ...]:
        """One task, or one for each rank of a gang."""
        known, row = self._known(connection, one.row.graph), one.row
        where = (known.program, row.path, row.unit, row.start, one.stop)
        cost = cost_of(*where[:3])
        task = Task(
            task_id=row.id, attempt=one.attempt, graph_id=known.graph_id, label=label_of(*where),
            subgraph=model_of(*where[:3]).model, outputs=output_specs(*where),
            inputs=tuple(TaskInput(name=n.name, ref=_value(n, one.earlier, bindings)) for n in some),
            flops=cost.flops * max(1, one.stop - row.start), peak_memory=cost.peak_memory,
            lease_seconds=max(0.0, one.seconds),
        )  # fmt: skip
        made = (task,) if one.gang is None else _ranks(task, one.gang, row.start, one.stop)
        return tuple(msgspec.structs.replace(t, sizes=_sizes(t, known.model_sizes)) for t in made)


def _following(
    connection: sa.Connection, scope: Scope, here: dict[str, Any], units: Sequence[int], most: int
) -> list[TaskRow]:
    """Up to `most` tasks of the instance `here` that wait for nothing but what `units` and those before them give."""
    for many in LOOK_AT:
        possible = ahead.candidates(scope, units, many * most)
        found = connection.execute(_AHEAD, {**here, "units": possible}) if possible else ()
        rows = {row.unit: row for row in starmap(TaskRow, found)}
        following = ahead.followers(scope, units, {unit: row.waiting_for for unit, row in rows.items()}, most)
        if len(following) == most or len(possible) < many * most:
            break
    return [rows[unit] for unit in following]


def _ranks(task: Task, gang: Gang, start: int, stop: int) -> tuple[Task, ...]:
    """What each rank of the gang gets of the task."""
    ranks = len(gang.parts)
    return tuple(
        msgspec.structs.replace(
            task,
            inputs=tuple(given for given in task.inputs if given.name in part.inputs),
            outputs=tuple(output for output in task.outputs if output.name in part.outputs),
            flops=task.flops / ranks, peak_memory=part.peak_memory,
            part=Part(rank=rank, ranks=ranks, start=start, stop=stop, loop=part.loop),
        )
        for rank, part in enumerate(gang.parts)
    )  # fmt: skip


def _sizes(task: Task, known: Mapping[str, int]) -> dict[str, int]:
    return {model: known[model] for model in models_needed(task) if model in known}


def _next(row: Any) -> int:
    """A number that no attempt of the task has had."""
    return int(max(row.attempt, row.copy_attempt)) + 1


def _value(need: Need, earlier: Mapping[Place, Earlier], bindings: Bindings) -> TensorRef | Earlier:
    if need.place is None:
        return Inline(encode_tensor(np.array([need.number], np.int64)))
    return earlier.get(need.place) or bindings.get(need.place)
