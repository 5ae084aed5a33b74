"""What becomes of leased tasks: results, failures, tasks given back or out of time.

Every change is fenced by the attempt: a task's row is locked, and what comes for another attempt than its
current one is late and discarded. A result, what follows from it (`advancing`) and the end of a graph are one
transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from ravop.errors import Problem
from ravop.protocol.messages import HeldTask, Task
from ravop.protocol.tensors import blobs_of
from ravsock.core import failures, states
from ravsock.core.run import Event, Finished
from ravsock.core.tasks import check_outputs, cost_of, label_of, model_of, output_specs
from ravsock.store.advancing import Advancing, Outputs
from ravsock.store.bindings import Bindings
from ravsock.store.schema import blob_owners, blobs, graphs, providers, tasks
from ravsock.store.tasks import IDS, WITH_GRAPH, Tasks
from ravsock.store.values import Failure, Held, Outcome, Recall, Release, Result

LATE = Outcome(accepted=False)
_GRAPHS = (
    sa.select(graphs.c.number)
    .where(graphs.c.number.in_(sa.select(tasks.c.graph).where(IDS)))
    .order_by(graphs.c.number)
    .with_for_update()
)
_TASKS = WITH_GRAPH.where(IDS).order_by(tasks.c.id).with_for_update(of=tasks)
_T: sa.BindParameter[int] = sa.bindparam("t")
_KEEP = (
    sa.update(tasks)
    .where(tasks.c.id == _T)
    .values(state=states.next_state(states.TASK, states.READY, "keep"), deadline=sa.bindparam("latest"))
)
_AGAIN = sa.update(tasks).where(tasks.c.id == _T).values(
    state=states.READY, deadline=None, provider=sa.bindparam("by"), expiries=sa.bindparam("e"),
    failed_on=sa.bindparam("f"),
)  # fmt: skip
_CREDIT = sa.update(providers).where(providers.c.id == sa.bindparam("by")).values(
    tasks_done=providers.c.tasks_done + 1, last_seen=sa.bindparam("at")
)  # fmt: skip


_TOUCH = (
    sa.update(blobs)
    .where(blobs.c.sha.in_(sa.bindparam("shas", expanding=True)))
    .values(touched=sa.bindparam("at"))
    .returning(blobs.c.sha, blobs.c.size)
)


class Outcomes(Tasks):
    # ── results ───────────────────────────────────────────────────────────────────────────────────
    def complete(self, results: Sequence[Result], now: float) -> list[Outcome]:
        """Take results in; one outcome for each, in order.

        A result is accepted where its attempt is the task's current one and the task is leased to its
        provider, or was released and nobody has leased it since. One that is not what the subgraph gives
        counts as a failure.
        """
        with self.write() as connection:
            rows = self._locked(connection, [result.task_id for result in results])
            present = self._touch(connection, _welcome(results, rows), now)
            outcomes: list[Outcome] = []
            accepted: dict[int, list[tuple[Event, Outputs]]] = defaultdict(list)
            since: dict[int, float] = {}
            for result in results:
                row = rows.get(result.task_id)
                if row is None or not _current(row, result):
                    outcomes.append(LATE)
                    continue
                outcome = self._judge(connection, row, result, present, now)
                outcomes.append(outcome)
                if not outcome.missing:
                    del rows[result.task_id]
                if outcome.accepted:
                    event = Finished(row.path, row.unit, row.start, row.stop)
                    accepted[row.graph].append((event, {o.name: o.ref for o in result.outputs}))
                    since[row.graph] = min(row.leased, since.get(row.graph, now))
            finished = {
                number
                for number, events in accepted.items()
                if self._advance(connection, number, events, now, since[number])
            }
            done = {self._known(connection, number).graph_id for number in finished}
            self._credit(connection, [r for r, o in zip(results, outcomes, strict=True) if o.accepted], now)
            return [_finished(o) if o.accepted and o.graph_id in done else o for o in outcomes]

    def _locked(self, connection: sa.Connection, ids: Iterable[int]) -> dict[int, Any]:
        """The tasks and their graphs, locked until the transaction ends: graphs in order, then tasks."""
        wanted = {"ids": sorted(set(ids))}
        if not self.is_sqlite:
            connection.execute(_GRAPHS, wanted)
        return {row.id: row for row in connection.execute(_TASKS, wanted)}

    def _touch(self, connection: sa.Connection, wanted: dict[str, int], now: float) -> dict[str, int]:
        """Sizes of the blobs of `wanted` that are there; each now belongs to the owner of the graph that
        needs it.
        """
        if not wanted:
            return {}
        found = connection.execute(_TOUCH, {"shas": sorted(wanted), "at": now})
        present: dict[str, int] = dict(found.all())
        if present:
            connection.execute(
                self.upsert(blob_owners, ("sha", "owner"), ()),
                [{"sha": sha, "owner": wanted[sha]} for sha in sorted(present)],
            )
        return present

    def _judge(
        self, connection: sa.Connection, row: Any, result: Result, present: dict[str, int], now: float
    ) -> Outcome:
        known = self._known(connection, row.graph)
        named = {blob for output in result.outputs for blob in blobs_of(output.ref)}
        missing = tuple(sorted({blob.sha for blob in named if blob.sha not in present}))
        if missing:
            return Outcome(accepted=False, missing=missing, graph_id=known.graph_id)
        specs = output_specs(known.program, row.path, row.unit, row.start, row.stop)
        problem = check_outputs(specs, result.outputs, self._head, present)
        if problem:
            return self._failed(connection, row, result.provider_id, problem, None, now)
        return Outcome(
            accepted=True, graph_id=known.graph_id, model=model_of(known.program, row.path, row.unit).model,
            flops=cost_of(known.program, row.path, row.unit).flops, iterations=max(1, row.stop - row.start),
        )  # fmt: skip

    def _advance(
        self,
        connection: sa.Connection,
        number: int,
        events: list[tuple[Event, Outputs]],
        now: float,
        since: float,
    ) -> bool:
        known = self._known(connection, number)
        bindings = Bindings(self, connection, number)
        return Advancing(connection, bindings, known.program, number, now, since).run(events)

    def _credit(self, connection: sa.Connection, results: Sequence[Result], now: float) -> None:
        if results:
            connection.execute(_CREDIT, [{"by": r.provider_id, "at": now} for r in results])

    # ── failures ──────────────────────────────────────────────────────────────────────────────────
    def fail(self, reports: Sequence[Failure], now: float) -> list[Outcome]:
        """Note failed attempts. A task that failed too often fails its graph, in words of the requester's
        script.
        """
        with self.write() as connection:
            rows = self._locked(connection, [report.task_id for report in reports])
            outcomes: list[Outcome] = []
            for report in reports:
                row = rows.pop(report.task_id, None)
                if row is None or row.state != states.LEASED or not _current(row, report):
                    outcomes.append(LATE)
                    continue
                outcome = self._failed(connection, row, report.provider_id, report.problem, report.node, now)
                outcomes.append(outcome)
            return outcomes

    def _failed(
        self,
        connection: sa.Connection,
        row: Any,
        provider_id: str,
        cause: Problem,
        node: int | None,
        now: float,
    ) -> Outcome:
        """The current attempt failed: the task is ready again, or its graph has failed."""
        known = self._known(connection, row.graph)
        failed_on = [*row.failed_on.split(), provider_id]
        report = {"t": row.id, "by": None, "e": 0, "f": " ".join(failed_on)}
        connection.execute(_AGAIN, report)
        outcome = Outcome(accepted=False, problem=cause, graph_id=known.graph_id)
        if not failures.gives_up(len(failed_on)):
            return outcome
        model = model_of(known.program, row.path, row.unit)
        label = label_of(known.program, row.path, row.unit, row.start, row.stop)
        problem = failures.graph_problem(cause, node, model, label, failed_on, known.manifest)
        graph = self._row(connection, known.graph_id, None)
        if graph.state != states.EXECUTING:
            return outcome
        recalls = self._end(connection, graph, "fail", problem, now)
        connection.execute(sa.update(tasks).where(tasks.c.id == row.id).values(state=states.FAILED))
        return Outcome(
            accepted=False, problem=problem, graph_id=known.graph_id, finished=True, recalls=tuple(recalls)
        )

    def release(self, releases: Sequence[Release]) -> list[bool]:
        """Give tasks back without blame; False where the attempt is not current. The attempt's result stays
        welcome until somebody leases the task again."""
        with self.write() as connection:
            rows = self._locked(connection, [release.task_id for release in releases])
            given = [
                (row := rows.get(release.task_id)) is not None
                and row.state == states.LEASED
                and _current(row, release)
                for release in releases
            ]
            back = [rows[release.task_id] for release, ok in zip(releases, given, strict=True) if ok]
            if back:
                connection.execute(
                    _AGAIN, [{"t": row.id, "by": row.provider, "e": 0, "f": row.failed_on} for row in back]
                )
            return given

    def keep(
        self, claims: Sequence[Release], deadline: Callable[[Held], float], now: float
    ) -> list[tuple[Task, Held]]:
        """Leave attempts to the providers that come back with them, where nobody has leased the task since;
        those that are kept, as they were shipped. `deadline` says until when, for one that was released."""
        with self.write() as connection:
            rows = self._locked(connection, [claim.task_id for claim in claims])
            kept = [row for c in claims if (row := rows.get(c.task_id)) is not None and _current(row, c)]
            held = {row.id: self._held(connection, row) for row in kept}
            until = {row.id: row.deadline or deadline(held[row.id]) for row in kept}
            if kept:
                connection.execute(_KEEP, [{"t": task, "latest": latest} for task, latest in until.items()])
            seconds = {task: latest - now for task, latest in until.items()}
            shipped = self._shipped(connection, kept, {row.id: row.stop for row in kept}, seconds)
            return [
                (msgspec.structs.replace(shipped[row.id], attempt=row.attempt), held[row.id]) for row in kept
            ]

    def expire(self, now: float) -> list[Outcome]:
        """Release every task whose deadline has passed; the attempt is in the outcome's `recalls`."""
        with self.write() as connection:
            late = connection.execute(
                sa.select(tasks.c.id).where(tasks.c.state == states.LEASED, tasks.c.deadline < now)
            ).scalars()
            rows = self._locked(connection, late)
            return [
                self._expired(connection, row, now)
                for row in rows.values()
                if row.state == states.LEASED and row.deadline < now
            ]

    def _expired(self, connection: sa.Connection, row: Any, now: float) -> Outcome:
        recall = Recall(provider_id=row.provider, task=HeldTask(task_id=row.id, attempt=row.attempt))
        expiries = row.expiries + 1
        if failures.counts(expiries):
            cause = failures.late_problem(row.deadline - row.leased)
            outcome = self._failed(connection, row, row.provider, cause, None, now)
            return Outcome(
                accepted=False, problem=outcome.problem, graph_id=outcome.graph_id, finished=outcome.finished,
                recalls=(recall, *outcome.recalls),
            )  # fmt: skip
        connection.execute(_AGAIN, {"t": row.id, "by": row.provider, "e": expiries, "f": row.failed_on})
        return Outcome(
            accepted=False, graph_id=self._known(connection, row.graph).graph_id, recalls=(recall,)
        )


def _current(row: Any, claim: Result | Failure | Release) -> bool:
    """The fence: is this about the attempt that the task is at, by the provider that has or had it?"""
    return (
        row.graph_state == states.EXECUTING
        and row.state in states.allowing(states.TASK, "complete")
        and row.attempt == claim.attempt
        and row.provider == claim.provider_id
    )


def _welcome(results: Sequence[Result], rows: dict[int, Any]) -> dict[str, int]:
    """Blobs in the outputs of results that pass the fence, and the owner of the graph."""
    return {
        blob.sha: rows[result.task_id].owner
        for result in results
        if result.task_id in rows and _current(rows[result.task_id], result)
        for output in result.outputs
        for blob in blobs_of(output.ref)
    }


def _finished(outcome: Outcome) -> Outcome:
    return Outcome(
        accepted=True, graph_id=outcome.graph_id, finished=True, model=outcome.model, flops=outcome.flops,
        iterations=outcome.iterations,
    )  # fmt: skip
