"""Who is calling: tokens looked up in the store, remembered for a few seconds so that blobs cost no query
each.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import msgspec

from ravop.errors import MessageError, RoleError, UnreachableError, VersionError
from ravop.protocol.messages import VERSION, Hello
from ravsock.store import Identity, Store

REMEMBER_SECONDS = 3.0
"""A revoked token works for so long at most."""
REMEMBERED = 10_000


@dataclass(frozen=True)
class _Known:
    identity: Identity
    until: float


class Authenticator:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, _Known] = {}

    async def authenticate(self, token: str, *roles: str) -> Identity:
        """Raises `TokenError` for a token that is not good, `RoleError` where its role is none of `roles`.

        An admin may do everything.
        """
        now = time.monotonic()
        known = self._known.get(token)
        if known is None or known.until < now:
            identity = await self._look_up(token, known)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[token] = _Known(identity, now + REMEMBER_SECONDS)
        if known.identity.role not in (*roles, "admin"):
            raise RoleError(
                f"a token of role {known.identity.role} may not do this",
                expected=" or ".join(roles),
                received=known.identity.role,
                hint=f"ravsock token create --role {roles[0]} --name NAME --data DIR",
            )
        return known.identity

    async def _look_up(self, token: str, known: _Known | None) -> Identity:
        """Who was known a moment ago still is while the database does not answer: a beat must not go unheard."""
        try:
            return await asyncio.to_thread(self._store.authenticate, token)
        except UnreachableError:
            if known is None:
                raise
            return known.identity

    async def greet(self, auth: object) -> tuple[Hello, Identity]:
        """Check the `Hello` of a new connection.

        Raises `MessageError`, `VersionError`, `TokenError` or `RoleError`.
        """
        protocol = auth.get("protocol") if isinstance(auth, dict) else None
        if protocol is not None and protocol != VERSION:
            raise VersionError(
                "the two programs speak different versions of the protocol",
                expected=f"version {VERSION}",
                received=f"version {protocol}"[:100],
                hint="install the same release of ravenverse on both sides",
            )
        try:
            hello = msgspec.convert(auth, Hello)
        except msgspec.ValidationError as error:
            raise MessageError(
                "a connection begins with a Hello", expected="Hello", received=error
            ) from error
        return hello, await self.authenticate(hello.token, hello.role)
