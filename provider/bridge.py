"""`Bridge`: the daemon's part in an exchange between ranks: from the worker's mailbox to the line, and back.

The worker computes what strangers wrote: what it says is checked here, as is what other ranks send (`ravop.transport`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from pathlib import Path

from provider.mailbox import Mailbox
from provider.wire import Arrived, Broken, Sending, Sent, Taken
from ravop.errors import CrashedError, UnreachableError
from ravop.protocol.exchange import Frame
from ravop.protocol.messages import HeldTask
from ravop.protocol.parts import Part, largest_messages
from ravop.transport.exchange import Exchange

QUEUED = 64 * 1024 * 1024
"""Bytes that may wait for the worker, beyond one message of each rank, before no more are taken from the line."""

Tell = Callable[[Arrived | Sent | Broken], None]


class Bridge:
    """One attempt's exchange. `open` it, let `pass_on` go on while the worker runs, `finish` and `close` it.

    Args:
        seconds: to wait for the other ranks at most.
    """

    def __init__(self, url: str, token: str, attempt: HeldTask, part: Part, seconds: float) -> None:
        _, expected = largest_messages(part)
        self._line = Exchange(url, token, expected)
        self._attempt = attempt
        self._part = part
        self._seconds = seconds
        self._path: Path | None = None
        self._box: Mailbox
        self._tell: Tell
        self._outgoing: asyncio.Queue[Sending] = asyncio.Queue(1)
        self._pieces: dict[int, deque[Frame]] = {rank: deque() for rank in expected}
        """By rank: what has come and is not yet in the mailbox."""
        self._filled = dict.fromkeys(expected, 0)
        """By rank: bytes in the mailbox of a message that is not all there."""
        self._full: set[int] = set()
        """Ranks of which the mailbox has a message that is all there."""
        self._finished = False
        self._queued = 0
        self._most = QUEUED + sum(expected.values())
        self._room = asyncio.Event()

    def open(self, path: Path, tell: Tell) -> None:
        """Make the mailbox; `tell` is how the worker is told. Raises `OSError`."""
        self._tell = tell
        self._box = Mailbox(path, self._part, create=True)
        self._path = path

    async def pass_on(self) -> None:
        """Join the other ranks and pass messages on, until this one has finished.

        Raises `GoneError` where the gang is broken off, `UnreachableError` where the line breaks, `MessageError` for
        what should not come.
        """
        await self._line.connect(self._attempt, self._part.rank, self._seconds)
        both = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]
        try:
            await asyncio.gather(*both)
        except UnreachableError:
            if not self._finished:
                raise
        finally:
            for task in both:
                task.cancel()
            await asyncio.wait(both)

    def heard(self, message: Sending | Taken) -> None:
        """What the worker says. Raises `CrashedError` for what it cannot say now."""
        match message:
            case Sending(ranks=ranks, size=size):
                others = set(range(self._part.ranks)) - {self._part.rank}
                if self._outgoing.full() or size > len(self._box.outgoing) or not others.issuperset(ranks):
                    raise CrashedError("the worker process sends a message that it cannot send")
                self._outgoing.put_nowait(message)
            case Taken(rank=rank):
                if rank not in self._full:
                    raise CrashedError("the worker process takes a message that is not there")
                self._full.remove(rank)
                self._pour(rank)

    async def finish(self) -> None:
        """Leave the other ranks when all that the worker sent is on its way; `pass_on` must go on, and ends then."""
        await self._outgoing.join()
        self._finished = True
        await self._line.close(done=True)

    async def close(self) -> None:
        """Remove the mailbox, and break the gang off unless this rank has finished. `pass_on` must have ended."""
        await self._line.close(done=False)
        if self._path is not None:
            self._box.close()
            with contextlib.suppress(OSError):  # Windows keeps it while the worker has it open
                self._path.unlink()

    async def _send(self) -> None:
        while True:
            message = await self._outgoing.get()
            await self._line.send(message.ranks, self._box.outgoing[: message.size])
            self._outgoing.task_done()
            self._tell(Sent())

    async def _receive(self) -> None:
        while True:
            frame = await self._line.receive()
            self._pieces[frame.ranks].append(frame)
            self._queued += len(frame.payload)
            self._pour(frame.ranks)
            while self._queued > self._most:
                self._room.clear()
                await self._room.wait()

    def _pour(self, rank: int) -> None:
        """Put what has come of a rank into the mailbox, up to the end of a message."""
        pieces = self._pieces[rank]
        while pieces and rank not in self._full:
            frame = pieces.popleft()
            start = self._filled[rank]
            self._filled[rank] = end = start + len(frame.payload)
            self._box.incoming[rank][start:end] = frame.payload
            self._queued -= len(frame.payload)
            if frame.last:
                self._filled[rank] = 0
                self._full.add(rank)
                self._tell(Arrived(rank=rank, size=end))
        self._room.set()
