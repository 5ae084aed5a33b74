"""Carries out what `ravsock.core.run` says follows from an event, in the transaction that records the event.

Instructions are collected and written in bulk, round by round, until no event is left. Used by `tasks` and
`graphs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ravop.protocol.tensors import TensorRef
from ravsock.core import states
from ravsock.core.program import Place, Program
from ravsock.core.run import (
    Append,
    Bind,
    Count,
    CountDown,
    Decrement,
    Done,
    DropScope,
    Ended,
    Event,
    FinishGraph,
    Forget,
    Instruction,
    NewScope,
    NewTask,
    Open,
    Output,
    Released,
    Repeat,
    advance,
)
from ravsock.store.bindings import Bindings
from ravsock.store.schema import graphs, scopes, tasks

Outputs = Mapping[str, TensorRef]
Row = dict[str, Any]
NO_OUTPUTS: Outputs = {}
MANY = 500
"""New tasks in one go, after which the database is to look anew at how many there are."""

_AT = (
    tasks.c.graph == sa.bindparam("g"),
    tasks.c.path == sa.bindparam("p"),
    tasks.c.unit == sa.bindparam("u"),
)
_FRESH: Mapping[str, object] = {
    "stop": None, "provider": None, "leased": None, "deadline": None, "tries": 0, "expiries": 0,
    "failed_on": "", "ranks": None, "copy_provider": None,
}  # fmt: skip
_DONE = sa.update(tasks).where(*_AT).values(state=states.DONE, **_FRESH)
_REPEAT = sa.update(tasks).where(*_AT).values(state=states.READY, start=sa.bindparam("at"), **_FRESH)
_OPEN = sa.update(tasks).where(*_AT).values(state=states.OPEN, start=sa.bindparam("at"))
_LEFT = tasks.c.waiting_for - sa.bindparam("n")
_DECREMENT = sa.update(tasks).where(*_AT).values(
    waiting_for=_LEFT,
    state=sa.case((sa.and_(_LEFT == 0, tasks.c.state == states.WAITING), states.READY), else_=tasks.c.state),
)  # fmt: skip
_DECREMENT_OPENED = sa.update(tasks).where(*_AT).values(waiting_for=_LEFT).returning(tasks.c.waiting_for)
_COUNT_DOWN = (
    sa.update(scopes)
    .where(scopes.c.graph == sa.bindparam("g"), scopes.c.path == sa.bindparam("p"))
    .values(remaining=scopes.c.remaining - sa.bindparam("n"))
    .returning(scopes.c.remaining)
)


_DROP = [
    sa.delete(table).where(
        table.c.graph == sa.bindparam("g"), table.c.path.in_(sa.bindparam("paths", expanding=True))
    )
    for table in (tasks, scopes)
]
_CLEAR = [sa.delete(table).where(table.c.graph == sa.bindparam("g")) for table in (tasks, scopes)]
_PROGRESS = (
    sa.update(graphs)
    .where(graphs.c.number == sa.bindparam("g"))
    .values(
        work_done=graphs.c.work_done + sa.bindparam("work"),
        steps_done=graphs.c.steps_done + sa.bindparam("steps"),
        tasks_done=graphs.c.tasks_done + sa.bindparam("units"),
        resumed=sa.case(
            (graphs.c.work_done == graphs.c.resumed_work, sa.bindparam("since")), else_=graphs.c.resumed
        ),
    )
)
_FINISH = (
    sa.update(graphs)
    .where(graphs.c.number == sa.bindparam("g"))
    .values(state=states.DONE, finished=sa.bindparam("at"))
)


class Advancing:
    """One graph moving on within one transaction."""

    def __init__(
        self,
        connection: sa.Connection,
        bindings: Bindings,
        program: Program,
        number: int,
        now: float,
        since: float,
    ) -> None:
        """`since`: when the first of the tasks that finished was handed out. Where nothing was done before,
        the speed of the graph is measured from then on.
        """
        self._connection, self._program, self._number, self._now = connection, program, number, now
        self._since = since
        self._bindings = bindings
        self._statements: dict[str, list[Row]] = {}
        self._decrements: Counter[Decrement] = Counter()
        self._finished: set[tuple[str, int]] = set()
        """Units that are done in this round: they ran ahead of what they are told of now."""
        self._countdowns: Counter[str] = Counter()
        self._dropped: list[str] = []
        self._count = Count()
        self._finish: FinishGraph | None = None

    def run(self, events: Sequence[tuple[Event, Outputs]]) -> bool:
        """All that follows from `events`, each with the outputs of the task that finished. True: the graph is
        done.
        """
        pending = list(events)
        while pending:
            made = [(todo, outputs) for event, outputs in pending for todo in advance(self._program, event)]
            self._bindings.prefetch(_sources(made))
            for todo, outputs in made:
                self._HANDLERS[type(todo)](self, todo, outputs)
            pending = [(event, NO_OUTPUTS) for event in self._flush()]
        self._write_graph()
        return self._finish is not None

    # ── collect ───────────────────────────────────────────────────────────────────────────────────
    def _note(self, statement: str, **row: Any) -> None:
        self._statements.setdefault(statement, []).append(row)

    def _new_scope(self, todo: NewScope, _: Outputs) -> None:
        self._note("scope", graph=self._number, path=todo.path, remaining=todo.units)

    def _new_task(self, todo: NewTask, _: Outputs) -> None:
        self._note(
            "task",
            graph=self._number,
            path=todo.path,
            unit=todo.unit,
            state=todo.state,
            waiting_for=todo.waiting_for,
        )

    def _bind(self, todo: Bind, outputs: Outputs) -> None:
        self._bindings.bind(todo.target, self._read(todo.source, outputs), todo.element)

    def _append(self, todo: Append, outputs: Outputs) -> None:
        self._bindings.append(
            todo.target, self._read(todo.source, outputs), todo.start, todo.count, todo.single
        )

    def _read(self, source: Place | Output, outputs: Outputs) -> TensorRef:
        return outputs[source.port] if isinstance(source, Output) else self._bindings.get(source)

    def _forget(self, todo: Forget, _: Outputs) -> None:
        self._bindings.forget(todo.place)

    def _done(self, todo: Done, _: Outputs) -> None:
        self._note("done", g=self._number, p=todo.path, u=todo.unit)
        self._finished.add((todo.path, todo.unit))

    def _repeat(self, todo: Repeat, _: Outputs) -> None:
        self._note("repeat", g=self._number, p=todo.path, u=todo.unit, at=todo.start)

    def _open(self, todo: Open, _: Outputs) -> None:
        self._note("open", g=self._number, p=todo.path, u=todo.unit, at=todo.index)

    def _decrement(self, todo: Decrement, _: Outputs) -> None:
        self._decrements[Decrement(todo.path, todo.unit, 0, todo.opened)] += todo.by

    def _count_down(self, todo: CountDown, _: Outputs) -> None:
        self._countdowns[todo.path] += 1

    def _drop(self, todo: DropScope, _: Outputs) -> None:
        self._dropped.append(todo.path)

    def _add_count(self, todo: Count, _: Outputs) -> None:
        sums = self._count
        self._count = Count(sums.work + todo.work, sums.steps + todo.steps, sums.tasks + todo.tasks)

    def _finish_graph(self, todo: FinishGraph, _: Outputs) -> None:
        self._finish = todo

    _HANDLERS: Mapping[type[Instruction], Callable[[Advancing, Any, Outputs], None]] = {
        NewScope: _new_scope, NewTask: _new_task, Bind: _bind, Append: _append, Forget: _forget, Done: _done,
        Repeat: _repeat, Open: _open, Decrement: _decrement, CountDown: _count_down, DropScope: _drop,
        Count: _add_count, FinishGraph: _finish_graph,
    }  # fmt: skip

    # ── write ─────────────────────────────────────────────────────────────────────────────────────
    def _flush(self) -> list[Event]:
        many = False
        for name, statement in _BULK.items():
            if rows := self._statements.pop(name, None):
                self._bindings.database.many(self._connection, statement, rows)
                many |= name == "task" and len(rows) >= MANY
        self._bindings.flush()
        if many:
            self._bindings.database.analyze(self._connection, "tasks", "bindings")
        events = [*self._flush_decrements(), *self._flush_countdowns()]
        if self._dropped:
            for statement in _DROP:
                self._connection.execute(statement, {"g": self._number, "paths": self._dropped})
            self._bindings.drop(self._dropped)
            self._dropped = []
        return events

    def _flush_decrements(self) -> list[Event]:
        events: list[Event] = []
        plain: list[Row] = []
        done, self._finished = self._finished, set()
        for todo, by in sorted(self._decrements.items(), key=lambda item: (item[0].path, item[0].unit)):
            row = {"g": self._number, "p": todo.path, "u": todo.unit, "n": by}
            if (todo.path, todo.unit) in done:
                continue
            if not todo.opened:
                plain.append(row)
            elif self._connection.execute(_DECREMENT_OPENED, row).scalar_one() == 0:
                events.append(Released(todo.path, todo.unit))
        if plain:
            self._bindings.database.many(self._connection, _DECREMENT, plain)
        self._decrements.clear()
        return events

    def _flush_countdowns(self) -> list[Event]:
        events: list[Event] = []
        for path, by in sorted(self._countdowns.items()):
            row = {"g": self._number, "p": path, "n": by}
            if self._connection.execute(_COUNT_DOWN, row).scalar_one() == 0:
                events.append(Ended(path))
        self._countdowns.clear()
        return events

    def _write_graph(self) -> None:
        sums = {"work": self._count.work, "steps": self._count.steps, "units": self._count.tasks}
        self._connection.execute(_PROGRESS, {"g": self._number, "since": self._since, **sums})
        if self._finish is None:
            return
        for statement in _CLEAR:
            self._connection.execute(statement, {"g": self._number})
        self._bindings.keep_only(self._finish.keep)
        self._connection.execute(_FINISH, {"g": self._number, "at": self._now})


_BULK: Mapping[str, Any] = {
    "scope": sa.insert(scopes), "task": sa.insert(tasks), "done": _DONE, "repeat": _REPEAT, "open": _OPEN,
}  # fmt: skip


def _sources(made: Sequence[tuple[Instruction, Outputs]]) -> list[Place]:
    return [
        todo.source for todo, _ in made if isinstance(todo, Bind | Append) and isinstance(todo.source, Place)
    ]
