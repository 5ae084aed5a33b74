"""Graphs: added, started, cancelled, failed, deleted. What they are is in `documents`, how their tasks move in `tasks`, what
they give in `results`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import sqlalchemy as sa

from ravop.errors import ArgumentError, BlobError, GraphStateError, Problem
from ravop.graph.manifest import Manifest, encode_manifest
from ravop.protocol.messages import HeldTask
from ravsock.core import states
from ravsock.core.plan import GraphPlan, encode_plan
from ravsock.core.program import Place, Program
from ravsock.core.run import Started
from ravsock.store.advancing import NO_OUTPUTS, Advancing
from ravsock.store.bindings import Bindings
from ravsock.store.documents import Documents, graph_row
from ravsock.store.schema import blob_owners, blobs, documents, graphs, tasks
from ravsock.store.values import GraphRow, Recall

_TOUCH = (
    sa.update(blobs)
    .where(
        blobs.c.doomed == 0,
        blobs.c.sha.in_(
            sa.select(blobs.c.sha)
            .where(blobs.c.sha.in_(sa.bindparam("shas", expanding=True)), blobs.c.doomed == 0)
            .order_by(blobs.c.sha)
            .with_for_update()
        ),
    )
    .values(touched=sa.bindparam("at"))
    .returning(blobs.c.sha, blobs.c.size)
)
"""Locked in one order by all who do, so that they do not wait for each other in a circle."""


class Graphs(Documents):
    def add_graph(
        self, owner: int, manifest: Manifest, model_sha: str, manifest_sha: str, plan: GraphPlan, now: float
    ) -> GraphRow:
        """Keep an activated graph. Adding the same one again changes nothing.

        Raises `GraphStateError` where the id is taken by another graph, `BlobError` where a blob is not there
        that the graph names or the owner never uploaded it, and `ArgumentError` for a plan that could not run
        to its end.
        """
        program = Program(plan)
        _check_names(manifest, plan)
        uploaded = {b.sha: b.size for b in manifest.bindings} | {model_sha: None, manifest_sha: None}
        with self.write() as connection:
            present = connection.execute(
                sa.select(graphs).where(graphs.c.id == manifest.graph_id)
            ).one_or_none()
            if present is not None:
                if (present.owner, present.model_sha, present.manifest_sha) != (
                    owner,
                    model_sha,
                    manifest_sha,
                ):
                    raise GraphStateError(
                        "another graph has this id", received=manifest.graph_id,
                        hint="make a new Graph, or R.flush() first",
                    )  # fmt: skip
                return graph_row(present)
            self._check_blobs(connection, owner, uploaded, set(program.models()), now)
            row = connection.execute(
                sa.insert(graphs).returning(*graphs.c),
                {
                    "id": manifest.graph_id, "owner": owner, "name": manifest.name,
                    "algorithm": manifest.algorithm, "approach": manifest.approach, "state": states.ACTIVE,
                    "model_sha": model_sha, "manifest_sha": manifest_sha, "created": now,
                },
            ).one()  # fmt: skip
            connection.execute(
                sa.insert(documents),
                {"graph": row.number, "plan": encode_plan(plan), "manifest": encode_manifest(manifest)},
            )
            return graph_row(row)

    def _check_blobs(
        self,
        connection: sa.Connection,
        owner: int,
        uploaded: dict[str, int | None],
        models: set[str],
        now: float,
    ) -> None:
        wanted = uploaded.keys() | models
        sizes = self._touch(connection, wanted, now)
        owned = {
            sha: sizes.get(sha) if place is None else size
            for sha, place, size in connection.execute(
                sa.select(blob_owners.c.sha, blob_owners.c.place, blob_owners.c.size).where(
                    blob_owners.c.owner == owner, blob_owners.c.sha.in_(sorted(uploaded))
                )
            )
        }
        lacking = sorted((wanted - sizes.keys()) | (uploaded.keys() - owned))
        if lacking:
            raise BlobError(
                "blobs that the graph names are missing",
                expected="each uploaded before",
                received=lacking[:5],
            )
        wrong = [sha for sha, size in uploaded.items() if size is not None and owned[sha] != size]
        if wrong:
            raise BlobError("blobs of another size than the manifest says", received=wrong[:5])

    def _touch(self, connection: sa.Connection, shas: Collection[str], now: float) -> dict[str, int]:
        """The blobs among `shas` that are there, with their sizes: nobody collects them before this transaction ends, nor
        for a while after it."""
        return dict(connection.execute(_TOUCH, {"shas": sorted(shas), "at": now}).all())

    def start_graph(self, graph_id: str, owner: int | None, now: float, trace: str = "") -> GraphRow:
        """Execute an active graph, or one that failed from what it has; executing already: nothing changes. `trace`: the
        span of who asked.

        Raises `UnknownGraphError`, and `GraphStateError` for a graph that is done or cancelled.
        """
        with self.write() as connection:
            row = self._row(connection, graph_id, owner, lock=True)
            state = states.next_state(states.GRAPH, row.state, "start")
            if row.state == states.EXECUTING:
                return graph_row(row)
            connection.execute(
                sa.update(graphs)
                .where(graphs.c.number == row.number)
                .values(
                    state=state, started=row.started or now, resumed=now, resumed_work=graphs.c.work_done,
                    problem=None, finished=None, trace=trace or None,
                )
            )  # fmt: skip
            if row.started is None:
                self._begin(connection, row.number, now)
            connection.execute(
                sa.update(tasks)
                .where(tasks.c.graph == row.number, tasks.c.state == states.FAILED)
                .values(state=states.next_state(states.TASK, states.FAILED, "retry"))
            )
            connection.execute(
                sa.update(tasks)
                .where(
                    tasks.c.graph == row.number,
                    tasks.c.state.in_((states.READY, states.WAITING)),
                    tasks.c.tries > 0,
                )
                .values(failed_on="", tries=0, expiries=0, provider=None)
            )
            return graph_row(self._row(connection, graph_id, owner))

    def _begin(self, connection: sa.Connection, number: int, now: float) -> None:
        known = self._known(connection, number)
        bindings = Bindings(self, connection, number)
        for name, blob in known.bound.items():
            bindings.bind(Place("", name), blob)
        Advancing(connection, bindings, known.program, number, now, now).run([(Started(), NO_OUTPUTS)])

    def cancel_graph(self, graph_id: str, owner: int | None, now: float) -> list[Recall]:
        """Stop a graph for good; what it has computed can still be fetched. Gives the attempts to recall.

        Raises `UnknownGraphError`, and `GraphStateError` for a graph that is done.
        """
        with self.write() as connection:
            row = self._row(connection, graph_id, owner, lock=True)
            recalls = self._end(connection, row, "cancel", None, now)
            connection.execute(
                sa.update(tasks)
                .where(tasks.c.graph == row.number, tasks.c.state.in_(states.allowing(states.TASK, "cancel")))
                .values(state=states.CANCELLED, provider=None, deadline=None)
            )
            return recalls

    def fail_graph(self, graph_id: str, problem: Problem, now: float) -> list[Recall]:
        """Give a graph up for a reason that is no task's. Gives the attempts to recall. Raises as
        `cancel_graph`.
        """
        with self.write() as connection:
            return self._end(
                connection, self._row(connection, graph_id, None, lock=True), "fail", problem, now
            )

    def _end(
        self, connection: sa.Connection, row: Any, event: str, problem: Problem | None, now: float
    ) -> list[Recall]:
        """End a graph by `event`; its leased tasks go back."""
        state = states.next_state(states.GRAPH, row.state, event)
        if row.state == state:
            return []
        held = connection.execute(
            sa.select(
                tasks.c.id, tasks.c.attempt, tasks.c.provider, tasks.c.copy_attempt, tasks.c.copy_provider
            ).where(tasks.c.graph == row.number, tasks.c.state == states.LEASED)
        ).all()
        connection.execute(
            sa.update(tasks)
            .where(tasks.c.graph == row.number, tasks.c.state == states.LEASED)
            .values(
                state=sa.case((tasks.c.waiting_for > 0, states.WAITING), else_=states.READY), provider=None,
                deadline=None, ranks=None, copy_provider=None,
            )
        )  # fmt: skip
        connection.execute(
            sa.update(graphs)
            .where(graphs.c.number == row.number)
            .values(state=state, finished=now, problem=problem and msgspec.msgpack.encode(problem))
        )
        return [
            Recall(provider_id=provider, task=HeldTask(task_id=task, attempt=attempt))
            for task, *attempts in held
            for attempt, provider in (attempts[:2], attempts[2:])
            if provider is not None
        ]

    def flush(self, owner: int) -> list[str]:
        """Delete the owner's graphs that are not executing, with their results; gives their ids."""
        with self.write() as connection:
            return list(
                connection.execute(
                    sa.delete(graphs)
                    .where(
                        graphs.c.owner == owner, graphs.c.state.in_(states.allowing(states.GRAPH, "delete"))
                    )
                    .returning(graphs.c.id)
                ).scalars()
            )


def _check_names(manifest: Manifest, plan: GraphPlan) -> None:
    """Inputs must be bound, and what is persisted or reported must be kept when the graph ends."""
    bound = {binding.input for binding in manifest.bindings}
    if unbound := [name for name in plan.inputs if name not in bound]:
        raise ArgumentError("graph inputs without a value", expected="a binding for each", received=unbound)
    wanted = [persisted.value for persisted in manifest.persisted] + list(manifest.metrics.values())
    kept = set(plan.main.outputs)
    if lost := [name for name in wanted if name not in kept]:
        raise ArgumentError("persisted values that are no outputs of the graph", received=lost)
