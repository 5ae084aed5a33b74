"""HTTP connections that are not waited for for ever, and are no more than there is room for: uvicorn bounds neither
their number, nor the time or the bytes of a request's head.

Given to uvicorn by `run`; what a request means is no matter here.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ravop.errors import UnreachableError
from ravsock.server.descriptors import UNBOUNDED, Room

HEAD_SECONDS = 20.0
"""Until the head of a request must be complete, so that slow senders do not use up the connections."""
MAX_HEAD = 64 * 1024
"""Bytes after which the head of a request must be complete, beside those that came first."""


class Connection(HttpToolsProtocol):
    _late: asyncio.TimerHandle | None = None
    _head = 0
    _refused = False

    def __init__(self, *arguments: Any, room: Room = UNBOUNDED, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._room = room

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()
        self._refused = not self._room.has(len(self.connections))
        if self._refused and not self._room.answers(len(self.connections)):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return self._refuse()
        waiting = self._late
        super().data_received(data)
        if waiting is not None and waiting is self._late:  # all of it was head, and no end of it
            self._head += len(data)
            if self._head > MAX_HEAD:
                self.send_400_response("The head of the request is too large.")
        return None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def _refuse(self) -> None:
        """Whatever is asked."""
        problem = UnreachableError(
            "the coordinator has no room for more connections",
            expected=f"at most {self._room.places}",
            hint="try again later",
        ).problem
        body, status = msgspec.json.encode(problem), HTTPStatus.SERVICE_UNAVAILABLE
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\nretry-after: 5\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _expect_head(self) -> None:
        self._stop_waiting()
        self._head = 0
        self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
