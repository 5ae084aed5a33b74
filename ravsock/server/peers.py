"""The coordinators that serve this database together: this one says every few seconds that it lives, and hears who else
does, what time it is by the database's clock, and whether a newer version of the program has changed the schema.

On SQLite this one is alone and nothing is said. What the others tell is in `news`, their providers are in `elsewhere`.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable

from ravop.errors import ArgumentError, RavenError, VersionError
from ravop.release import software
from ravsock.core import deadlines
from ravsock.core.clock import JUMP_SECONDS
from ravsock.server import clock
from ravsock.server.health import Health
from ravsock.store import BlobStore, CoordinatorRow, Pulse, Store

_ONE_STORE = "give all of them the same --blobs: one bucket, or one folder that all reach"

log = logging.getLogger(__name__)


class Peers:
    """`join`, then `run` until cancelled, then `leave`. `outdated` is called once, when this program is too old."""

    def __init__(
        self, store: Store, blobs: BlobStore, health: Health, address: str, outdated: Callable[[], None]
    ) -> None:
        self.id = uuid.uuid4().hex
        self.address = address
        self._blobs = "" if store.is_sqlite else blobs.identity()
        self.others: tuple[CoordinatorRow, ...] = ()
        """Those that live, but for this one."""
        self.draining = False
        """This one is about to end."""
        self._store = store
        self._health = health
        self._outdated = outdated
        self._revision = ""
        self._drift = 0.0

    @property
    def attended(self) -> frozenset[str]:
        """The ids of all that live: they look after what their providers have."""
        return frozenset({self.id, *(other.coordinator_id for other in self.others)})

    @property
    def share(self) -> tuple[int, int]:
        """Which place this one has among those that hand out work, and how many they are."""
        hands = sorted({self.id, *(other.coordinator_id for other in self.others if not other.draining)})
        return hands.index(self.id), len(hands)

    def jump(self) -> float:
        """By how many seconds the clock that this one goes by has jumped; 0 where it has not."""
        return clock.jump() if self._store.is_sqlite else self._drift

    def follow(self, seconds: float) -> None:
        """Jump too: what was written down is moved by as much."""
        clock.follow(seconds)
        self._drift = 0.0

    @property
    def eldest(self) -> bool:
        """Whether this one does what one shall do for all."""
        return self.id == min(self.attended)

    def join(self) -> None:
        """Blocks: nothing is served before. Raises `UnreachableError` where the database does not answer, `ArgumentError` where
        the others keep their blobs elsewhere."""
        if not self._store.is_sqlite:
            pulse, came, took = self._beat()
            clock.follow(pulse.now - clock.at(came - took / 2))
            self._hear(pulse, came, took)
            if strangers := self._strangers():
                self._store.forget_coordinator(self.id)
                raise ArgumentError(
                    "the other coordinators of this database keep their blobs elsewhere",
                    expected=f"the blobs of {strangers}", hint=_ONE_STORE,
                )  # fmt: skip

    async def run(self) -> None:
        """Until cancelled."""
        while not self._store.is_sqlite:
            await asyncio.sleep(deadlines.HEARD_SECONDS)
            try:
                self._hear(*await asyncio.to_thread(self._beat))
            except Exception as error:  # noqa: BLE001 — it is told and logged, and tried again
                self._health.failed("the other coordinators could not be told that this one lives", error)

    async def drain(self) -> None:
        """Tell the others that this one is about to end."""
        self.draining = True
        if not self._store.is_sqlite:
            await self._at_the_end(self._beat)

    async def leave(self) -> None:
        """The others look after what its providers have, at once."""
        if not self._store.is_sqlite:
            await self._at_the_end(lambda: self._store.forget_coordinator(self.id))

    async def _at_the_end(self, call: Callable[[], object]) -> None:
        try:
            await asyncio.to_thread(call)
        except RavenError as error:
            log.warning("the other coordinators must notice by themselves that this one ends: %s", error)

    def _beat(self) -> tuple[Pulse, float, float]:
        """On any thread; also when the answer came, and how long it took."""
        began = time.monotonic()
        pulse = self._store.beat(self.id, self.address, software(), self.draining, self._blobs)
        came = time.monotonic()
        return pulse, came, came - began

    def _hear(self, pulse: Pulse, came: float, took: float) -> None:
        living = [row for row in pulse.coordinators if row.silent <= deadlines.DEAD_SECONDS]
        others = tuple(row for row in living if row.coordinator_id != self.id)
        _log_changes(self.others, others)
        self.others = others
        strangers = self._strangers()
        why = f"coordinators keep their blobs elsewhere, and find no blobs of each other: {strangers}; {_ONE_STORE}"
        self._health.note("blobs of others", why if strangers else "")
        self._keep_time(pulse.now - clock.at(came - took / 2), took)
        if self._revision and pulse.revision != self._revision:
            self._health.ends(_newer(self._revision, pulse.revision))
            self._outdated()
        self._revision = pulse.revision

    def _strangers(self) -> str:
        """The addresses of those that have another store of blobs."""
        return ", ".join(other.address for other in self.others if other.blobs != self._blobs)

    def _keep_time(self, drift: float, took: float) -> None:
        """Small differences are corrected at once; a jump waits for whoever moves what was written down. What the time that the
        answer `took` explains as well is none."""
        known = abs(drift) > took / 2
        self._drift = drift if known and abs(drift) > JUMP_SECONDS else 0.0
        if known and not self._drift:
            clock.follow(drift)


def _newer(mine: str, found: str) -> VersionError:
    return VersionError(
        "the database was changed by a newer version of the program",
        expected=f"revision {mine}", received=f"revision {found}",
        hint="this coordinator ends; start it again with the newer release of ravenverse",
    )  # fmt: skip


def _log_changes(before: tuple[CoordinatorRow, ...], now: tuple[CoordinatorRow, ...]) -> None:
    was, is_ = ({row.coordinator_id: row.address for row in rows} for rows in (before, now))
    for name in is_.keys() - was.keys():
        log.info("the coordinator at %s serves this database too", is_[name])
    for name in was.keys() - is_.keys():
        log.info("the coordinator at %s has left", was[name])
