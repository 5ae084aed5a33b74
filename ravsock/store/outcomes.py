"""Results: taken in where they count, with all that follows, in one transaction.

Every result is fenced by its attempt; a late one changes nothing. A result, what follows from it (`advancing`) and
the end of a graph are one transaction.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from ravop.protocol.messages import HeldTask
from ravop.protocol.tensors import blobs_of
from ravsock.core import ahead
from ravsock.core.run import Event, Finished
from ravsock.core.tasks import check_outputs, cost_of, model_of, output_specs
from ravsock.store.advancing import Advancing, Outputs
from ravsock.store.bindings import Bindings
from ravsock.store.returns import LATE, Returned, Returns, claimed
from ravsock.store.schema import blob_owners, blobs, providers
from ravsock.store.tasks import Holder, holders
from ravsock.store.values import Failure, Outcome, Recall, Result

_CREDIT = sa.update(providers).where(providers.c.id == sa.bindparam("by")).values(
    tasks_done=providers.c.tasks_done + sa.bindparam("n"), last_seen=sa.bindparam("at")
)  # fmt: skip
_TOKENS = sa.select(providers.c.id, providers.c.token).where(
    providers.c.id.in_(sa.bindparam("names", expanding=True))
)
_OWNED = sa.select(blob_owners.c.sha, blob_owners.c.owner).where(
    blob_owners.c.sha.in_(sa.bindparam("shas", expanding=True))
)
_TOUCH = (
    sa.update(blobs)
    .where(blobs.c.sha.in_(sa.bindparam("shas", expanding=True)))
    .values(touched=sa.bindparam("at"))
    .returning(blobs.c.sha, blobs.c.size)
)


class Outcomes(Returns):
    def complete(self, results: Sequence[Result], now: float) -> list[Outcome]:
        """Take results in; one outcome for each, in order.

        A result is accepted where its attempt is one that the task has, or that it had last and nobody has leased it
        since. Where it ran ahead, what it waited for must have been accepted before it. One that is not what the
        subgraph gives counts as a failure. Where a blob is missing, nothing of that provider's results is taken in.
        """
        with self.write() as connection:
            rows = self._locked(connection, [result.task_id for result in results])
            named = [(r, shas) for r in results if (shas := _blobs(r)) and claimed(rows, r)]
            welcome = {sha: rows[result.task_id].owner for result, shas in named for sha in shas}
            present = self._touch(connection, self._theirs(connection, welcome, named), now)
            taking = _Taking(present, _missing(named, present))
            outcomes = [self._take(connection, taking, rows, result, now) for result in results]
            self._give_back(connection, taking.back)
            finished = {
                number
                for number, events in taking.accepted.items()
                if self._advance(connection, number, events, now, taking.since[number])
            }
            done = {self._known(connection, number).graph_id for number in finished}
            self._credit(connection, [r for r, o in zip(results, outcomes, strict=True) if o.accepted], now)
            return [_finished(o) if o.accepted and o.graph_id in done else o for o in outcomes]

    def _take(
        self, connection: sa.Connection, taking: _Taking, rows: dict[int, Any], result: Result, now: float
    ) -> Outcome:
        returned = claimed(rows, result)
        if returned is None:
            return LATE
        row, holder = returned
        known = self._known(connection, row.graph)
        if missing := taking.missing.get(result.provider_id):
            return Outcome(accepted=False, missing=missing, graph_id=known.graph_id)
        del rows[result.task_id]
        if row.waiting_for > taking.given[row.graph, row.path][row.unit]:
            taking.back.append(returned)
            return LATE
        specs = output_specs(known.program, row.path, row.unit, row.start, row.stop)
        if problem := check_outputs(specs, result.outputs, self._head, taking.present):
            report = Failure(
                task_id=row.id, attempt=result.attempt, provider_id=result.provider_id, problem=problem
            )
            return self._failed(connection, returned, report, now)
        scope = known.program.scope(row.path)
        taking.given[row.graph, row.path].update(ahead.given_by(scope, [row.unit]))
        event = Finished(row.path, row.unit, row.start, row.stop)
        taking.accepted[row.graph].append((event, {o.name: o.ref for o in result.outputs}))
        taking.since[row.graph] = min(holder.leased, taking.since.get(row.graph, now))
        return Outcome(
            accepted=True, graph_id=known.graph_id, model=model_of(known.program, row.path, row.unit).model,
            flops=cost_of(known.program, row.path, row.unit).flops, iterations=max(1, row.stop - row.start),
            ranks=row.ranks, recalls=tuple(self._beaten(connection, row, holder)),
        )  # fmt: skip

    def _beaten(self, connection: sa.Connection, row: Any, holder: Holder) -> list[Recall]:
        """The other attempt of a task that is done, and what ran ahead on it."""
        if row.copy_provider is None:
            return []
        beaten = [other for other in holders(row) if other != holder]
        recalls = [
            Recall(provider_id=h.provider_id, task=HeldTask(task_id=row.id, attempt=h.attempt))
            for h in beaten
        ]
        return recalls + self._fall_back(connection, [(row, other) for other in beaten if not other.copy])

    def _theirs(
        self, connection: sa.Connection, welcome: dict[str, int], named: Sequence[tuple[Result, set[str]]]
    ) -> dict[str, int]:
        """Those that the providers who name them uploaded, or the owner of the graph has: to know a blob's name is
        not to have it.
        """
        if not welcome:
            return {}
        names = {name for result, _ in named for name in (result.provider_id, *result.others)}
        tokens = dict(connection.execute(_TOKENS, {"names": sorted(names)}).all())
        rows = connection.execute(_OWNED, {"shas": sorted(welcome)}).all()
        owners: dict[str, set[int]] = defaultdict(set)
        for sha, owner in rows:
            owners[sha].add(owner)
        theirs: dict[str, int] = {}
        for result, shas in named:
            mine = {tokens.get(name) for name in (result.provider_id, *result.others)}
            theirs |= {sha: welcome[sha] for sha in shas if owners[sha] & (mine | {welcome[sha]})}
        return theirs

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
        counts = Counter(result.provider_id for result in results)
        if counts:
            connection.execute(_CREDIT, [{"by": by, "n": n, "at": now} for by, n in sorted(counts.items())])


class _Taking:
    """What one call of `complete` has found so far."""

    def __init__(self, present: dict[str, int], missing: dict[str, tuple[str, ...]]) -> None:
        self.present, self.missing = present, missing
        self.accepted: dict[int, list[tuple[Event, Outputs]]] = defaultdict(list)
        self.since: dict[int, float] = {}
        self.given: dict[tuple[int, str], Counter[int]] = defaultdict(Counter)
        """Per instance of a scope: how many inputs that units wait for the accepted results give."""
        self.back: list[Returned] = []


def _blobs(result: Result) -> set[str]:
    return {blob.sha for output in result.outputs for blob in blobs_of(output.ref)}


def _missing(named: Sequence[tuple[Result, set[str]]], present: dict[str, int]) -> dict[str, tuple[str, ...]]:
    """Per provider: the blobs that its results name and that are not there."""
    lacking: dict[str, set[str]] = defaultdict(set)
    for result, shas in named:
        if not shas <= present.keys():
            lacking[result.provider_id] |= shas - present.keys()
    return {provider: tuple(sorted(shas)) for provider, shas in lacking.items()}


def _finished(outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(outcome, finished=True)
