"""One worker process seen from the daemon: starting it, asking it, ending it.

No limits here: the sandbox watches memory and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil

from provider.limits import clean_environment, private_memory
from provider.wire import (
    HEADER,
    FromWorker,
    Ready,
    Sending,
    Setup,
    Taken,
    ToWorker,
    body_length,
    pack,
    unpack,
)  # fmt: skip
from ravop.errors import ComputeError, CrashedError, MessageError, OutOfMemoryError

START_SECONDS = 60.0
DYING_SECONDS = 1.0
"""What a worker that has closed its pipes gets for ending by itself, so that its own exit code can be told."""
MAX_STDERR = 4_000
"""Bytes of the worker's last words that are kept for the error."""
_MEMORY_WORDS = re.compile(rb"bad_alloc|MemoryError|cannot allocate memory", re.IGNORECASE)


class Child:
    """A running worker. Made by `start`; `ready` is what it said of itself."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("the worker needs three pipes")
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._stderr = bytearray()
        self._listener = asyncio.create_task(self._listen(process.stderr))
        self.pid = process.pid
        self.ready: Ready
        self._watched: psutil.Process | None = None
        with contextlib.suppress(psutil.NoSuchProcess):  # died at once: the first `ask` tells
            self._watched = psutil.Process(process.pid)
        self._base = 0

    @classmethod
    async def start(cls, setup: Setup) -> Child:
        """Raises `CrashedError` where the worker does not come up."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "provider.worker",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=clean_environment(os.environ, setup.threads), cwd=Path(setup.folder), **_apart(),
        )  # fmt: skip
        child = cls(process)
        try:
            async with asyncio.timeout(START_SECONDS):
                child.ready = await child.ask(setup, Ready)
        except TimeoutError as error:
            await child.kill()
            raise CrashedError(
                "a worker process did not start",
                expected=f"within {START_SECONDS:g} s",
                received=child.last_words(),
            ) from error
        except BaseException:
            await child.kill()
            raise
        if child._watched is not None:
            with contextlib.suppress(psutil.Error):  # died meanwhile: the next `ask` tells
                child._base = private_memory(child._watched)
        return child

    def tell(self, message: ToWorker) -> None:
        """Say something small that needs no reply."""
        self._stdin.write(pack(message))

    def ask(
        self, message: ToWorker, expect: Any, heard: Callable[[Sending | Taken], None] | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Send the message at once; await the worker's reply. `heard` gets what it says before that, in its turn.

        Awaiting raises `CrashedError` (or `OutOfMemoryError`, where its last words say so) when it dies.
        """
        self._stdin.write(pack(message))
        return self._reply(expect, heard)

    async def _reply(self, expect: Any, heard: Callable[[Sending | Taken], None] | None) -> Any:
        try:
            await self._stdin.drain()
            reply = await self._hear()
            while heard is not None and isinstance(reply, Sending | Taken):
                heard(reply)
                reply = await self._hear()
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise await self._death() from error
        except MessageError as error:
            await self.kill()
            raise CrashedError(
                "the worker process answered nonsense", received=error.problem.received
            ) from error
        if not isinstance(reply, expect):
            await self.kill()
            raise CrashedError("the worker process answered something else", received=type(reply).__name__)
        return reply

    async def _hear(self) -> FromWorker:
        header = await self._stdout.readexactly(HEADER.size)
        message: FromWorker = unpack(await self._stdout.readexactly(body_length(header)), FromWorker)
        return message

    @property
    def dead(self) -> bool:
        return self._process.returncode is not None

    def memory(self) -> int:
        """Bytes it uses now beyond what it used when it started."""
        return 0 if self._watched is None else max(0, private_memory(self._watched) - self._base)

    def last_words(self) -> str:
        return self._stderr.decode(errors="replace").strip()

    async def kill(self) -> int:
        """End the worker at once and wait until it is gone. → its exit code.

        Not by `Process.kill`: that polls before, and so takes the exit code of a worker that has just died
        away from asyncio, which then reports 255.
        """
        if not self.dead and self._watched is not None:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it is ending already
                self._watched.kill()
        return await self._gone()

    async def _gone(self) -> int:
        self._stdin.close()
        with contextlib.suppress(ConnectionError):
            await self._stdin.wait_closed()
        code = await self._process.wait()
        await asyncio.wait({self._listener})
        return code

    async def _death(self) -> ComputeError:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DYING_SECONDS):
                await self._process.wait()
        code = await self.kill()  # without its pipes it is of no use any more
        if _MEMORY_WORDS.search(self._stderr):
            return OutOfMemoryError(
                "the subgraph needs more memory than this provider offers",
                received=self.last_words(),
                hint="use smaller batches, or a provider with more memory",
            )
        return CrashedError(
            "the process that computed the subgraph died",
            received=f"{_ending(code)}. {self.last_words()}".strip(),
        )

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        while text := await stderr.read(MAX_STDERR):
            self._stderr += text
            del self._stderr[:-MAX_STDERR]


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _apart() -> dict[str, Any]:
    """Keeps the terminal's Ctrl-C away from workers: the daemon decides what happens to their task."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}
