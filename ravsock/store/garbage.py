"""Blobs that nobody needs, from the look at them to the end of their rows.

A blob goes in steps, each of them a short transaction: it is found unneeded; it is doomed, unless somebody has used it
since; a collector claims it and deletes its bytes; its row is buried. Whoever adds a reference to a blob touches its row in
the same transaction, so the look may be long over when the blob is doomed. A doomed blob is as good as gone to everybody, and
nobody can store it before it is buried, so no bytes are deleted that were stored anew. What a collector did not live to finish,
the next one claims.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from ravop.graph.manifest import decode_manifest
from ravop.protocol.tensors import blobs_of
from ravsock.core.plan import decode_plan
from ravsock.core.program import Program
from ravsock.core.recent import Recent
from ravsock.store.bindings import decode_ref
from ravsock.store.schema import DOOMED, WITH_BLOBS, bindings, blob_owners, blobs, documents, graphs
from ravsock.store.uploads import Uploads
from ravsock.store.values import Doomed, Look, Seen

LOOKED_AT = 50_000
"""Blobs in one look: some 10 MB."""
CLAIMED = 200
"""Blobs that a collector deletes at a time."""
CLAIM_SECONDS = 450.0
"""After so long, another collector may delete what one has claimed. Half of it is longer than a bucket takes to fail, in three
attempts of 70 s: what is still being deleted then would be bytes that were stored anew."""
_REMEMBERED = 4096
_ROWS = 1000
_AGES = sa.tuple_(blobs.c.touched, blobs.c.sha)
_OLD = (
    sa.select(blobs.c.sha, blobs.c.touched)
    .where(blobs.c.doomed == 0, blobs.c.touched < sa.bindparam("before"))
    .where(sa.tuple_(sa.bindparam("seen", type_=sa.Double), sa.bindparam("name", type_=sa.String)) < _AGES)
    .order_by(blobs.c.touched, blobs.c.sha)
    .limit(LOOKED_AT)
)
_REFS = sa.select(bindings.c.ref).where(WITH_BLOBS).execution_options(yield_per=_ROWS)
_DOOM = (
    sa.update(blobs)
    .where(blobs.c.sha == sa.bindparam("name"), blobs.c.touched == sa.bindparam("seen"), blobs.c.doomed == 0)
    .values(doomed=1, touched=0.0)
)
_UNCLAIMED = (
    sa.select(blobs.c.sha)
    .where(DOOMED, blobs.c.touched < sa.bindparam("before"))
    .order_by(blobs.c.touched)
    .limit(CLAIMED)
    .with_for_update(skip_locked=True)
)
_CLAIM = (
    sa.update(blobs)
    .where(blobs.c.sha.in_(_UNCLAIMED), blobs.c.doomed == 1)
    .values(touched=sa.bindparam("at"))
    .returning(blobs.c.sha)
)
_PLACES = sa.select(blob_owners.c.sha, blob_owners.c.place).where(
    blob_owners.c.sha.in_(sa.bindparam("shas", expanding=True)), blob_owners.c.place.is_not(None)
)
_BURY = sa.delete(blobs).where(
    blobs.c.sha == sa.bindparam("name"), blobs.c.doomed == 1, blobs.c.touched == sa.bindparam("claim")
)
_RECORDED = sa.select(blobs.c.sha).where(blobs.c.sha.in_(sa.bindparam("shas", expanding=True)))


class Garbage(Uploads):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._needs: Recent[int, frozenset[str]] = Recent(_REMEMBERED)

    def unneeded(self, before: float, after: Seen | None = None) -> Look:
        """Blobs that nothing refers to and nobody has touched since `before`, among the `LOOKED_AT` oldest that come
        `after` one."""
        after = after or Seen("", 0.0)
        with self.read() as connection:
            at = {"before": before, "seen": after.touched, "name": after.sha}
            old: dict[str, float] = dict(connection.execute(_OLD, at).all())
            last = Seen(*next(reversed(old.items()))) if len(old) == LOOKED_AT else None
            for used in self._used(connection) if old else ():
                for sha in used:
                    old.pop(sha, None)
            return Look(unneeded=tuple(Seen(*item) for item in sorted(old.items())), last=last)

    def doom(self, unneeded: Sequence[Seen]) -> None:
        """From now on these are not there any more, but those that somebody touched since they were seen."""
        if unneeded:
            with self.write() as connection:
                connection.execute(_DOOM, [{"name": seen.sha, "seen": seen.touched} for seen in unneeded])

    def recorded(self, shas: Sequence[str]) -> set[str]:
        """Those that have a row, doomed or not."""
        with self.read() as connection:
            return set(connection.execute(_RECORDED, {"shas": list(shas)}).scalars())

    def doom_strays(self, shas: Sequence[str]) -> None:
        """Doom what nobody has recorded, though bytes of it are there; what was recorded in between stays."""
        rows = [{"sha": sha, "size": 0, "checked": 0, "touched": 0.0, "doomed": 1} for sha in sorted(shas)]
        with self.write() as connection:
            connection.execute(self.upsert(blobs, ("sha",), ()), rows)

    def claim(self, now: float) -> list[Doomed]:
        """Some doomed blobs that nobody else deletes now: for half of `CLAIM_SECONDS` they are the caller's to delete."""
        with self.write() as connection:
            row = {"before": now - CLAIM_SECONDS, "at": now}
            claimed = sorted(connection.execute(_CLAIM, row).scalars())
            places: dict[str, set[int]] = {sha: set() for sha in claimed}
            for sha, place in connection.execute(_PLACES, {"shas": claimed}) if claimed else ():
                places[sha].add(place)
            return [Doomed(sha=sha, places=frozenset(places[sha]), claim=now) for sha in claimed]

    def bury(self, gone: Sequence[Doomed]) -> None:
        """The bytes of these have gone: they may be stored again."""
        if gone:
            with self.write() as connection:
                connection.execute(_BURY, [{"name": one.sha, "claim": one.claim} for one in gone])

    def _used(self, connection: sa.Connection) -> Iterator[Sequence[str] | frozenset[str]]:
        """Every blob that a graph needs: its model, manifest, inputs and subgraphs; then those of all values, as one
        statement sees them: in between, values move from place to place.
        """
        rows = connection.execute(sa.select(graphs.c.number, graphs.c.model_sha, graphs.c.manifest_sha)).all()
        for row in rows:
            yield (row.model_sha, row.manifest_sha)
            yield self._needed_by(connection, row.number)
        for ref in connection.execute(_REFS).scalars():
            yield [blob.sha for blob in blobs_of(decode_ref(ref))]

    def _needed_by(self, connection: sa.Connection, number: int) -> frozenset[str]:
        """The inputs and subgraphs of a graph; nothing where it has gone."""
        needs = self._needs.get(number)
        if needs is None:
            query = sa.select(documents.c.plan, documents.c.manifest).where(documents.c.graph == number)
            row = connection.execute(query).one_or_none()
            if row is None:
                return frozenset()
            bound = (binding.sha for binding in decode_manifest(row.manifest).bindings)
            needs = frozenset((*bound, *Program(decode_plan(row.plan)).models()))
            self._needs[number] = needs
        return needs
