"""`Connection`: one life of the line to the coordinator, as a provider uses it.

Registers, beats, delivers. What to do with what comes, and when to connect again, is `core.lifecycle`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any, TypeVar

from msgspec.structs import replace

from ravop import tracing
from ravop.errors import MessageError, Problem, RavenError, UnreachableError
from ravop.protocol.messages import (
    MAX_MESSAGE,
    Beat,
    Beaten,
    HeldTask,
    Hello,
    Message,
    Register,
    Registered,
    Report,
    Reported,
    TaskResult,
    ToProvider,
)
from ravop.protocol.tensors import Inline, blobs_of
from ravop.transport import ControlConnection

T = TypeVar("T", bound=Message)
Upload = Callable[[Collection[str]], Awaitable[None]]
"""Brings blobs to the coordinator."""

MAX_ROUNDS = 5
"""How often a coordinator may miss blobs of one result."""
PIECE = MAX_MESSAGE // 2
"""Bytes of results, about, that go in one report."""
RESULT_BYTES, OUTPUT_BYTES = 64, 128
"""What a result, and each of its outputs, takes in a report beside names and data."""


class Connection:
    """`connect`, `register`, `live` until it ends, `close`.

    `on_message` gets what the coordinator sends by itself; its return value is the acknowledgement.
    """

    def __init__(self, url: str, hello: Hello, on_message: Callable[[Any], Awaitable[Message]]) -> None:
        self._control = ControlConnection(url, hello, on_message, ToProvider)
        self._reason: Problem | None = None

    @property
    def open(self) -> bool:
        return not self._control.closed.is_set()

    async def connect(self) -> None:
        """Raises what `ControlConnection.connect` raises."""
        await self._control.connect()

    async def register(self, register: Register) -> Registered:
        """Raises the coordinator's refusal, `UnreachableError` or `WaitTimeoutError`."""
        return await self._call(register, Registered)

    async def beat(self, holding: tuple[HeldTask, ...], doing: str) -> Beaten:
        """Raises as `register`."""
        return await self._call(Beat(holding=holding, doing=doing), Beaten)

    async def deliver(self, report: Report, upload: Upload) -> None:
        """Have the blobs of the results uploaded and tell the coordinator what became of a batch.

        Returns when the coordinator has it, or does not want it. Raises `UnreachableError`,
        `WaitTimeoutError`, `StorageFullError` and the like where a later attempt may work, other
        `RavenError`s where not.
        """
        for piece in pieces(report):
            await self._deliver(piece, upload)

    async def _deliver(self, report: Report, upload: Upload) -> None:
        wanted = {
            blob.sha for result in report.done for output in result.outputs for blob in blobs_of(output.ref)
        }
        for _ in range(MAX_ROUNDS):
            if wanted:
                await upload(wanted)
            reply = await self._call(replace(report, trace=tracing.current()), Reported)
            if not reply.missing:
                return
            wanted = set(reply.missing)
        raise UnreachableError(
            "the coordinator does not keep the blobs it gets",
            expected="every blob once",
            received=f"{MAX_ROUNDS} times",
        )

    async def wait(self, seconds: float) -> bool:
        """Whether the line still holds after so many seconds; returns as soon as it does not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._control.closed.wait()
        return self.open

    async def ended(self) -> Problem:
        """Wait for the end of the line. → why it ended."""
        await self._control.closed.wait()
        return self._reason or UnreachableError("the connection to the coordinator was lost").problem

    async def close(self, reason: RavenError | None = None) -> None:
        if reason is not None and self._reason is None:
            self._reason = reason.problem
        await self._control.close()

    async def _call(self, message: Message, kind: type[T]) -> T:
        reply = await self._control.call(message)
        if not isinstance(reply, kind):
            raise MessageError(
                f"the coordinator answered {type(message).__name__} with something else",
                expected=kind.__name__,
                received=type(reply).__name__,
            )
        return reply


def pieces(report: Report) -> Iterator[Report]:
    """The report, or several that each fit into one message. A result that others need goes before them."""
    first, size = 0, 0
    for place, result in enumerate(report.done):
        size += _bytes_of(result)
        if size > PIECE and place > first:
            yield Report(done=report.done[first:place])
            first, size = place, _bytes_of(result)
    yield replace(report, done=report.done[first:]) if first else report


def _bytes_of(result: TaskResult) -> int:
    return RESULT_BYTES + sum(
        OUTPUT_BYTES + len(output.name) + (len(output.ref.data) if isinstance(output.ref, Inline) else 0)
        for output in result.outputs
    )
