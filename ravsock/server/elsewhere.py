"""The providers that are connected to other coordinators: for plans, for what people are shown, and for what they may read
and write where they are not known.

They get their tasks where they are connected. Read from the database when somebody asks, but not too often; on SQLite,
and while this coordinator is alone, there are none.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

import aiohttp

from ravop.errors import RavenError
from ravop.protocol.messages import ProviderInfo
from ravsock.core import teams
from ravsock.core.fleet import Line, ProviderSpeed
from ravsock.core.jobs import LINK, Node
from ravsock.server import clock
from ravsock.server.peers import Peers
from ravsock.server.provider import Provider, claimed, software_of
from ravsock.server.providers import Providers
from ravsock.server.writer import Writer
from ravsock.store import ConnectedRow, Identity, Measured, ProviderRow, Store

FRESH_SECONDS = 2.0
"""What was read so long ago is good enough."""
TELL_SECONDS = 5.0
"""How often the others are told what was measured here."""
DIFFERENT = 0.1
"""A speed that changed by less is not told."""
ASK_SECONDS = 5.0
ASKED = "X-Ravenverse-Asked"
"""Whoever is asked by a coordinator asks no other one."""
OWNER = "X-Ravenverse-Owner"
"""In its answer: for whose task the provider needs the blob."""

log = logging.getLogger(__name__)


class Reads(NamedTuple):
    may: bool
    owner: int | None = None
    """Of the task that needs the blob; None where the database knows it."""


class Elsewhere:
    """`refresh`, then look; for the event loop's thread only."""

    def __init__(self, store: Store, writer: Writer, peers: Peers, providers: Providers) -> None:
        self._store = store
        self._writer = writer
        self._peers = peers
        self._providers = providers
        self._rows: dict[str, ConnectedRow] = {}
        self._read = -FRESH_SECONDS
        self._told: dict[str, Measured] = {}

    # ── who they are ──────────────────────────────────────────────────────────────────────────────
    async def refresh(self) -> None:
        """Read who they are, unless that is known."""
        others = {other.coordinator_id for other in self._peers.others}
        if not others:
            self._rows = {}
        elif time.monotonic() - self._read > FRESH_SECONDS:
            self._read = time.monotonic()
            found = await asyncio.to_thread(self._store.connected, others)
            self._rows = {row.provider_id: row for row in found}

    @property
    def idle(self) -> int:
        """How many slots had nothing to do, when that was read."""
        return sum(max(0, row.profile.slots - row.tasks) for row in self._rows.values())

    def nodes(self) -> list[Node]:
        """As for placement, which they are none of: for why something waits."""
        now = clock.now()
        return [_node(row, now) for row in self._rows.values()]

    def speeds(self) -> list[ProviderSpeed]:
        """What the planner needs to know."""
        return [_speed(row) for row in self._rows.values()]

    def info(self, row: ProviderRow) -> ProviderInfo | None:
        """What people are shown of one of them."""
        found = self._rows.get(row.provider_id)
        return None if found is None else _info(found, row.tasks_done, clock.now())

    # ── what they may ─────────────────────────────────────────────────────────────────────────────
    async def reads(self, who: Identity, sha: str, headers: Mapping[bytes, bytes]) -> Reads:
        """Whether a provider of this token needs the blob for a task. What a rank of a gang needs is not in the database:
        the coordinator that it is connected to is asked, with the token in `headers`."""
        if not self._peers.others or ASKED.lower().encode() in headers:
            return Reads(False)
        if await asyncio.to_thread(self._store.may_read, who, sha):
            return Reads(True)
        places = set(await asyncio.to_thread(self._store.addresses_of, who.token_id))
        asking = {"Authorization": headers[b"authorization"].decode("latin-1"), ASKED: "yes"}
        others = [other.address for other in self._peers.others if other.address in places]
        answers = [await _admits(f"{address}/blobs/{sha}", asking) for address in others]
        return next((reads for reads in answers if reads.may), Reads(False))

    async def may_write(self, who: Identity) -> bool:
        """Whether a provider of this token has a task."""
        return bool(self._peers.others) and await asyncio.to_thread(self._store.may_write, who.token_id)

    # ── what the others are told ──────────────────────────────────────────────────────────────────
    async def tell(self) -> None:
        """Until cancelled: what was measured here of providers that are connected here."""
        while not self._store.is_sqlite:
            await asyncio.sleep(TELL_SECONDS)
            if not self._peers.others:
                self._told = {}
                continue
            try:
                await self._tell()
            except RavenError as error:
                log.info("other coordinators hear later of what was measured here: %s", error)

    async def _tell(self) -> None:
        seen = {provider.provider_id: _measured(provider) for provider in self._providers}
        news = {name: one for name, one in seen.items() if _differs(self._told.get(name), one)}
        self._told = {name: one for name, one in self._told.items() if name in seen}
        if news:
            await self._writer.apply(self._store.write_measured, news, self._peers.id)
            self._told |= news


async def _admits(url: str, headers: dict[str, str]) -> Reads:
    """Whether another coordinator lets whoever sends these headers read there."""
    timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.head(url, headers=headers, allow_redirects=False) as answer,
        ):
            may = answer.status < HTTPStatus.BAD_REQUEST or answer.status == HTTPStatus.NOT_FOUND
            owner = answer.headers.get(OWNER, "")
            return Reads(may, int(owner) if owner.isdecimal() else None)
    except (aiohttp.ClientError, TimeoutError) as error:
        log.info("another coordinator could not be asked: %s", error)
        return Reads(False)


def _measured(provider: Provider) -> Measured:
    history, name = provider.history, provider.provider_id
    left = provider.resting_until - time.monotonic()
    return Measured(
        gflops=provider.gflops, link=history.link(name), latency=history.latency(name),
        resting_until=clock.now() + left if left > 0 else 0.0, resting_why=provider.resting_why,
    )  # fmt: skip


def _differs(told: Measured | None, now: Measured) -> bool:
    if told is None or bool(told.resting_until) != bool(now.resting_until):
        return True
    pairs = ((told.gflops, now.gflops), (told.link, now.link), (told.resting_until, now.resting_until))
    return any(abs(new - old) > DIFFERENT * old for old, new in pairs)


def _gflops(row: ConnectedRow) -> float:
    return row.measured.gflops if row.measured else claimed(row.profile)


def _node(row: ConnectedRow, now: float) -> Node:
    measured = row.measured
    return Node(
        provider_id=row.provider_id, gflops=_gflops(row), memory=row.profile.memory, slots=row.profile.slots,
        outstanding=row.tasks, graph_id=row.graph_id,
        resting=measured is not None and now < measured.resting_until,
        link=(measured and measured.link) or LINK,
    )  # fmt: skip


def _speed(row: ConnectedRow) -> ProviderSpeed:
    measured = row.measured
    line = Line(measured.link, teams.round_trip(measured.latency)) if measured and measured.link else None
    return ProviderSpeed(_gflops(row), row.profile.memory, row.profile.slots, line)


def _info(row: ConnectedRow, tasks_done: int, now: float) -> ProviderInfo:
    measured = row.measured
    left = measured.resting_until - now if measured else 0.0
    return ProviderInfo(
        provider_id=row.provider_id,
        name=row.profile.name,
        connected=True,
        slots=row.profile.slots,
        gflops=_gflops(row),
        link=measured.link if measured else 0.0,
        busy=min(row.tasks, row.profile.slots),
        tasks_done=tasks_done,
        software=software_of(row.profile),
        resting=f"resting for {left:.0f} s {measured.resting_why}" if measured and left > 0 else "",
    )
