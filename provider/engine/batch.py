"""`Batches`: one batch from its `Run` to its `Ran`: reads inputs, hands on what a later task needs, writes outputs."""

from __future__ import annotations

import errno
import mmap
import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import psutil

from provider import limits
from provider.engine.mail import WorkerMail
from provider.engine.parts import PartRun
from provider.engine.runner import Runner, checked
from provider.mailbox import Mailbox
from provider.wire import (
    MAILBOX,
    MAX_INLINE,
    PLACE,
    PROGRESS,
    Produced,
    Ran,
    Result,
    Run,
    Sending,
    Setup,
    Taken,
    ToWorker,
    output_file,
)  # fmt: skip
from ravop.errors import BlobError, OutOfMemoryError, Problem, RavenError, StorageFullError
from ravop.protocol.messages import Earlier, Task
from ravop.protocol.parts import Part
from ravop.protocol.tensors import (
    INLINE_LIMIT,
    Array,
    Blob,
    TensorRef,
    decode_tensor,
    encode_tensor,
    resolve,
    write_tensor,
)

DISK_TROUBLE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}
)
"""What is this machine's fault, and no task's."""


class Batches:
    """Answers runs. `setup` has limits, folders and threads; `tell` and `hear` are for the exchange of a part."""

    def __init__(
        self, setup: Setup, tell: Callable[[Sending | Taken], None], hear: Callable[[], ToWorker]
    ) -> None:
        self._tell, self._hear = tell, hear
        self._part: PartRun | None = None
        """The part that is run."""
        self._blobs = Path(setup.blobs)
        self._folder = Path(setup.folder)
        self._process = psutil.Process()
        self._base = limits.private_memory(self._process)
        self._crowd = setup.memory // 2
        self._runner = Runner(self._model, setup.threads, setup.memory)
        with (self._folder / PROGRESS).open("r+b") as file:
            self._progress = mmap.mmap(file.fileno(), PLACE.size)

    def run(self, run: Run) -> Ran:
        """What came of the batch. What is not foreseen here ends the process: the sandbox reports it and starts
        a fresh one.
        """
        batch = _Batch(run, self._folder)
        results: list[Result] = []
        problem = None
        self._part = None
        for place, task in enumerate(run.tasks):
            PLACE.pack_into(self._progress, 0, place)
            try:
                results.append(self._task(task, place, batch))
            except (RavenError, OSError, MemoryError) as error:
                problem = _problem(error)
                break
        memory = max(0, limits.private_memory(self._process) - self._base)
        if memory > self._crowd:
            self._runner.forget()
        failing = self._part.computing if self._part is not None and problem is not None else None
        return Ran(
            results=tuple(results),
            problem=problem,
            subgraph=failing,
            memory=memory,
            slow=self._runner.slow(),
        )

    def _task(self, task: Task, place: int, batch: _Batch) -> Result:
        start = time.perf_counter()
        inputs = {given.name: self._input(given.ref, batch) for given in task.inputs}
        if task.part is None:
            arrays = self._runner.run(task.subgraph, inputs, task.outputs)
        else:
            arrays = checked(self._run_part(task.part, inputs), task.outputs)
        seconds = time.perf_counter() - start
        outputs = tuple(
            batch.produce(place, spec.name, array) for spec, array in zip(task.outputs, arrays, strict=True)
        )
        return Result(outputs=outputs, seconds=seconds)

    def _run_part(self, part: Part, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with closing(Mailbox(self._folder / MAILBOX, part)) as box:
            self._part = PartRun(part, self._runner.session, WorkerMail(box, self._tell, self._hear))
            return self._part.run(inputs)

    def _input(self, ref: TensorRef | Earlier, batch: _Batch) -> Array:
        return batch.made[ref.task, ref.output] if isinstance(ref, Earlier) else resolve(ref, self._read)

    def _read(self, blob: Blob) -> Array:
        """The tensor in a cached blob, mapped instead of copied."""
        with (self._blobs / blob.sha).open("rb") as file:
            if blob.size == 0 or os.fstat(file.fileno()).st_size != blob.size:
                raise BlobError(
                    "an input's blob is not of the announced size", expected=f"{blob.size:,} bytes"
                )
            return decode_tensor(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))

    def _model(self, subgraph: str) -> bytes:
        return (self._blobs / subgraph).read_bytes()


class _Batch:
    """What a batch has produced so far."""

    def __init__(self, run: Run, folder: Path) -> None:
        self._run = run.number
        self._folder = folder
        self._wanted = {
            (given.ref.task, given.ref.output)
            for task in run.tasks
            for given in task.inputs
            if isinstance(given.ref, Earlier)
        }
        self._room = MAX_INLINE
        self._files = 0
        self.made: dict[tuple[int, str], Array] = {}
        """Outputs that later tasks need, by place and name."""

    def produce(self, place: int, name: str, array: Array) -> Produced:
        """The output as it leaves: in the message while there is room, else in a file."""
        if (place, name) in self._wanted:
            self.made[place, name] = array
        if array.nbytes < min(INLINE_LIMIT, self._room):
            data = encode_tensor(array)
            if len(data) <= INLINE_LIMIT:
                self._room -= len(data)
                return Produced(name=name, data=data)
        number, self._files = self._files, self._files + 1
        with (self._folder / output_file(self._run, number)).open("wb") as file:
            write_tensor(array, file)
        return Produced(name=name, file=number)


def _problem(error: RavenError | OSError | MemoryError) -> Problem:
    match error:
        case RavenError():
            return error.problem
        case MemoryError():
            return OutOfMemoryError(
                "the subgraph needs more memory than this provider offers", received=error
            ).problem
    if error.errno in DISK_TROUBLE:
        return StorageFullError("the provider cannot write to its disk", received=error).problem
    return BlobError("an input or output file cannot be used", received=error).problem
