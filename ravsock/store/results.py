"""What a graph has given so far: values by their names, and the figures of its progress. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ravop.errors import (
    GraphCancelledError,
    GraphFailedError,
    NotComputedError,
    RavenError,
    UnknownNameError,
    error_from_problem,
)
from ravop.graph.results import match
from ravop.protocol.messages import GraphInfo, PersistedInfo
from ravop.protocol.tensors import TensorRef
from ravsock.core import deadlines, series, states
from ravsock.core.plan import Loop
from ravsock.core.program import Place, Program, child
from ravsock.core.series import Part
from ravsock.store.bindings import decode_ref
from ravsock.store.documents import Known, decode_problem
from ravsock.store.outcomes import Outcomes
from ravsock.store.schema import bindings, tasks

_COUNTS = (sa.func.count(), sa.func.count(bindings.c.elements), sa.func.sum(bindings.c.elements))
_NOTHING = (0, 0, None)
_COUNTED = sa.select(*_COUNTS).where(
    bindings.c.graph == sa.bindparam("g"),
    bindings.c.path == sa.bindparam("p"),
    bindings.c.name == sa.bindparam("n"),
)
"""Of one value: its rows, those of them that are parts, and the elements of these."""
_ALL_COUNTED = (
    sa.select(bindings.c.name, *_COUNTS)
    .where(bindings.c.graph == sa.bindparam("g"), bindings.c.path == "")
    .group_by(bindings.c.name)
)
"""Of every value of the main instance."""


class Results(Outcomes):
    def fetch(self, graph_id: str, owner: int | None, name: str) -> TensorRef:
        """The value persisted as `name`, or the element of a series, as soon as it is there.

        Raises `UnknownGraphError`, `UnknownNameError`, and for a value that is not there `NotComputedError`,
        `GraphFailedError` or `GraphCancelledError`, whichever says why.
        """
        found = self.fetch_all(graph_id, owner, [name])[0]
        if isinstance(found, RavenError):
            raise found
        return found

    def fetch_all(
        self, graph_id: str, owner: int | None, names: Sequence[str]
    ) -> list[TensorRef | RavenError]:
        """What `fetch` gives or raises for each of `names`. Raises `UnknownGraphError`."""
        with self.read() as connection:
            row = self._row(connection, graph_id, owner)
            known = self._known(connection, row.number)
            finder = _Finder(connection, known)
            return [_found(finder, row, known, name) for name in names]

    def progress(self, graph_id: str, owner: int | None, now: float, *, detailed: bool = False) -> GraphInfo:
        """How far the graph is; `detailed` with the persisted names. `providers` and `waiting` are the
        caller's to fill.

        Raises `UnknownGraphError`.
        """
        with self.read() as connection:
            row = self._row(connection, graph_id, owner)
            known = self._known(connection, row.number)
            finder = _Finder(connection, known)
            counts = _task_counts(connection, row.number)
            units = len(known.program.plan.main.units) if row.started is None else 0
            done = row.state == states.DONE
            work = known.program.work
            fraction = 1.0 if done or not work else min(1.0, row.work_done / work)
            return GraphInfo(
                graph_id=row.id, name=row.name, algorithm=row.algorithm, approach=row.approach,
                state=row.state, fraction=fraction, steps_done=row.steps_done,
                steps_total=known.program.plan.steps,
                tasks_done=row.tasks_done, tasks_running=counts.get(states.LEASED, 0),
                tasks_queued=counts.get(states.WAITING, 0) + counts.get(states.READY, 0) + units, providers=0,
                created=row.created, started=row.started, finished=row.finished,
                eta=_eta(row, work, now),
                metrics={label: v for label, value in known.manifest.metrics.items()
                         if (v := finder.latest("", value)) is not None},
                problem=decode_problem(row.problem),
                persisted=tuple(finder.infos()) if detailed else (),
            )  # fmt: skip


def _found(finder: _Finder, row: Any, known: Known, name: str) -> TensorRef | RavenError:
    try:
        persisted, index = match(known.manifest.persisted, name)
        finder.check_index(name, persisted.value, index)
    except UnknownNameError as error:
        return error
    ref = finder.find("", persisted.value, index)
    return _why_not(row, name) if ref is None else ref


def _why_not(row: Any, name: str) -> RavenError:
    problem = decode_problem(row.problem)
    if row.state == states.FAILED and problem is not None:
        failed = error_from_problem(problem)
        return (
            failed
            if isinstance(failed, GraphFailedError)
            else GraphFailedError(problem.message, op=problem.op)
        )
    if row.state == states.CANCELLED:
        return GraphCancelledError(f"{name} was not computed: the graph was cancelled")
    hint = "R.execute() the graph" if row.state == states.ACTIVE else "fetch it later, or R.track_progress()"
    return NotComputedError(
        f"{name} is not computed yet: the graph {states.IN_WORDS[row.state]}", received=row.state, hint=hint
    )


def _task_counts(connection: sa.Connection, number: int) -> dict[str, int]:
    """How many tasks are in each state."""
    query = sa.select(tasks.c.state, sa.func.count()).where(tasks.c.graph == number).group_by(tasks.c.state)
    return dict(connection.execute(query).all())


def _eta(row: Any, total: float, now: float) -> float | None:
    """Seconds left at the speed since the first task was handed out; None while nothing can be said."""
    if row.state != states.EXECUTING or row.resumed is None:
        return None
    done = row.work_done - row.resumed_work
    return deadlines.seconds_left(total - row.work_done, done, now - row.resumed)


class _Finder:
    """Looks values up in what is there, through the parts of series and into the running iteration of opened
    loops.
    """

    def __init__(self, connection: sa.Connection, known: Known) -> None:
        self._connection, self._known = connection, known
        self._program: Program = known.program
        self._parts: dict[Place, list[Part]] = {}

    def find(self, path: str, value: str, index: tuple[int, ...]) -> TensorRef | None:
        """The value, or its element at `index`; None while it is not there."""
        place = self._program.place(path, value)
        if not index:
            return self._whole(place)
        part = self._part(place, index[0])
        if part is not None:
            ref, first = part.ref, index[0] - part.start
            for number in (first, *index[1:]):
                ref = series.element(ref, number)
            return ref
        inner = self._inside(place, index[0])
        return self.find(*inner, index[1:]) if inner else None

    def latest(self, path: str, value: str) -> float | None:
        """The last number that is there of a scalar or of a series of scalars."""
        place = self._program.place(path, value)
        running = self._running(place)
        inner = self._inside(place, running) if running is not None else None
        found = self.latest(*inner) if inner else None
        if found is not None:
            return found
        last = self._query(place).order_by(bindings.c.start.desc()).limit(1)
        row = self._connection.execute(last).one_or_none()
        return None if row is None else series.last_number(decode_ref(row.ref))

    def check_index(self, name: str, value: str, index: tuple[int, ...]) -> None:
        """Raises `UnknownNameError` for an element that the series will never have."""
        shape = self._program.value_type(value).shape
        for number, size in zip(index, shape, strict=False):
            if size is not None and number >= size:
                raise UnknownNameError(
                    f"there is no {name}", expected=f"a series of shape {shape[: len(index)]}", received=name
                )

    def infos(self) -> list[PersistedInfo]:
        """What is there of each persisted name."""
        made = []
        counted = {
            row[0]: row[1:] for row in self._connection.execute(_ALL_COUNTED, {"g": self._known.number})
        }
        for persisted in self._known.manifest.persisted:
            kind = self._program.value_type(persisted.value)
            place = Place("", persisted.value)
            available, done = self._available(place, counted.get(persisted.value, _NOTHING))
            made.append(
                PersistedInfo(
                    name=persisted.name, dtype=kind.dtype, shape=kind.shape, axes=persisted.axes,
                    first=persisted.first, done=done, available=available, inner=persisted.inner,
                )
            )  # fmt: skip
        return made

    def _counted(self, place: Place) -> Sequence[Any]:
        at = {"g": self._known.number, "p": place.path, "n": place.name}
        return self._connection.execute(_COUNTED, at).one()

    def _available(self, place: Place, counted: Sequence[Any]) -> tuple[int, bool]:
        """Elements of the first axis that are there, and whether all are."""
        shape = self._program.value_type(place.name).shape
        rows, parts, elements = counted
        if rows and not parts:
            return (shape[0] or 0) if shape else 1, True
        length = self._length(place)
        return int(elements or 0), length is not None and rows > 0 and int(elements or 0) == length

    def _whole(self, place: Place) -> TensorRef | None:
        if not self._available(place, self._counted(place))[1]:
            return None
        rows = self._connection.execute(self._query(place).order_by(bindings.c.start))
        return series.whole([Part(r.start, r.elements, decode_ref(r.ref)) for r in rows])

    def _part(self, place: Place, index: int) -> Part | None:
        """The part of a stacked value that holds an element, or the value itself as a part from 0."""
        seen = self._parts.setdefault(place, [])
        part = next((p for p in seen if p.count is None), None) or series.part_with(seen, index)
        if part is not None:
            return part
        row = self._connection.execute(
            self._query(place).where(bindings.c.start <= index).order_by(bindings.c.start.desc()).limit(1)
        ).one_or_none()
        if row is None or (row.elements is not None and index >= row.start + row.elements):
            return None
        part = Part(row.start, row.elements, decode_ref(row.ref))
        seen.append(part)
        return part

    def _producer(self, place: Place) -> tuple[int, Loop] | None:
        """The loop that gives this value, or the last range of it."""
        scope = self._program.scope(place.path)
        units = scope.producers.get(place.name)
        found = scope.plan.units[units[-1]] if units else None
        return (units[-1], found) if units and isinstance(found, Loop) else None

    def _length(self, place: Place) -> int | None:
        producer = self._producer(place)
        return producer[1].first + producer[1].length if producer else None

    def _inside(self, place: Place, iteration: int) -> tuple[str, str] | None:
        """Instance and name of what becomes element `iteration` of a value that an opened loop stacks."""
        producer = self._producer(place)
        if producer is None or producer[1].body is None:
            return None
        unit, loop = producer
        inner = next((s.body_out for s in loop.stacked if s.stacked == place.name), None)
        return None if inner is None else (child(place.path, unit, iteration), inner)

    def _running(self, place: Place) -> int | None:
        """The iteration in which the opened loop is that gives this value."""
        producer = self._producer(place)
        if producer is None:
            return None
        running: int | None = self._connection.execute(
            sa.select(tasks.c.start).where(
                tasks.c.graph == self._known.number, tasks.c.path == place.path, tasks.c.unit == producer[0],
                tasks.c.state == states.OPEN,
            )
        ).scalar_one_or_none()  # fmt: skip
        return running

    def _at(self, place: Place) -> tuple[sa.ColumnElement[bool], ...]:
        return (
            bindings.c.graph == self._known.number,
            bindings.c.path == place.path,
            bindings.c.name == place.name,
        )

    def _query(self, place: Place) -> sa.Select[Any]:
        return sa.select(bindings.c.start, bindings.c.elements, bindings.c.ref).where(*self._at(place))
