"""Tokens: who may talk to the coordinator, and as what. Only their SHA-256 is stored. And the providers they
bring.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import msgspec
import sqlalchemy as sa

from ravop.errors import ArgumentError, RoleError, TokenError
from ravop.protocol.messages import Profile
from ravsock.store.database import Database
from ravsock.store.schema import blob_owners, blobs, providers, tokens
from ravsock.store.values import Identity, ProviderRow, TokenRow

PREFIXES = {"requester": "rvr_", "provider": "rvp_", "admin": "rva_"}

SIZE = sa.func.coalesce(blob_owners.c.size, blobs.c.size)
"""Of the copy that an owner has."""
_USED = (
    sa.select(blob_owners.c.owner, sa.func.sum(SIZE))
    .select_from(blob_owners.join(blobs))
    .where(blobs.c.doomed == 0)
    .group_by(blob_owners.c.owner)
)


class Tokens(Database):
    def create_token(self, role: str, name: str, now: float, quota: int | None = None) -> str:
        """A new token; it is shown this once. `quota`: bytes that a requester may store, if not as many as others. Raises
        `ArgumentError` for an unknown role, an empty name, or a quota of nothing or nobody."""
        if role not in PREFIXES:
            raise ArgumentError("unknown role", expected=" or ".join(PREFIXES), received=role)
        if not name.strip():
            raise ArgumentError("a token needs a name", expected="--name NAME", received=repr(name))
        check_quota(quota, role)
        token = PREFIXES[role] + secrets.token_urlsafe(32)
        with self.write() as connection:
            row = {"hash": _hash(token), "role": role, "name": name, "created": now, "quota": quota}
            connection.execute(sa.insert(tokens).values(row))
        return token

    def authenticate(self, token: str, role: str = "ROLE") -> Identity:
        """Raises `TokenError` for a token that is missing, unknown or revoked; `role`: of one that would do."""
        hint = (
            f"who runs the coordinator makes one: ravsock token create --role {role} --name NAME --data DIR"
        )
        if not token:
            raise TokenError("no token was given", expected="a token", hint=hint)
        with self.read() as connection:
            row = connection.execute(sa.select(tokens).where(tokens.c.hash == _hash(token))).one_or_none()
        if row is None:
            raise TokenError("the token is not known to this coordinator", received=_shown(token), hint=hint)
        if row.revoked is not None:
            raise TokenError(f"the token {row.name!r} was revoked", received=_shown(token), hint=hint)
        return Identity(token_id=row.id, role=row.role, name=row.name)

    def revoked_tokens(self) -> frozenset[int]:
        """The numbers of all tokens that are good no more."""
        with self.read() as connection:
            found = connection.execute(sa.select(tokens.c.id).where(tokens.c.revoked.is_not(None)))
            return frozenset(found.scalars())

    def list_tokens(self) -> list[TokenRow]:
        """All tokens, oldest first, the revoked ones among them, with what they have stored."""
        with self.read() as connection:
            rows = connection.execute(sa.select(tokens).order_by(tokens.c.id)).all()
            used: dict[int, Any] = dict(connection.execute(_USED).all())
        return [
            TokenRow(
                token_id=r.id, role=r.role, name=r.name, created=r.created, revoked=r.revoked, quota=r.quota,
                used=int(used.get(r.id, 0)),
            )
            for r in rows
        ]  # fmt: skip

    def revoke_token(self, id_or_name: int | str, now: float) -> int:
        """Revoke the token of this number, or all of this name; how many. Raises `TokenError` where there is
        none.
        """
        with self.write() as connection:
            done = connection.execute(
                sa.update(tokens)
                .where(named(id_or_name), tokens.c.revoked.is_(None))
                .values(revoked=now)
                .returning(tokens.c.id)
            ).all()
        if not done:
            raise TokenError("no such token", received=id_or_name, hint="see: ravsock token list --data DIR")
        return len(done)

    def register_provider(
        self, provider_id: str, token_id: int, profile: Profile, now: float,
        coordinator: str | None = None, graph_id: str | None = None,
    ) -> None:  # fmt: skip
        """Note a provider, what it measured, and where it is connected. Raises `RoleError` where another token has its
        id."""
        row = {
            "id": provider_id, "token": token_id, "profile": msgspec.msgpack.encode(profile),
            "first_seen": now, "last_seen": now, "coordinator": coordinator, "graph": graph_id,
        }  # fmt: skip
        with self.write() as connection:
            if self._provider_token(connection, provider_id) not in (None, token_id):
                raise RoleError(
                    "this provider id belongs to another token",
                    received=provider_id,
                    hint="start the provider with the token it had, or under another --name",
                )
            connection.execute(
                self.upsert(providers, ("id",), ("profile", "last_seen", "coordinator", "graph")), row
            )

    def _provider_token(self, connection: sa.Connection, provider_id: str) -> int | None:
        found: int | None = connection.execute(
            sa.select(providers.c.token).where(providers.c.id == provider_id)
        ).scalar_one_or_none()
        return found

    def providers(self) -> list[ProviderRow]:
        """Every provider ever registered, in the order of first appearance."""
        with self.read() as connection:
            rows = connection.execute(
                sa.select(providers).order_by(providers.c.first_seen, providers.c.id)
            ).all()
        return [
            ProviderRow(
                provider_id=r.id, token_id=r.token, profile=msgspec.msgpack.decode(r.profile, type=Profile),
                first_seen=r.first_seen, last_seen=r.last_seen, tasks_done=r.tasks_done,
            )
            for r in rows
        ]  # fmt: skip


def check_quota(quota: int | None, role: str = "requester") -> None:
    if quota is not None and (quota <= 0 or role != "requester"):
        raise ArgumentError(
            "not a quota", expected="some bytes, such as 10GB, for a requester", received=f"{quota} for a {role}",
            hint="to keep somebody out: ravsock token revoke",
        )  # fmt: skip


def named(id_or_name: int | str) -> sa.ColumnElement[bool]:
    """The tokens of this number or name."""
    text = str(id_or_name)
    by_id = tokens.c.id == int(text) if text.isdecimal() else sa.false()
    return sa.or_(by_id, tokens.c.name == text)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _shown(token: str) -> str:
    return f"{token[:8]}…"
