"""The values of one graph as rows: read where a place says, written in bulk.

Used within one transaction, by `advancing`, `tasks` and `results`. What parts are, `ravsock.core.series`
says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec
import sqlalchemy as sa

from ravop.errors import BlobError
from ravop.protocol.tensors import TensorRef, blobs_of
from ravsock.core import series
from ravsock.core.program import Place
from ravsock.core.series import Part
from ravsock.store.database import Database
from ravsock.store.schema import bindings

TAIL = 24
"""The last parts of a stacked value looked at for merging: more than the binary digits of any count of small
parts.
"""
_PER_QUERY = 400
_DECODER: msgspec.msgpack.Decoder[TensorRef] = msgspec.msgpack.Decoder(TensorRef)
_AT = (
    bindings.c.graph == sa.bindparam("g"),
    bindings.c.path == sa.bindparam("p"),
    bindings.c.name == sa.bindparam("n"),
)
_TAIL = (
    sa.select(bindings.c.start, bindings.c.elements, bindings.c.ref)
    .where(*_AT)
    .order_by(bindings.c.start.desc())
    .limit(TAIL)
)
_COLUMNS = (bindings.c.path, bindings.c.name, bindings.c.start, bindings.c.elements, bindings.c.ref)
_ONE = sa.select(*_COLUMNS).where(*_AT).order_by(bindings.c.start)
_SEVERAL = (
    sa.select(*_COLUMNS)
    .where(*_AT[:2], bindings.c.name.in_(sa.bindparam("names", expanding=True)))
    .order_by(bindings.c.start)
)
"""Of one instance: SQLite finds pairs of path and name by reading all values of the graph."""
_FORGET = sa.delete(bindings).where(*_AT)
_FORGET_PART = sa.delete(bindings).where(*_AT, bindings.c.start == sa.bindparam("s"))


def decode_ref(data: bytes) -> TensorRef:
    return _DECODER.decode(data)


class Bindings:
    """The values of graph `number`, seen and changed by one transaction."""

    def __init__(self, database: Database, connection: sa.Connection, number: int) -> None:
        self.database, self._connection, self._number = database, connection, number
        self._upsert = database.upsert(
            bindings, ("graph", "path", "name", "start"), ("elements", "has_blobs", "ref")
        )
        self._known: dict[Place, list[Part]] = {}
        self._put: dict[tuple[Place, int], Part] = {}
        self._gone: list[dict[str, Any]] = []
        self._gone_parts: list[dict[str, Any]] = []

    # ── read ──────────────────────────────────────────────────────────────────────────────────────
    def prefetch(self, places: Iterable[Place]) -> None:
        """Read these in as few queries as possible, so that `get` needs none."""
        wanted = [place for place in dict.fromkeys(places) if place not in self._known]
        for first in range(0, len(wanted), _PER_QUERY):
            some = wanted[first : first + _PER_QUERY]
            found: dict[Place, list[Part]] = {place: [] for place in some}
            for path, name, start, count, ref in self._rows(some):
                found[Place(path, name)].append(Part(start, count, decode_ref(ref)))
            self._known |= found

    def _rows(self, places: Sequence[Place]) -> Iterator[Any]:
        if len(places) == 1:
            return iter(self._connection.execute(_ONE, self._row(places[0])))
        names: dict[str, list[str]] = defaultdict(list)
        for place in places:
            names[place.path].append(place.name)
        several = ({"g": self._number, "p": path, "names": some} for path, some in names.items())
        return chain.from_iterable(self._connection.execute(_SEVERAL, row) for row in several)

    def parts(self, place: Place) -> list[Part]:
        """All parts that are there, in order; empty for a value that is not bound."""
        self.prefetch([place])
        return self._known[place]

    def get(self, place: Place) -> TensorRef:
        """The whole value. Raises `BlobError` where it is not bound, which a checked plan rules out."""
        parts = self.parts(place)
        if not parts:
            raise BlobError(
                "a value that should be there is missing", received=f"{place.name} at {place.path or 'main'}"
            )
        return series.whole(parts)

    # ── change ────────────────────────────────────────────────────────────────────────────────────
    def bind(self, target: Place, ref: TensorRef, element: int | None = None) -> None:
        part = Part(0, None, ref if element is None else series.element(ref, element))
        self._known[target] = [part]
        self._put[target, 0] = part

    def append(self, target: Place, ref: TensorRef, start: int, count: int, single: bool) -> None:
        """Add a part to a stacked value, joined with its small neighbours before it."""
        swallowed, part = series.merge(
            self._tail(target), Part(start, count, series.single(ref) if single else series.packed(ref))
        )
        self._gone_parts += [self._row(target) | {"s": old} for old in swallowed]
        for old in swallowed:
            self._put.pop((target, old), None)
        self._put[target, part.start] = part
        self._known.pop(target, None)

    def forget(self, place: Place) -> None:
        self._gone.append(self._row(place))
        self._known.pop(place, None)

    def flush(self) -> None:
        """Write what has changed."""
        for statement, rows in ((_FORGET, self._gone), (_FORGET_PART, self._gone_parts)):
            if rows:
                self._connection.execute(statement, rows)
        if self._put:
            rows = [self._encoded(*item) for item in self._put.items()]
            self.database.many(self._connection, self._upsert, rows)
        self._gone, self._gone_parts, self._put = [], [], {}

    def drop(self, paths: Sequence[str]) -> None:
        """Forget the values of whole instances."""
        self._connection.execute(
            sa.delete(bindings).where(bindings.c.graph == self._number, bindings.c.path.in_(paths))
        )
        gone = set(paths)
        self._known = {place: parts for place, parts in self._known.items() if place.path not in gone}

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget all but these values of the main instance."""
        self._connection.execute(
            sa.delete(bindings).where(
                bindings.c.graph == self._number,
                sa.or_(bindings.c.path != "", bindings.c.name.not_in(sorted(names))),
            )
        )
        self._known = {}

    def _tail(self, place: Place) -> list[Part]:
        rows = self._connection.execute(_TAIL, self._row(place)).all()
        stored = {start: Part(start, count, decode_ref(ref)) for start, count, ref in rows}
        stored |= {start: part for (where, start), part in self._put.items() if where == place}
        return [stored[start] for start in sorted(stored)]

    def _row(self, place: Place) -> dict[str, Any]:
        return {"g": self._number, "p": place.path, "n": place.name}

    def _encoded(self, key: tuple[Place, int], part: Part) -> dict[str, Any]:
        place, start = key
        return {
            "graph": self._number, "path": place.path, "name": place.name, "start": start,
            "elements": part.count, "has_blobs": int(any(True for _ in blobs_of(part.ref))),
            "ref": msgspec.msgpack.encode(part.ref),
        }  # fmt: skip
