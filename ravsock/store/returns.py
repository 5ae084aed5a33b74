"""Leased tasks that come back without a result: failed, given back, out of time, or kept by who had them.

Every change is fenced by the attempt: a task's row is locked, and what comes for another attempt than one it has is
late and changes nothing. A task with a second attempt goes on with the other one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ravop.protocol.messages import HeldTask, Task
from ravsock.core import ahead, failures, states
from ravsock.core.tasks import failed_model, label_of
from ravsock.store.leasing import Leasing, Shipment
from ravsock.store.rows import TaskRow
from ravsock.store.schema import graphs, tasks
from ravsock.store.tasks import IDS, WITH_GRAPH, Holder, holders
from ravsock.store.values import Failure, Held, Outcome, Recall, Release, Result

LATE = Outcome(accepted=False)
_CLAIMABLE = states.allowing(states.TASK, "complete")
Returned = tuple[Any, Holder]
"""A task's row, and which of its attempts came back."""
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
    state=sa.case((tasks.c.waiting_for > 0, states.WAITING), else_=states.READY), deadline=None, ranks=None,
    provider=sa.bindparam("by"), expiries=sa.bindparam("e"), failed_on=sa.bindparam("f"),
)  # fmt: skip
_ONE_LEFT = sa.update(tasks).where(tasks.c.id == _T).values(
    attempt=sa.bindparam("number"), provider=sa.bindparam("by"), leased=sa.bindparam("at"),
    deadline=sa.bindparam("latest"), copy_provider=None, expiries=0, failed_on=sa.bindparam("f"),
)  # fmt: skip
"""Of two attempts: the first, or its copy, which is the first from now on."""
_RAN_AHEAD = (
    sa.select(tasks)
    .where(
        tasks.c.provider.in_(sa.bindparam("providers", expanding=True)),
        tasks.c.graph.in_(sa.bindparam("graphs", expanding=True)),
        tasks.c.state == states.LEASED,
        tasks.c.waiting_for > 0,
    )
    .order_by(tasks.c.id)
    .with_for_update()
)
_FALL_BACK = (
    sa.update(tasks)
    .where(IDS)
    .values(state=states.next_state(states.TASK, states.LEASED, "fall_back"), deadline=None, provider=None)
)
_EXPIRED = (
    sa.select(tasks.c.id).where(tasks.c.state == states.LEASED, tasks.c.deadline < sa.bindparam("now")),
    sa.select(tasks.c.id).where(tasks.c.copy_provider.is_not(None), tasks.c.copy_deadline < sa.bindparam("now")),
)  # fmt: skip


