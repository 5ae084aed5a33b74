"""The place where the ranks of a gang exchange what they computed: websockets at `ravop.protocol.exchange.PATH`.

A frame is passed on as it comes, to the ranks it names and nobody else; nothing is kept. A rank that reads slowly is waited
for by those who send to it: the sockets' buffers fill, and no memory of the coordinator. Which gangs there are is known
to `gangs`, which opens and closes an `Exchange` for each.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qs

from ravop.errors import GraphStateError, MessageError, RavenError
from ravop.protocol.exchange import DONE, GO, GONE, HEADER, PIECE
from ravsock.server.auth import Authenticator
from ravsock.server.http import CRASHED, Receive, Scope, Send, bearer, refuse
from ravsock.server.relay import RELAYED, relay
from ravsock.store import Identity

INVALID, FAILED = 1008, 1011
"""What a connection is closed with that is no rank's or sent no frames, and one that failed here."""
CLOSE_SECONDS = 2.0
"""Time to tell a rank that the gang is broken off; one that does not read hears it from its control connection."""
_RANK = 8
"""Bytes at the head of a frame that name ranks."""

log = logging.getLogger(__name__)


class Exchange:
    """Of one gang. `on_lost(rank, why)` is called when a rank has gone before it was done."""

    def __init__(self, ranks: int, on_lost: Callable[[int, str], None]) -> None:
        self.over = asyncio.Event()
        self.started = False
        self.code = GONE
        self._ranks = ranks
        self._on_lost = on_lost
        self._lines: dict[int, Send] = {}
        self._claimed: set[int] = set()

    @property
    def missing(self) -> tuple[int, ...]:
        """The ranks that did not come yet."""
        return tuple(rank for rank in range(self._ranks) if not self.started and rank not in self._lines)

    def close(self, code: int = GONE) -> None:
        """End all its connections."""
        self.code = code
        self.over.set()

    def claim(self, rank: int) -> None:
        """Raises `MessageError` for a rank that is there, or has been."""
        if rank in self._claimed:
            raise MessageError("this rank is connected already", expected="one connection of each rank")
        self._claimed.add(rank)

    async def join(self, rank: int, send: Send) -> None:
        """The last one to come gives the sign to begin."""
        self._lines[rank] = send
        if len(self._lines) == self._ranks:
            self.started = True
            for line in list(self._lines.values()):
                with suppress(OSError):  # gone again: its own loop notices
                    await line({"type": "websocket.send", "text": GO})

    def leave(self, rank: int, why: str) -> None:
        """Its connection ended; `why` is empty when it was done. What is still sent to it nobody wants."""
        self._lines.pop(rank, None)
        if why and not self.over.is_set():
            self._on_lost(rank, why)

    async def forward(self, rank: int, receive: Receive) -> str:
        """Pass on what the rank sends until its connection ends; why it ended, if it was not done."""
        own = rank.to_bytes(_RANK, "big")
        while (message := await receive())["type"] == "websocket.receive":
            data: Any = message.get("bytes")
            targets = self._targets(rank, data)
            frame = b"".join((own, memoryview(data)[_RANK:]))
            for target in targets:
                line = self._lines.get(target)
                if line is not None:
                    with suppress(OSError):
                        await line({"type": "websocket.send", "bytes": frame})
        code = message.get("code")
        return "" if code == DONE else f"its connection ended ({code})"

    def _targets(self, rank: int, data: Any) -> list[int]:
        """Raises `MessageError` for what is no frame of this rank."""
        if not self.started or not isinstance(data, bytes | bytearray | memoryview):
            raise MessageError("only frames are exchanged", expected=f"frames, after {GO!r}")
        if not HEADER.size <= len(data) <= HEADER.size + PIECE:
            raise MessageError(
                "not a frame",
                expected=f"at most {PIECE:,} bytes after a header",
                received=f"{len(data):,} bytes",
            )
        targets = list(_bits(int.from_bytes(data[:_RANK], "big")))
        if rank in targets or (targets and targets[-1] >= self._ranks):
            raise MessageError(
                "a frame for a rank that gets none from here",
                expected=f"ranks 0 to {self._ranks - 1} without {rank}", received=targets,
            )  # fmt: skip
        return targets


