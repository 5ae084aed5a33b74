"""Which blobs there are, and who may read them. The bytes are in a `BlobStore`; which blobs nobody needs is in
`garbage`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from ravop.errors import UnreachableError
from ravsock.core import states
from ravsock.core.tasks import models_of
from ravsock.store.quotas import Quotas
from ravsock.store.schema import blob_owners, blobs, graphs, providers, tasks
from ravsock.store.values import Identity, StoredBlob

_FIND = (
    sa.select(blobs.c.size, blobs.c.checked)
    .where(blobs.c.sha == sa.bindparam("name"), blobs.c.doomed == 0)
)  # fmt: skip
_OWNED = sa.select(blob_owners.c.place, blob_owners.c.size).where(
    blob_owners.c.sha == sa.bindparam("name"), blob_owners.c.owner == sa.bindparam("of")
)

_HOLDER = sa.and_(
    providers.c.id.in_([tasks.c.provider, tasks.c.copy_provider]), providers.c.token == sa.bindparam("of")
)
_WORKED_ON = (
    sa.select(blob_owners.c.place, blob_owners.c.size)
    .join(blobs, sa.and_(blobs.c.sha == blob_owners.c.sha, blobs.c.doomed == 0))
    .join(graphs, graphs.c.owner == blob_owners.c.owner)
    .join(tasks, sa.and_(tasks.c.graph == graphs.c.number, tasks.c.state == states.LEASED))
    .join(providers, _HOLDER)
    .where(blob_owners.c.sha == sa.bindparam("name"), blob_owners.c.place.is_not(None))
    .limit(1)
)
"""Copies that nobody checked, of graphs that a token's providers have tasks of."""


class Blobs(Quotas):
    def record_blob(
        self, sha: str, size: int, owner: int | None, now: float, place: int | None = None
    ) -> None:
        """Note that the bytes are stored, durably. `owner`: the token that uploaded them; None for what the
        coordinator made itself. `place`: which copy it is.

        The caller looks afterwards whether the bytes are there, and calls `forget_blob` where they are not: they may have
        been collected before this. Raises `QuotaError`, and `UnreachableError` while the blob is being collected.
        """
        with self.write() as connection:
            if owner is not None:
                self._check_quota(connection, owner, size, sha, lock=True)
            row = {"sha": sha, "size": size, "touched": now, "checked": int(place is None)}
            if connection.execute(self._recording(place), row).one_or_none() is None:
                raise UnreachableError(
                    "the blob is being cleared away", received=sha, hint="upload it again in a moment"
                )
            if owner is not None:
                copy = {"place": place, "size": None if place is None else size}
                connection.execute(self._owning(place), {"sha": sha, "owner": owner, **copy})

    def forget_blob(self, sha: str, owner: int | None) -> None:
        """The bytes that were recorded are not there: the owner does not have them."""
        with self.write() as connection:
            mine = (blob_owners.c.sha == sha, blob_owners.c.owner == owner)
            connection.execute(sa.delete(blob_owners).where(*mine))

    def _recording(self, place: int | None) -> Any:
        """A copy that was checked makes the size sure; a row that is doomed stays as it is, and is not returned."""
        update = ("touched",) if place is not None else ("touched", "size", "checked")
        return self.upsert(blobs, ("sha",), update, blobs.c.doomed == 0).returning(blobs.c.sha)

    def _owning(self, place: int | None) -> Any:
        """A checked copy is better than any other, which the owner's own upload replaces."""
        return self.upsert(blob_owners, ("sha", "owner"), ("place", "size"), blob_owners.c.place.is_not(None))

    def find_blob(self, sha: str, owner: int | None) -> StoredBlob | None:
        """The copy that `owner` has, or (None) the one that was checked; None where there is none."""
        with self.read() as connection:
            found = connection.execute(_FIND, {"name": sha}).one_or_none()
            if found is None:
                return None
            if owner is None:
                return StoredBlob(sha=sha, size=found.size, place=None) if found.checked else None
            own = connection.execute(_OWNED, {"name": sha, "of": owner}).one_or_none()
            if own is None:
                return None
            size = found.size if own.place is None else own.size
            return StoredBlob(sha=sha, size=size, place=own.place)

    def find_for_provider(self, sha: str, token: int, owner: int | None) -> StoredBlob | None:
        """The copy for a provider that may read the blob: the checked one, else that of the `owner` of the task that needs it;
        None: of a graph whose task it holds, as the database knows."""
        found = self.find_blob(sha, None)
        if found is not None or owner is not None:
            return found or self.find_blob(sha, owner)
        with self.read() as connection:
            row = connection.execute(_WORKED_ON, {"name": sha, "of": token}).first()
            return None if row is None else StoredBlob(sha=sha, size=row.size, place=row.place)

    def may_read(self, identity: Identity, sha: str) -> bool:
        """A requester: what it uploaded and what its graphs gave. A provider: what the tasks that it holds
        need.
        """
        return _MAY_READ[identity.role](self, identity, sha)

    def _requester_may(self, identity: Identity, sha: str) -> bool:
        return self.find_blob(sha, identity.token_id) is not None

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


_MAY_READ: dict[str, Callable[[Blobs, Identity, str], bool]] = {
    "requester": Blobs._requester_may, "provider": Blobs._provider_may, "admin": Blobs._admin_may,
}  # fmt: skip
