"""What coordinators tell each other at once, so that nobody waits for the next look into the database: work became
ready, attempts are recalled, a graph looks different.

News carries no truth and may be lost: then it takes until the next look. It comes from whoever has the database or Redis, is
checked all the same, and counts only from a coordinator that lives. How it travels is in `wires`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from ravop.protocol.fields import Id
from ravop.protocol.messages import HeldTask
from ravsock.server.health import Health
from ravsock.server.peers import Peers
from ravsock.server.wires import Wire
from ravsock.store import Recall

PAUSE_SECONDS = 0.02
"""Between two letters: what happens meanwhile goes into one."""
POLL_SECONDS, POLL_ALONE_SECONDS = 5.0, 1.0
"""How often to look whether something is ready; and while no news comes."""
RETRY_SECONDS = 2.0
"""Until a broken wire is tried again."""
ITEMS = 40
"""In a letter: PostgreSQL takes less than 8,000 bytes."""
MAX_LETTER = 8_000
MAX_WAITING = 10_000
"""News that wait to be sent; more is lost."""

log = logging.getLogger(__name__)


class Ready(msgspec.Struct, frozen=True, tag=True):
    """There is more work than its own providers can take."""


class Unwanted(msgspec.Struct, frozen=True, tag=True):
    """The provider shall stop computing the task."""

    provider_id: Id
    task: HeldTask


class Changed(msgspec.Struct, frozen=True, tag=True):
    """The graph's progress looks different; `urgent`: it has ended."""

    graph_id: Id
    urgent: bool = False


Item = Ready | Unwanted | Changed


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    sender: Annotated[str, Meta(max_length=40)]
    items: Annotated[tuple[Item, ...], Meta(max_length=ITEMS)]


class News:
    """`on_ready`, `on_recall` and `on_change` are called with what the others tell. For the event loop's thread only."""

    def __init__(
        self,
        peers: Peers,
        health: Health,
        wire: Wire | None,
        on_ready: Callable[[], None],
        on_recall: Callable[[Iterable[Recall]], None],
        on_change: Callable[[str, bool], None],
    ) -> None:
        self._peers = peers
        self._health = health
        self._wire = wire
        self._on_ready = on_ready
        self._on_recall = on_recall
        self._on_change = on_change
        self._waiting: dict[Item, None] = {}
        self._due = asyncio.Event()
        self._connected = False
        self._loop = asyncio.get_running_loop()

    # ── what this one tells ───────────────────────────────────────────────────────────────────────
    def ready(self) -> None:
        self._tell(Ready())

    def recall(self, recalls: Iterable[Recall]) -> None:
        """Attempts of providers that are not connected here."""
        for recall in recalls:
            self._tell(Unwanted(recall.provider_id, recall.task))

    def change(self, graph_id: str, urgent: bool) -> None:
        self._tell(Changed(graph_id, urgent))

    def _tell(self, item: Item) -> None:
        if self._wire is not None and self._peers.others and len(self._waiting) < MAX_WAITING:
            self._waiting[item] = None
            self._due.set()

    # ── until cancelled ───────────────────────────────────────────────────────────────────────────
    async def send(self) -> None:
        """Send what is told."""
        while self._wire is not None:
            await self._due.wait()
            await asyncio.sleep(PAUSE_SECONDS)
            self._due.clear()
            items, self._waiting = list(self._waiting), {}
            parts = [tuple(items[start : start + ITEMS]) for start in range(0, len(items), ITEMS)]
            letters = [msgspec.json.encode(Letter(sender=self._peers.id, items=part)) for part in parts]
            await self._try(self._wire, self._wire.send(letters))

    async def hear(self) -> None:
        """Listen to the others."""
        while self._wire is not None:
            await self._try(self._wire, self._wire.listen(self._heard_anywhere))
            self._connected = False
            await asyncio.sleep(RETRY_SECONDS)

    async def poll(self) -> None:
        """Look into the database now and then, whatever was heard."""
        while True:
            await asyncio.sleep(POLL_SECONDS if self._connected else POLL_ALONE_SECONDS)
            if self._peers.others:
                self._on_ready()

    async def _try(self, wire: Wire, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            log.debug("news broke off", exc_info=error)
            why = f"{wire.name} does not answer: coordinators hear of each other's work later"
            self._health.note("news", why, error)

    # ── what the others tell ──────────────────────────────────────────────────────────────────────
    def _heard_anywhere(self, data: bytes) -> None:
        """On any thread."""
        self._loop.call_soon_threadsafe(self._heard, data)

    def _heard(self, data: bytes) -> None:
        if not data:  # it listens now, and may have missed something
            self._connected = True
            self._health.note("news")
            return self._on_ready()
        try:
            letter = decode_letter(data)
        except msgspec.DecodeError as error:
            return log.warning("news that is none is ignored: %s", error)
        if letter.sender in {other.coordinator_id for other in self._peers.others}:
            self._take_in(letter)
        return None

    def _take_in(self, letter: Letter) -> None:
        recalls = []
        for item in letter.items:
            match item:
                case Ready():
                    self._on_ready()
                case Unwanted(provider_id, task):
                    recalls.append(Recall(provider_id=provider_id, task=task))
                case Changed(graph_id, urgent):
                    self._on_change(graph_id, urgent)
        if recalls:
            self._on_recall(recalls)


def decode_letter(data: bytes) -> Letter:
    """Raises `msgspec.DecodeError` for anything that is none."""
    if len(data) > MAX_LETTER:
        raise msgspec.DecodeError(f"{len(data):,} bytes")
    return msgspec.json.decode(data, type=Letter)