WhereIs = Callable[[int, int], Awaitable[str | None]]


class Gangs(Protocol):
    def has(self, task_id: int, attempt: int) -> bool:
        """Whether this attempt is made here."""

    def seat(self, task_id: int, attempt: int, rank: int, who: Identity) -> Exchange:
        """Where the rank belongs. Raises `RavenError` for a caller that does not belong there."""


class ExchangeEndpoint:
    """An ASGI application for `PATH`. `where_is` gives the address of another coordinator that has the gang of an attempt."""

    def __init__(self, auth: Authenticator, gangs: Gangs, where_is: WhereIs) -> None:
        self._auth = auth
        self._gangs = gangs
        self._where_is = where_is

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            problem = MessageError("frames are exchanged over a websocket", expected="an upgrade").problem
            return await refuse(send, problem, HTTPStatus.UPGRADE_REQUIRED)
        await receive()  # websocket.connect
        try:
            who, (task_id, attempt, rank) = await self._ask(scope)
            if (address := await self._elsewhere(scope, task_id, attempt)) is not None:
                return await _close(send, await relay(address, scope, receive, send))
            exchange = self._gangs.seat(task_id, attempt, rank, who)
            exchange.claim(rank)
        except RavenError as error:
            log.info("a connection to the exchange is refused: %s", error)
            return await _refuse(
                send, GONE if isinstance(error, GraphStateError) else INVALID, error.problem.message
            )
        except Exception:
            log.exception("a rank could not be let in")
            return await _refuse(send, FAILED, CRASHED.message)
        return await self._serve(exchange, rank, receive, send)

    async def _ask(self, scope: Scope) -> tuple[Identity, tuple[int, int, int]]:
        """Who it is, and what it is a rank of."""
        who = await self._auth.authenticate(bearer(scope["headers"], "provider"), "provider")
        query = parse_qs(scope["query_string"].decode("latin-1"))
        try:
            task_id, attempt, rank = (_number(query[name]) for name in ("task", "attempt", "rank"))
        except (KeyError, ValueError) as error:
            raise MessageError("which rank are you?", expected="?task=…&attempt=…&rank=…") from error
        return who, (task_id, attempt, rank)

    async def _elsewhere(self, scope: Scope, task_id: int, attempt: int) -> str | None:
        relayed = any(name == RELAYED.lower().encode() for name, _ in scope["headers"])
        return (
            None if relayed or self._gangs.has(task_id, attempt) else await self._where_is(task_id, attempt)
        )

    async def _serve(self, exchange: Exchange, rank: int, receive: Receive, send: Send) -> None:
        async def work() -> str:
            await send({"type": "websocket.accept"})
            await exchange.join(rank, send)
            return await exchange.forward(rank, receive)

        working, over = asyncio.ensure_future(work()), asyncio.ensure_future(exchange.over.wait())
        why, code = "the coordinator stopped", GONE
        try:
            await asyncio.wait({working, over}, return_when=asyncio.FIRST_COMPLETED)
            code = exchange.code
            if working.done():
                why = working.result()
        except MessageError as error:
            why, code = error.problem.text(), INVALID
        except OSError as error:
            why = f"its connection failed ({error})"
        finally:
            over.cancel()
            working.cancel()
            exchange.leave(rank, why)
        return await _close(send, code)


async def _close(send: Send, code: int, reason: str = "") -> None:
    with suppress(OSError, RuntimeError, TimeoutError):  # closed already, or it does not read
        async with asyncio.timeout(CLOSE_SECONDS):
            await send({"type": "websocket.close", "code": code, "reason": reason[:100]})


async def _refuse(send: Send, code: int, reason: str) -> None:
    """In words: a refused upgrade would have none."""
    await send({"type": "websocket.accept"})
    await _close(send, code, reason)


def _number(values: list[str]) -> int:
    (value,) = values
    if not (value.isascii() and value.isdigit() and len(value) < 20):
        raise ValueError(value)
    return int(value)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
