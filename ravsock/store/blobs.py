"""Which blobs there are, who may read them, and which nobody needs. The bytes are in a `BlobStore`."""

from __future__ import annotations

import sqlalchemy as sa

from ravop.protocol.tensors import blobs_of
from ravsock.core import states
from ravsock.core.tasks import models_of
from ravsock.store.bindings import decode_ref
from ravsock.store.results import Results
from ravsock.store.schema import bindings, blob_owners, blobs, graphs, providers, tasks
from ravsock.store.values import Identity

_PER_QUERY = 500


class Blobs(Results):
    def record_blob(self, sha: str, size: int, owner: int | None, now: float) -> None:
        """Note that the bytes are stored, durably. `owner`: the token that uploaded them; None for what the
        coordinator made itself."""
        with self.write() as connection:
            connection.execute(
                self.upsert(blobs, ("sha",), ("touched",)), {"sha": sha, "size": size, "touched": now}
            )
            if owner is not None:
                connection.execute(
                    self.upsert(blob_owners, ("sha", "owner"), ()), {"sha": sha, "owner": owner}
                )

    def blob_size(self, sha: str) -> int | None:
        """Bytes of a blob that is recorded; None where it is not."""
        with self.read() as connection:
            size: int | None = connection.execute(
                sa.select(blobs.c.size).where(blobs.c.sha == sha)
            ).scalar_one_or_none()
            return size

    def may_read(self, identity: Identity, sha: str) -> bool:
        """A requester: what it uploaded and what its graphs gave. A provider: what the tasks that it holds
        need.
        """
        return _MAY_READ[identity.role](self, identity, sha)

    def _requester_may(self, identity: Identity, sha: str) -> bool:
        with self.read() as connection:
            found = connection.execute(
                sa.select(blob_owners.c.sha).where(
                    blob_owners.c.sha == sha, blob_owners.c.owner == identity.token_id
                )
            )
            return found.one_or_none() is not None

    def _provider_may(self, identity: Identity, sha: str) -> bool:
        with self.read() as connection:
            held = connection.execute(
                sa.select(tasks)
                .join(providers, providers.c.id.in_([tasks.c.provider, tasks.c.copy_provider]))
                .where(providers.c.token == identity.token_id, tasks.c.state == states.LEASED)
            ).all()
            for row in held:
                known = self._known(connection, row.graph)
                needed = {blob.sha for blob in self._blobs_needed(connection, [row])[row.id]}
                if sha in models_of(known.program, row.path, row.unit) or sha in needed:
                    return True
            return False

    def _admin_may(self, _identity: Identity, _sha: str) -> bool:
        return True

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


_MAY_READ = {
    "requester": Blobs._requester_may, "provider": Blobs._provider_may, "admin": Blobs._admin_may,
}  # fmt: skip
