"""The ranks' exchange seen from a provider: one websocket of one attempt, with frames in both directions.

Lives here: connecting, waiting for the others, cutting messages into frames, and checking that what comes are frames in
their order. Putting messages together, and what they mean, is the callers' business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import aiohttp

from ravop.errors import MessageError, UnreachableError
from ravop.protocol.exchange import DONE, GO, GONE, HEADER, PATH, PIECE, Frame, pack_header, unpack
from ravop.protocol.messages import HeldTask
from ravop.transport.control import base_url

CONNECT_SECONDS = 10.0
BEAT_SECONDS = 20.0
"""So long may the line be silent."""
CLOSE_SECONDS = 10.0
"""To send what is still on its way, at the end."""
SENT_PIECE = min(PIECE, 96 * 1024)
"""Bytes of payload in one frame that we send: less costs more calls; of 256 KiB, each cost twice the time."""


class GoneError(UnreachableError):
    """The gang is broken off: the coordinator has given the work to somebody else."""


class Exchange:
    """One rank's line to the others; `connect`, then `send` and `receive`, then `close`. For one event loop.

    Args:
        url: of the coordinator.
        expected: bytes of the largest message that may come, by the rank that sends it.
    """

    def __init__(self, url: str, token: str, expected: Mapping[int, int]) -> None:
        self._url = base_url(url)
        self._token = token
        self._expected = expected
        self._sent = 0
        self._received = dict.fromkeys(expected, (0, 0))
        """By rank: the number of the message that comes now, and how much of it has come."""
        self._http: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def connect(self, attempt: HeldTask, rank: int, seconds: float) -> None:
        """Join the gang and wait until all of it is there, `seconds` at most.

        Raises `UnreachableError`, or `GoneError` where the gang is broken off.
        """
        self._http = aiohttp.ClientSession(headers={"Authorization": f"Bearer {self._token}"})
        query = {"task": attempt.task_id, "attempt": attempt.attempt, "rank": rank}
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                self._socket = await self._http.ws_connect(
                    self._url + PATH,
                    params=query,
                    heartbeat=BEAT_SECONDS,
                    max_msg_size=HEADER.size + PIECE + 1,  # aiohttp's is the first that is too large
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                )
            async with asyncio.timeout(seconds):
                message = await self._next(self._socket)
        except UnreachableError:
            raise
        except (aiohttp.ClientError, OSError) as error:  # OSError: a time-out too
            raise self._unreachable("the ranks of a gang did not come together", error) from error
        if message != GO:
            raise MessageError("the coordinator speaks before the gang is there", expected=GO)

    async def send(self, ranks: Iterable[int], payload: memoryview) -> None:
        """Send one message to each of `ranks`. Raises as `receive`. The payload may change after that."""
        socket = self._connected()
        bits = sum(1 << rank for rank in set(ranks))
        starts = range(0, max(1, len(payload)), SENT_PIECE)
        try:
            for start in starts:
                header = pack_header(bits, self._sent, start == starts[-1])
                await socket.send_bytes(header + payload[start : start + SENT_PIECE])
        except (aiohttp.ClientError, OSError) as error:
            if socket.close_code == GONE:
                raise GoneError("the gang is broken off") from error
            raise self._unreachable("the line to the other ranks broke", error) from error
        self._sent += 1

    async def receive(self) -> Frame:
        """The next piece of a message of one of the ranks that may send; those of each rank come in their order.

        Raises `GoneError` where the gang is broken off, `UnreachableError` where the line breaks, `MessageError` for
        anything that is not what should come.
        """
        data = await self._next(self._connected())
        if isinstance(data, str):
            raise MessageError("the coordinator sends text instead of a frame")
        frame = unpack(data)
        if frame.ranks not in self._received:
            raise MessageError(f"a message of rank {frame.ranks}, which should send none")
        sequence, have = self._received[frame.ranks]
        have += len(frame.payload)
        begun = have > len(frame.payload)
        if frame.sequence < sequence or (begun and frame.sequence > sequence):
            raise MessageError(f"the messages of rank {frame.ranks} are mixed up")
        if have > self._expected[frame.ranks]:
            raise MessageError(
                f"rank {frame.ranks} sends too large a message",
                expected=f"at most {self._expected[frame.ranks]:,} bytes",
                received=f"at least {have:,} bytes",
            )
        self._received[frame.ranks] = (frame.sequence + 1, 0) if frame.last else (frame.sequence, have)
        return frame

    async def close(self, *, done: bool) -> None:
        """Leave the gang: this rank is done, or cannot go on, which breaks the gang off."""
        if self._socket is not None:
            await self._socket.close(code=DONE if done else GONE)
        if self._http is not None:
            await self._http.close()

    async def _next(self, socket: aiohttp.ClientWebSocketResponse) -> bytes | str:
        message = await socket.receive()
        if message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
            data: bytes | str = message.data
            return data
        if socket.close_code == GONE:
            raise GoneError("the gang is broken off")
        raise self._unreachable("the line to the other ranks broke", f"closed with {socket.close_code}")

    def _connected(self) -> aiohttp.ClientWebSocketResponse:
        if self._socket is None:
            raise UnreachableError("not connected to the other ranks")
        return self._socket

    def _unreachable(self, message: str, cause: object) -> UnreachableError:
        told = f"{type(cause).__name__}: {cause}" if isinstance(cause, Exception) else str(cause)
        return UnreachableError(message, expected=f"a coordinator at {self._url}", received=told)