class Returns(Leasing):
    def _locked(self, connection: sa.Connection, ids: Iterable[int]) -> dict[int, Any]:
        """The tasks and their graphs, locked until the transaction ends: graphs in order, then tasks."""
        wanted = {"ids": sorted(set(ids))}
        if not self.is_sqlite:
            connection.execute(_GRAPHS, wanted)
        return {row.id: row for row in map(TaskRow._make, connection.execute(_TASKS, wanted))}

    # ── failures ──────────────────────────────────────────────────────────────────────────────────
    def fail(self, reports: Sequence[Failure], now: float) -> list[Outcome]:
        """Note failed attempts. A task that failed too often fails its graph, in words of the requester's
        script.
        """
        with self.write() as connection:
            rows = self._locked(connection, [report.task_id for report in reports])
            outcomes: list[Outcome] = []
            for report in reports:
                returned = claimed(rows, report)
                if returned is None or returned[0].state != states.LEASED:
                    outcomes.append(LATE)
                    continue
                del rows[report.task_id]
                outcomes.append(self._failed(connection, returned, report, now))
            return outcomes

    def _failed(self, connection: sa.Connection, returned: Returned, report: Failure, now: float) -> Outcome:
        """An attempt failed: the task goes on with its other one or is ready again, or its graph has failed."""
        row = returned[0]
        known = self._known(connection, row.graph)
        failed_on = [*row.failed_on.split(), report.blame or report.provider_id]
        self._give_back(connection, [returned], failed_on=" ".join(failed_on))
        outcome = Outcome(accepted=False, problem=report.problem, graph_id=known.graph_id)
        graph = self._row(connection, known.graph_id, None)
        if not failures.gives_up(len(failed_on)) or len(holders(row)) > 1 or graph.state != states.EXECUTING:
            return outcome
        model = failed_model(known.program, row.path, row.unit, report.subgraph)
        label = label_of(known.program, row.path, row.unit, row.start, row.stop)
        problem = failures.graph_problem(report.problem, report.node, model, label, failed_on, known.manifest)
        recalls = self._end(connection, graph, "fail", problem, now)
        connection.execute(sa.update(tasks).where(tasks.c.id == row.id).values(state=states.FAILED))
        return Outcome(
            accepted=False, problem=problem, graph_id=known.graph_id, finished=True, recalls=tuple(recalls)
        )

    # ── given back, kept ──────────────────────────────────────────────────────────────────────────
    def release(self, releases: Sequence[Release]) -> list[bool]:
        """Give tasks back without blame; False where the attempt is not current. The attempt's result stays
        welcome until somebody leases the task again, unless it ran ahead."""
        with self.write() as connection:
            rows = self._locked(connection, [release.task_id for release in releases])
            back: list[Returned] = []
            given: list[bool] = []
            for release in releases:
                returned = claimed(rows, release)
                given.append(returned is not None and returned[0].state == states.LEASED)
                if returned is not None and given[-1]:
                    back.append(returned)
                    del rows[release.task_id]
            self._give_back(connection, back)
            return given

    def keep(
        self, claims: Sequence[Release], deadline: Callable[[Held], float], now: float
    ) -> list[tuple[Task, Held]]:
        """Leave attempts to the providers that come back with them, where nobody has leased the task since;
        those that are kept, as they were shipped. `deadline` says until when, for one that was released.

        What a gang ran or what ran ahead of its inputs is given back instead: what it needs is lost.
        """
        with self.write() as connection:
            rows = self._locked(connection, [claim.task_id for claim in claims])
            found = [returned for claim in claims if (returned := claimed(rows, claim)) is not None]
            kept = [(row, holder) for row, holder in found if row.ranks is None and not row.waiting_for]
            self._give_back(connection, [returned for returned in found if returned not in kept])
            result = []
            for row, holder in kept:
                held = self._held(connection, row, holder)
                until = holder.deadline or deadline(held)
                if not holder.copy:
                    connection.execute(_KEEP, {"t": row.id, "latest": until})
                shipment = Shipment(row, holder.attempt, row.stop, until - now)
                result.append((self._shipped(connection, [[shipment]])[0][0], held))
            return result

    def _give_back(
        self, connection: sa.Connection, returned: Sequence[Returned], **changes: Any
    ) -> list[Recall]:
        """These attempts are over; what ran ahead on what they were to give is over too, and told. The result
        of one that did not fail stays welcome, where it needs nobody else's."""
        again = []
        for row, holder in returned:
            failed_on = changes.get("failed_on", row.failed_on)
            left = next((other for other in holders(row) if other != holder), None)
            if left is None:
                welcome = "failed_on" not in changes and row.ranks is None and not row.waiting_for
                by = holder.provider_id if welcome else None
                again.append({"t": row.id, "by": by, "e": changes.get("expiries", 0), "f": failed_on})
            else:
                one = {"t": row.id, "number": left.attempt, "by": left.provider_id, "at": left.leased}
                connection.execute(_ONE_LEFT, one | {"latest": left.deadline, "f": failed_on})
        if again:
            connection.execute(_AGAIN, again)
        return self._fall_back(connection, [(row, holder) for row, holder in returned if not holder.copy])

    def _fall_back(self, connection: sa.Connection, returned: Sequence[Returned]) -> list[Recall]:
        """What the providers of these attempts have that ran ahead on them waits again."""
        if not returned:
            return []
        among_these = {
            "providers": sorted({holder.provider_id for _, holder in returned}),
            "graphs": sorted({row.graph for row, _ in returned}),
        }
        found = connection.execute(_RAN_AHEAD, among_these).all()
        if not found:
            return []
        among: dict[tuple[str, int, str], dict[int, Any]] = defaultdict(dict)
        for row in found:
            among[row.provider, row.graph, row.path][row.unit] = row
        fallen: dict[int, Any] = {}
        for row, holder in returned:
            there = among[holder.provider_id, row.graph, row.path]
            scope = self._known(connection, row.graph).program.scope(row.path)
            for unit in ahead.dependants(scope, [row.unit], there):
                fallen[there[unit].id] = there[unit]
        if fallen:
            connection.execute(_FALL_BACK, {"ids": sorted(fallen)})
        return [_recall(row.id, holders(row)[0]) for row in fallen.values()]

    # ── out of time ───────────────────────────────────────────────────────────────────────────────
    def expire(self, now: float) -> list[Outcome]:
        """Release every attempt whose deadline has passed; it is in the outcome's `recalls`, with what ran ahead on
        it."""
        with self.write() as connection:
            late = [task for query in _EXPIRED for task in connection.execute(query, {"now": now}).scalars()]
            rows = self._locked(connection, late) if late else {}
            outcomes: list[Outcome] = []
            fallen: set[int] = set()
            for row in rows.values():
                expired = [h for h in holders(row) if row.state == states.LEASED and h.deadline < now]
                if expired and row.id not in fallen:
                    outcome = self._expired(connection, row, expired, now)
                    fallen |= {recall.task.task_id for recall in outcome.recalls}
                    outcomes.append(outcome)
            return outcomes

    def _expired(self, connection: sa.Connection, row: Any, expired: list[Holder], now: float) -> Outcome:
        known = self._known(connection, row.graph)
        recalls = [_recall(row.id, holder) for holder in expired]
        if len(expired) < len(holders(row)):
            recalls += self._give_back(connection, [(row, expired[0])])
            return Outcome(accepted=False, graph_id=known.graph_id, recalls=tuple(recalls))
        first, expiries = expired[0], row.expiries + 1
        if row.copy_provider is not None:
            self._give_back(connection, [(row, expired[1])])
            (row,) = self._locked(connection, [row.id]).values()
        if not failures.counts(expiries):
            recalls += self._give_back(connection, [(row, first)], expiries=expiries)
            return Outcome(accepted=False, graph_id=known.graph_id, recalls=tuple(recalls))
        recalls += self._fall_back(connection, [(row, first)])
        report = Failure(
            task_id=row.id, attempt=first.attempt, provider_id=first.provider_id,
            problem=failures.late_problem(first.deadline - first.leased),
        )  # fmt: skip
        outcome = self._failed(connection, (row, first), report, now)
        return Outcome(
            accepted=False, problem=outcome.problem, graph_id=outcome.graph_id, finished=outcome.finished,
            recalls=(*recalls, *outcome.recalls),
        )  # fmt: skip


def claimed(rows: Mapping[int, Any], claim: Result | Failure | Release) -> Returned | None:
    """The fence: which of the attempts that a task has, or had last, is this about?"""
    row = rows.get(claim.task_id)
    if row is None or row.graph_state != states.EXECUTING or row.state not in _CLAIMABLE:
        return None
    for holder in holders(row):
        if holder.attempt == claim.attempt and holder.provider_id == claim.provider_id:
            return row, holder
    return None


def _recall(task_id: int, holder: Holder) -> Recall:
    return Recall(provider_id=holder.provider_id, task=HeldTask(task_id=task_id, attempt=holder.attempt))
