"""Which blobs nobody needs."""

from __future__ import annotations

import sqlalchemy as sa

from ravop.protocol.tensors import blobs_of
from ravsock.store.bindings import decode_ref
from ravsock.store.schema import bindings, blobs, graphs
from ravsock.store.uploads import Uploads

_PER_QUERY = 500


class Garbage(Uploads):
    def collect(self, now: float, grace: float) -> list[str]:
        """Forget the blobs that nothing refers to and that nobody has uploaded or used for `grace` seconds.

        Gives their names, for the caller to delete the bytes, in the same thread and before it records other
        blobs.
        """
        with self.write() as connection:
            old = set(
                connection.execute(sa.select(blobs.c.sha).where(blobs.c.touched < now - grace)).scalars()
            )
            doomed = sorted(old - self._referenced(connection)) if old else []
            gone: list[str] = []
            for first in range(0, len(doomed), _PER_QUERY):
                some = doomed[first : first + _PER_QUERY]
                gone += connection.execute(
                    sa.delete(blobs)
                    .where(blobs.c.sha.in_(some), blobs.c.touched < now - grace)
                    .returning(blobs.c.sha)
                ).scalars()
            return gone

    def _referenced(self, connection: sa.Connection) -> set[str]:
        """Every blob that a graph needs: its model, manifest, inputs and subgraphs, and its values."""
        used: set[str] = set()
        for row in connection.execute(
            sa.select(graphs.c.number, graphs.c.model_sha, graphs.c.manifest_sha)
        ).all():
            known = self._known(connection, row.number)
            used |= {row.model_sha, row.manifest_sha, *known.program.models()}
            used |= {binding.sha for binding in known.manifest.bindings}
        refs = connection.execute(sa.select(bindings.c.ref).where(bindings.c.has_blobs == 1)).scalars()
        for ref in refs:
            used |= {blob.sha for blob in blobs_of(decode_ref(ref))}
        return used
