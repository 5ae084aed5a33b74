"""Who is calling: tokens looked up in the store once and remembered; which of them were revoked is asked for all of them
together, every few seconds, so that neither a blob nor a provider's beat costs a query.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec

from ravop.errors import MessageError, RoleError, UnreachableError
from ravop.protocol.messages import Hello
from ravop.protocol.versions import check_version
from ravop.release import software
from ravsock.store import Identity, Store

REMEMBER_SECONDS = 3.0
"""A revoked token works for so long at most."""
REMEMBERED = 100_000
LOOK_UPS = 2
"""Tokens looked up at a time, on threads of their own: when all come back after a restart, other work does not wait for
it."""

log = logging.getLogger(__name__)


class Authenticator:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Identity] = {}
        self._threads = ThreadPoolExecutor(LOOK_UPS, thread_name_prefix="tokens")
        self._checked = -REMEMBER_SECONDS
        self._checking: asyncio.Task[None] | None = None

    async def authenticate(self, token: str, *roles: str) -> Identity:
        """Raises `TokenError` for a token that is not good, `RoleError` where its role is none of `roles`.

        An admin may do everything.
        """
        who = await self._identity(token, roles[0])
        if who.role not in (*roles, "admin"):
            raise RoleError(
                f"a token of role {who.role} may not do this",
                expected=" or ".join(roles),
                received=who.role,
                hint=f"ravsock token create --role {roles[0]} --name NAME --data DIR",
            )
        return who

    async def _identity(self, token: str, role: str) -> Identity:
        if token in self._known and time.monotonic() - self._checked >= REMEMBER_SECONDS:
            await self._forget_revoked()
        known = self._known.get(token)
        if known is None:
            loop = asyncio.get_running_loop()
            known = await loop.run_in_executor(self._threads, self._store.authenticate, token, role)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[token] = known
        return known

    async def _forget_revoked(self) -> None:
        """Asked once, for all who wait."""
        if self._checking is None:
            self._checking = asyncio.create_task(self._check())
        await asyncio.shield(self._checking)

    async def _check(self) -> None:
        began = time.monotonic()
        try:
            revoked = await asyncio.to_thread(self._store.revoked_tokens)
            self._known = {token: who for token, who in self._known.items() if who.token_id not in revoked}
        except UnreachableError as error:
            # who was known a moment ago still is while the database does not answer: a beat must not go unheard
            log.debug("revoked tokens could not be looked for: %s", error)
        finally:
            self._checked, self._checking = began, None

    async def greet(self, auth: object) -> tuple[Hello, Identity]:
        """Check the `Hello` of a new connection.

        Raises `MessageError`, `VersionError`, `TokenError` or `RoleError`.
        """
        if isinstance(auth, dict) and "protocol" in auth:
            check_version(auth["protocol"], str(auth.get("software", ""))[:80], software())
        try:
            hello = msgspec.convert(auth, Hello)
        except msgspec.ValidationError as error:
            raise MessageError(
                "a connection begins with a Hello", expected="Hello", received=error
            ) from error
        return hello, await self.authenticate(hello.token, hello.role)
