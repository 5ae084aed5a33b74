"""Results: taken in where they count, with all that follows, in one transaction.

Every result is fenced by its attempt; a late one changes nothing. A result, what follows from it (`advancing`) and
the end of a graph are one transaction.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from ravop.errors import Problem
from ravop.protocol.messages import HeldTask, OutputSpec
from ravop.protocol.tensors import blobs_of
from ravsock.core import ahead
from ravsock.core.run import Event, Finished
from ravsock.core.tasks import check_outputs, cost_of, model_of, output_specs
from ravsock.store.advancing import Advancing, Outputs
from ravsock.store.bindings import Bindings
from ravsock.store.returns import LATE, Returned, Returns, claimed
from ravsock.store.schema import blob_owners, providers
from ravsock.store.tasks import Holder, holders
from ravsock.store.values import Failure, Outcome, Recall, Result, StoredBlob

_CREDIT = sa.update(providers).where(providers.c.id == sa.bindparam("by")).values(
    tasks_done=providers.c.tasks_done + sa.bindparam("n"), last_seen=sa.bindparam("at")
)  # fmt: skip
_TOKENS = sa.select(providers.c.id, providers.c.token).where(
    providers.c.id.in_(sa.bindparam("names", expanding=True))
)
_OWNED = sa.select(blob_owners).where(blob_owners.c.sha.in_(sa.bindparam("shas", expanding=True)))
_Owned = tuple[str, int]
"""A blob's name, and the token of who has it."""


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
            wanted = [_Wanted(result, shas, rows[result.task_id].owner) for result, shas in named]
            copies = self._give(connection, self._theirs(connection, wanted), now)
            taking = _Taking(copies, _missing(wanted, copies))
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
        if problem := self._wrong(specs, result, taking.copies, row.owner):
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

    def _wrong(
        self, specs: Sequence[OutputSpec], result: Result, copies: Mapping[_Owned, StoredBlob], owner: int
    ) -> Problem | None:
        """What is wrong with the result of a task of `owner`'s, by the copies of its blobs that the owner has."""
        mine = {sha: copies[sha, owner] for sha in _blobs(result)}
        sizes = {sha: copy.size for sha, copy in mine.items()}
        head = self._head
        if head is None:
            return check_outputs(specs, result.outputs, None, sizes)
        return check_outputs(specs, result.outputs, lambda blob: head(blob, mine[blob.sha].place), sizes)

    def _theirs(self, connection: sa.Connection, wanted: Sequence[_Wanted]) -> dict[_Owned, StoredBlob]:
        """The copies that the graphs' owners have or get: those that the providers who name them uploaded. To know a
        blob's name is not to have it.
        """
        if not wanted:
            return {}
        names = {name for want in wanted for name in want.providers}
        tokens = dict(connection.execute(_TOKENS, {"names": sorted(names)}).all())
        shas = {sha for want in wanted for sha in want.shas}
        had: dict[str, dict[int, StoredBlob]] = defaultdict(dict)
        for sha, owner, place, size in connection.execute(_OWNED, {"shas": sorted(shas)}):
            had[sha][owner] = StoredBlob(sha=sha, size=size or 0, place=place)
        theirs: dict[_Owned, StoredBlob] = {}
        for want in wanted:
            uploaders = [tokens[name] for name in want.providers if name in tokens]
            for sha in want.shas:
                copies = [had[sha][token] for token in (want.owner, *uploaders) if token in had[sha]]
                if copies:
                    theirs[sha, want.owner] = copies[0]
        return theirs

    def _give(
        self, connection: sa.Connection, copies: Mapping[_Owned, StoredBlob], now: float
    ) -> dict[_Owned, StoredBlob]:
        """Those of the copies that are still there, with their sizes; each now belongs to the owner of the graph that
        needs it.
        """
        if not copies:
            return {}
        sizes = self._touch(connection, {sha for sha, _ in copies}, now)
        given = {
            (sha, owner): copy if copy.place is not None else StoredBlob(sha=sha, size=sizes[sha], place=None)
            for (sha, owner), copy in copies.items()
            if sha in sizes
        }
        if given:
            connection.execute(
                self.upsert(blob_owners, ("sha", "owner"), ()),
                [
                    {
                        "sha": sha,
                        "owner": owner,
                        "place": c.place,
                        "size": None if c.place is None else c.size,
                    }
                    for (sha, owner), c in sorted(given.items())
                ],
            )
        return given

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


@dataclass(frozen=True)
class _Wanted:
    """The blobs that a result names, which a task of `owner`'s gave."""

    result: Result
    shas: set[str]
    owner: int

    @property
    def providers(self) -> tuple[str, ...]:
        return (self.result.provider_id, *self.result.others)


class _Taking:
    """What one call of `complete` has found so far."""

    def __init__(self, copies: Mapping[_Owned, StoredBlob], missing: Mapping[str, tuple[str, ...]]) -> None:
        self.copies, self.missing = copies, missing
        self.accepted: dict[int, list[tuple[Event, Outputs]]] = defaultdict(list)
        self.since: dict[int, float] = {}
        self.given: dict[tuple[int, str], Counter[int]] = defaultdict(Counter)
        """Per instance of a scope: how many inputs that units wait for the accepted results give."""
        self.back: list[Returned] = []


def _blobs(result: Result) -> set[str]:
    return {blob.sha for output in result.outputs for blob in blobs_of(output.ref)}


def _missing(wanted: Sequence[_Wanted], copies: Mapping[_Owned, StoredBlob]) -> dict[str, tuple[str, ...]]:
    """Per provider: the blobs that its results name and that are not there."""
    lacking: dict[str, set[str]] = defaultdict(set)
    for want in wanted:
        if shas := {sha for sha in want.shas if (sha, want.owner) not in copies}:
            lacking[want.result.provider_id] |= shas
    return {provider: tuple(sorted(shas)) for provider, shas in lacking.items()}


def _finished(outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(outcome, finished=True)
