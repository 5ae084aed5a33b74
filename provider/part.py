"""Runs a task's part in a worker, while `Bridge` passes its messages on: whichever of the two ends, the other ends too.

Limits on memory and time are `sandbox`'s, which is the only caller.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from provider.bridge import Bridge
from provider.child import Child
from provider.wire import Broken, Ran, Run
from ravop.errors import UnreachableError

BREAK_SECONDS = 2.0
"""A worker whose part is broken off has so long to be ready for other work."""


async def run_part(child: Child, run: Run, bridge: Bridge, mailbox: Path, stop: asyncio.Event) -> Ran:
    """The worker's reply. When this ends in any other way, the worker has ended the run too, or is killed. Closes `bridge`.

    Raises `UnreachableError` where `stop` is set, `CrashedError`, and what `Bridge.pass_on` raises.
    """
    bridge.open(mailbox, child.tell)
    asking = asyncio.create_task(child.ask(run, Ran, bridge.heard))
    passing = asyncio.create_task(bridge.pass_on())
    flushing = asyncio.create_task(_flush(asking, bridge))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({passing, flushing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if flushing.done():
            return flushing.result()
        if passing.done():
            passing.result()  # raises, unless the reply is there
        if stop.is_set():
            raise _broken_off()
        return await flushing
    finally:
        for task in (passing, flushing, stopping):
            task.cancel()
        if not asking.done():
            child.tell(Broken(problem=_broken_off().problem))
            await asyncio.wait({asking}, timeout=BREAK_SECONDS)
        if not asking.done() or asking.exception() is not None:
            await child.kill()
        await asyncio.wait({asking, passing, flushing, stopping})
        await bridge.close()


def _broken_off() -> UnreachableError:
    return UnreachableError("the exchange with other ranks is broken off")


async def _flush(asking: asyncio.Task[Ran], bridge: Bridge) -> Ran:
    """The worker's reply, when all that it sent before is on its way."""
    reply = await asyncio.shield(asking)
    if reply.problem is None:
        await bridge.finish()
    return reply
