"""A rank's exchange that came to another coordinator than the one that has its gang: passed on, frame by frame, both ways.

Nothing is kept and nothing is looked at. A side that reads slowly is waited for by the other one.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

import aiohttp

from ravop.errors import UnreachableError
from ravop.protocol.exchange import GONE, HEADER, PATH, PIECE
from ravsock.server.http import Receive, Scope, Send

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 5.0
RELAYED = "X-Ravenverse-Relayed"
"""What one coordinator has passed on, another does not pass on again."""

log = logging.getLogger(__name__)


async def relay(address: str, scope: Scope, receive: Receive, send: Send) -> int:
    """Serve a rank by the coordinator at `address`, until one side ends. → the code to close the rank's connection with.

    Raises `UnreachableError` where that coordinator does not answer.
    """
    given = dict(scope["headers"])
    headers = {"Authorization": given.get(b"authorization", b"").decode("latin-1"), RELAYED: "yes"}
    url = f"{address}{PATH}?{scope['query_string'].decode('latin-1')}"
    async with aiohttp.ClientSession() as http:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                there = await http.ws_connect(
                    url, headers=headers, max_msg_size=HEADER.size + PIECE + 1,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                )  # fmt: skip
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(
                "the coordinator of a gang does not answer", received=str(error)
            ) from error
        await send({"type": "websocket.accept"})
        return await _pass_on(there, receive, send)


async def _pass_on(there: aiohttp.ClientWebSocketResponse, receive: Receive, send: Send) -> int:
    ways = [asyncio.ensure_future(_to(there, receive)), asyncio.ensure_future(_back(there, send))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        return there.close_code or GONE
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        await there.close(code=GONE)


async def _to(there: aiohttp.ClientWebSocketResponse, receive: Receive) -> None:
    """What the rank sends; its end is passed on with its code, which says whether it was done."""
    while (message := await receive())["type"] == "websocket.receive":
        data: Any = message.get("bytes")
        if data is None:
            await there.send_str(message.get("text") or "")
        else:
            await there.send_bytes(data)
    with suppress(OSError):
        await there.close(code=message.get("code") or GONE)


async def _back(there: aiohttp.ClientWebSocketResponse, send: Send) -> None:
    async for message in there:
        kind = "text" if message.type is aiohttp.WSMsgType.TEXT else "bytes"
        with suppress(OSError):  # the rank is gone: its own side notices
            await send({"type": "websocket.send", kind: message.data})
