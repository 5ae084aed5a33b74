"""`Sandbox`: one slot. Computes strangers' batches in a worker process with limits on memory and time.

The worker has no credentials, low priority and no core dumps (`provider.limits`). When it crashes, or has to
be killed for taking too much memory or time, the next batch gets a fresh one. Scheduling is the daemon's
business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import msgspec

from provider.bridge import Bridge
from provider.child import Child
from provider.part import run_part
from provider.wire import (
    MAILBOX,
    PLACE,
    PROGRESS,
    Failed,
    Measure,
    Measured,
    Ran,
    Ready,
    Run,
    Setup,
    output_file,
)  # fmt: skip
from ravop.errors import (
    ComputeError,
    CrashedError,
    DeadlineError,
    OutOfMemoryError,
    error_from_problem,
)
from ravop.protocol.messages import Task, models_needed

WATCH_SECONDS = 0.05
MEASURE_SECONDS = 30.0


class Sandbox:
    """One worker process at a time, started when needed.

    Args:
        folder: of this slot; large outputs appear there.
        blobs: folder of the blob cache, which the worker reads.
        memory: bytes one subgraph may use.
        threads: of the engine.
    """

    def __init__(self, folder: Path, blobs: Path, memory: int, threads: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob("output-*.npy"):
            left_over.unlink(missing_ok=True)
        (folder / PROGRESS).write_bytes(bytes(PLACE.size))
        self._folder = folder
        self._runs = 0
        self._setup = Setup(memory=memory, threads=threads, blobs=str(blobs), folder=str(folder))
        self._worker: asyncio.Task[Child] | None = None
        """Starts a worker, or has started it. Nobody cancels it: half-made processes are lost processes."""
        self._ending: set[asyncio.Task[Any]] = set()
        """What goes on for workers that are given up."""
        self._models: set[str] = set()
        self._breaking: asyncio.Task[Any] | None = None
        """A part that is being broken off, or was."""

    @property
    def pid(self) -> int | None:
        """Of the worker, when there is one that lives."""
        if self._worker is None or not self._worker.done() or _useless(self._worker):
            return None
        return self._worker.result().pid

    def knows(self, models: AbstractSet[str]) -> bool:
        """Whether the worker has run all these models before."""
        return models <= self._models

    async def start(self) -> Ready:
        """Start the worker unless it runs. Raises `CrashedError` where that does not work."""
        return (await self._alive()).ready

    async def run(self, tasks: Sequence[Task], seconds: float) -> Ran:
        """Compute a batch; `memory` of the result is the peak. Cancelling kills the worker.

        Raises `OutOfMemoryError`, `DeadlineError` after `seconds`, or `CrashedError`; `place` then tells which
        task did it. What else becomes of the tasks is in the result.
        """
        fresh = not self._models
        self._runs += 1
        run = Run(number=self._runs, tasks=tuple(tasks))
        try:
            ran = await self._run(run, seconds)
            if fresh or not _lacked_memory(ran):
                return ran
        except OutOfMemoryError:
            if fresh:
                raise
        # What former subgraphs left in the process counts too: try once more without it.
        return await self._run(run, seconds)

    async def run_part(self, task: Task, seconds: float, bridge: Bridge) -> Ran:
        """Compute a task with a part, while `bridge` passes its messages on. Cancelling breaks the run off, and the
        worker lives on. Closes `bridge`.

        Raises as `run`, and what `Bridge.pass_on` raises.
        """
        self._runs += 1
        run = Run(number=self._runs, tasks=(task,))
        child = await self._alive()
        stop = asyncio.Event()
        asking = asyncio.create_task(run_part(child, run, bridge, self._folder / MAILBOX, stop))
        try:
            peak = await self._watch(child, asking, seconds)
        except asyncio.CancelledError:
            stop.set()  # instead of cancelling it: it may be tidying up already
            self._breaking = asking
            self._end_with(asking)
            raise
        except BaseException:
            self._end_with(asking)
            await self.close()
            raise
        return await self._taken(run, asking.result(), peak)

    @property
    def place(self) -> int:
        """The task that the worker came to last, by its place in the batch."""
        with (self._folder / PROGRESS).open("rb") as file:
            (place,) = PLACE.unpack(file.read(PLACE.size))
        return int(place)

    async def measure(self) -> Measured:
        """The engine's speed. Raises `ComputeError` where the engine does not work here."""
        reply: Measured
        reply, _ = await self._ask(Measure(), Measured, MEASURE_SECONDS)
        return reply

    def outputs(self, ran: Ran) -> dict[int, Path]:
        """The files of the last run's outputs, by `Produced.file`."""
        numbers = [output.file for result in ran.results for output in result.outputs]
        return {number: self.output(number) for number in numbers if number is not None}

    def output(self, number: int) -> Path:
        """File number `number` of the last run."""
        return self._folder / output_file(self._runs, number)

    def discard(self) -> None:
        """Remove the files of the last run: nobody takes them."""
        for file in self._folder.glob(output_file(self._runs, 0).replace("-0.", "-*.")):
            with contextlib.suppress(OSError):  # Windows: the worker is just ending
                file.unlink()

    async def close(self) -> None:
        """End the worker and wait until it is gone. When cancelled, it ends all the same; a later call waits
        for it.
        """
        worker, self._worker = self._worker, None
        self._models.clear()
        if worker is not None:
            self._end_with(asyncio.create_task(_killed(worker)))
        if self._ending:
            await asyncio.wait(self._ending)

    def _end_with(self, task: asyncio.Task[Any]) -> None:
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._ending.discard(task)
        if not task.cancelled():
            task.exception()  # the worker was given up: how it died is of no interest

    async def _run(self, run: Run, seconds: float) -> Ran:
        return await self._taken(run, *await self._ask(run, Ran, seconds))

    async def _taken(self, run: Run, reply: Ran, peak: int) -> Ran:
        """The reply, if it is one to this run."""
        if not _fits(run, reply):
            await self.close()
            raise CrashedError("the worker process answered with other outputs than it was asked for")
        if _lacked_memory(reply):
            await self.close()
        else:
            self._models.update(*map(models_needed, run.tasks))
        return msgspec.structs.replace(reply, memory=max(peak, reply.memory))

    async def _ask(self, message: Run | Measure, expect: Any, seconds: float) -> tuple[Any, int]:
        """The reply, and the most memory seen meanwhile."""
        child = await self._alive()
        asking = asyncio.create_task(child.ask(message, (expect, Failed)))
        try:
            peak = await self._watch(child, asking, seconds)
            reply = asking.result()
        except BaseException:
            self._end_with(asking)
            try:
                await self.close()
            finally:
                self.discard()
            raise
        if isinstance(reply, Failed):
            raise error_from_problem(reply.problem)
        return reply, peak

    async def _watch(self, child: Child, asking: asyncio.Task[Any], seconds: float) -> int:
        """Wait for the reply. → the most memory seen. Raises `OutOfMemoryError` and `DeadlineError`."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        peak = 0
        while True:
            await asyncio.wait({asking}, timeout=min(WATCH_SECONDS, max(0.0, end - clock())))
            if asking.done():
                return peak
            peak = max(peak, child.memory())
            if peak > self._setup.memory:
                raise OutOfMemoryError(
                    "the subgraph needs more memory than this provider offers",
                    expected=f"at most {self._setup.memory:,} bytes",
                    received=f"{peak:,} bytes",
                    hint="use smaller batches, or a provider with more memory",
                )
            if clock() >= end:
                raise DeadlineError(
                    "the subgraph took longer than its lease",
                    expected=f"at most {seconds:g} s",
                    hint="a faster provider may do it",
                )

    async def _alive(self) -> Child:
        if self._breaking is not None:
            await asyncio.wait({self._breaking})
            self._breaking = None
        if self._worker is not None and _useless(self._worker):
            await self.close()
        if self._worker is None:
            self._worker = asyncio.create_task(Child.start(self._setup))
        return await asyncio.shield(self._worker)


def _fits(run: Run, ran: Ran) -> bool:
    """Whether these are results of that run: one for each task, or of those before the one that failed."""
    done = len(ran.results)
    return (done < len(run.tasks) if ran.problem else done == len(run.tasks)) and all(
        [output.name for output in result.outputs] == [spec.name for spec in task.outputs]
        for task, result in zip(run.tasks, ran.results, strict=False)
    )


def _lacked_memory(ran: Ran) -> bool:
    return ran.problem is not None and ran.problem.code == OutOfMemoryError.code


def _succeeded(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _useless(worker: asyncio.Task[Child]) -> bool:
    """Whether it did not start, or died while it had nothing to do."""
    return worker.done() and (not _succeeded(worker) or worker.result().dead)


async def _killed(worker: asyncio.Task[Child]) -> None:
    with contextlib.suppress(ComputeError, OSError):  # it did not even start
        await (await worker).kill()
