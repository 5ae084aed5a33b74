"""What graphs are: their rows, and their plans and manifests, decoded once and remembered. Nothing is changed here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa

from ravop.errors import Problem, UnknownGraphError
from ravop.graph.manifest import Manifest, decode_manifest
from ravop.protocol.tensors import Blob
from ravsock.core.plan import GraphPlan, decode_plan
from ravsock.core.program import Program
from ravsock.core.recent import Recent
from ravsock.store.schema import blobs, documents, graphs
from ravsock.store.tokens import Tokens
from ravsock.store.values import GraphRow

REMEMBERED = 256
"""Graphs whose plan is kept decoded."""


@dataclass(frozen=True)
class Known:
    """What never changes of a graph, decoded once."""

    number: int
    graph_id: str
    owner: int
    program: Program
    manifest: Manifest
    model_sizes: dict[str, int]
    bound: dict[str, Blob]
    """The graph's inputs."""
    kinds: dict[Any, Any] = field(default_factory=dict)
    """What `tasks` has found out about units, for `ready`."""


class Documents(Tokens):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._remembered: Recent[int, Known] = Recent(REMEMBERED)

    def graph(self, graph_id: str, owner: int | None = None) -> GraphRow:
        """Raises `UnknownGraphError` where there is none, or where it is not `owner`'s (None: whoever's)."""
        with self.read() as connection:
            return graph_row(self._row(connection, graph_id, owner))

    def graphs(self, owner: int | None = None, state: str | None = None) -> list[GraphRow]:
        """Newest first; of one owner or of all, in one state or in any."""
        query = sa.select(graphs).order_by(graphs.c.number.desc())
        if owner is not None:
            query = query.where(graphs.c.owner == owner)
        if state is not None:
            query = query.where(graphs.c.state == state)
        with self.read() as connection:
            return [graph_row(row) for row in connection.execute(query)]

    def plan(self, graph_id: str, owner: int | None = None) -> GraphPlan:
        """Raises as `graph` does."""
        with self.read() as connection:
            return self._known(connection, self._row(connection, graph_id, owner).number).program.plan

    def manifest(self, graph_id: str, owner: int | None = None) -> Manifest:
        """Raises as `graph` does."""
        with self.read() as connection:
            return self._known(connection, self._row(connection, graph_id, owner).number).manifest

    def trace(self, graph_id: str) -> str:
        """The span of who asked for the run; empty where nothing is traced, or where there is no such graph."""
        with self.read() as connection:
            found = connection.execute(sa.select(graphs.c.trace).where(graphs.c.id == graph_id)).scalar()
        return found or ""

    def _row(self, connection: sa.Connection, graph_id: str, owner: int | None, lock: bool = False) -> Any:
        query = sa.select(graphs).where(graphs.c.id == graph_id)
        row = connection.execute(query.with_for_update() if lock else query).one_or_none()
        if row is None or (owner is not None and row.owner != owner):
            raise UnknownGraphError(
                "there is no such graph", received=graph_id, hint="see your graphs with: ravop graphs"
            )
        return row

    def _known(self, connection: sa.Connection, number: int) -> Known:
        known = self._remembered.get(number)
        if known is None:
            query = sa.select(graphs.c.id, graphs.c.owner, documents).join(documents)
            row = connection.execute(query.where(graphs.c.number == number)).one()
            program = Program(decode_plan(row.plan))
            sizes = connection.execute(
                sa.select(blobs.c.sha, blobs.c.size).where(blobs.c.sha.in_(sorted(set(program.models()))))
            )
            manifest = decode_manifest(row.manifest)
            bound = {binding.input: Blob(binding.sha, binding.size) for binding in manifest.bindings}
            known = Known(number, row.id, row.owner, program, manifest, dict(sizes.all()), bound)
            self._remembered[number] = known
        return known


def decode_problem(data: bytes | None) -> Problem | None:
    return None if data is None else msgspec.msgpack.decode(data, type=Problem)


def graph_row(row: Any) -> GraphRow:
    return GraphRow(
        graph_id=row.id, number=row.number, owner=row.owner, name=row.name, algorithm=row.algorithm,
        approach=row.approach, state=row.state, model_sha=row.model_sha, manifest_sha=row.manifest_sha,
        created=row.created, started=row.started, finished=row.finished, problem=decode_problem(row.problem),
    )  # fmt: skip
