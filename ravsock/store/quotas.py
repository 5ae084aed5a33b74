"""How much each token's blobs take, and how much they may."""

from __future__ import annotations

import sqlalchemy as sa

from ravop.errors import ArgumentError, QuotaError, TokenError
from ravop.sizes import in_words
from ravsock.store.results import Results
from ravsock.store.schema import blob_owners, blobs, tokens, uploads
from ravsock.store.tokens import SIZE, check_quota, named
from ravsock.store.values import Usage

_USED = (
    sa.select(sa.func.coalesce(sa.func.sum(SIZE), 0))
    .select_from(blob_owners.join(blobs))
    .where(blob_owners.c.owner == sa.bindparam("of"), blobs.c.doomed == 0)
)
_UNDER_WAY = sa.select(sa.func.coalesce(sa.func.sum(uploads.c.size), 0)).where(
    uploads.c.owner == sa.bindparam("of"), uploads.c.sha != sa.bindparam("but")
)
_ALLOWED = sa.select(tokens.c.role, tokens.c.quota).where(tokens.c.id == sa.bindparam("of"))
_LOCKED = _ALLOWED.with_for_update(key_share=True)


class Quotas(Results):
    quota: int | None = None
    """Bytes that requesters may have whose tokens say nothing of it; None: no limit."""

    def usage(self, owner: int) -> Usage:
        """What the token's blobs take, and may take: those that it uploaded, and those that its graphs gave."""
        with self.read() as connection:
            used = int(connection.execute(_USED, {"of": owner}).scalar_one())
            return Usage(used=used, allowed=self._allowed(connection, owner))

    def check_quota(self, owner: int, size: int, sha: str = "") -> None:
        """Raises `QuotaError` where `size` bytes more would be too many, beside what else is being uploaded in parts. A
        blob `sha` that the token has already takes nothing more."""
        with self.read() as connection:
            self._check_quota(connection, owner, size, sha)

    def set_quota(self, id_or_name: int | str, quota: int | None) -> int:
        """Let the requester's token of this number, or all of this name, have so many bytes; None: as all others. Gives how
        many tokens. Raises `TokenError` where there is none, `ArgumentError` for a quota of nothing, or of a provider."""
        check_quota(quota)
        with self.write() as connection:
            query = sa.update(tokens).where(named(id_or_name), tokens.c.role == "requester")
            done = connection.execute(query.values(quota=quota).returning(tokens.c.id)).all()
            others = connection.execute(sa.select(tokens.c.role).where(named(id_or_name))).scalars().all()
        if not done and others:
            raise ArgumentError(
                "only requesters have quotas", expected="a requester's token",
                received=f"{id_or_name}, of role {' and '.join(sorted(set(others)))}",
                hint="see: ravsock token list --data DIR",
            )  # fmt: skip
        if not done:
            raise TokenError(
                "no such requester's token", received=id_or_name, hint="see: ravsock token list --data DIR"
            )
        return len(done)

    def _check_quota(
        self, connection: sa.Connection, owner: int, size: int, sha: str, *, lock: bool = False
    ) -> None:
        """With `lock`, nobody else takes of the same quota until the transaction ends."""
        allowed = self._allowed(connection, owner, lock=lock)
        if allowed is None or self._has(connection, owner, sha):
            return
        used = int(connection.execute(_USED, {"of": owner}).scalar_one())
        used += int(connection.execute(_UNDER_WAY, {"of": owner, "but": sha}).scalar_one())
        if used + size > allowed:
            raise QuotaError(
                "this is more than you may store on the coordinator",
                expected=f"at most {in_words(allowed)} together",
                received=f"{in_words(used)} used, and {in_words(size)} more",
                hint="R.flush() graphs that you do not need, and wait ten minutes; or ask who runs the coordinator for more "
                "(ravsock token quota)",
            )

    def _allowed(self, connection: sa.Connection, owner: int, *, lock: bool = False) -> int | None:
        role, quota = connection.execute(_LOCKED if lock else _ALLOWED, {"of": owner}).one()
        if role != "requester":
            return None
        return self.quota if quota is None else int(quota)

    def _has(self, connection: sa.Connection, owner: int, sha: str) -> bool:
        there = sa.select(blobs.c.sha).join(blob_owners)
        query = there.where(blobs.c.sha == sha, blobs.c.doomed == 0, blob_owners.c.owner == owner)
        return connection.execute(query).one_or_none() is not None
