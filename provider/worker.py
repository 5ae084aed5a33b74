"""The worker process: computes what the daemon sends, one subgraph at a time. `python -m provider.worker`.

Speaks `provider.wire` on stdin and stdout. It has no token and no network business; it dies when its stdin
ends, which happens however the daemon ends. Started by `provider.sandbox` only.
"""

from __future__ import annotations

import mmap
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import psutil

from provider import limits
from provider.benchmark import measure
from provider.engine import PartRun, Runner, WorkerMail, checked
from provider.mailbox import Mailbox
from provider.wire import (
    HEADER,
    MAILBOX,
    MAX_INLINE,
    Arrived,
    Broken,
    Failed,
    FromWorker,
    Measure,
    Measured,
    Produced,
    Ran,
    Ready,
    Run,
    Sending,
    Sent,
    Setup,
    Taken,
    ToWorker,
    body_length,
    output_file,
    pack,
    unpack,
)  # fmt: skip
from ravop.errors import BlobError, OutOfMemoryError, RavenError
from ravop.graph.infer import OPSET
from ravop.protocol.parts import Part
from ravop.protocol.tensors import (
    INLINE_LIMIT,
    Array,
    Blob,
    decode_tensor,
    encode_tensor,
    resolve,
    write_tensor,
)

ENGINE = f"onnxruntime {version('onnxruntime')}"


class Worker:
    """Answers messages. `setup` has limits, folders and threads; `tell` and `hear` are for the exchange of a part."""

    def __init__(
        self, setup: Setup, tell: Callable[[Sending | Taken], None], hear: Callable[[], ToWorker]
    ) -> None:
        self._setup = setup
        self._tell, self._hear = tell, hear
        self._part: PartRun | None = None
        """The part that is run."""
        self._blobs = Path(setup.blobs)
        self._folder = Path(setup.folder)
        self._process = psutil.Process()
        self._base = limits.private_memory(self._process)
        self._runner = Runner(
            self._model, setup.threads, setup.memory, lambda: self._memory() > setup.memory // 2
        )

    def answer(self, message: Run | Measure) -> Ran | Measured | Failed:
        """The reply. What is not foreseen here ends the process: the sandbox reports it and starts a fresh
        one.
        """
        self._part = None
        try:
            return self._run(message) if isinstance(message, Run) else measure(self._setup.threads)
        except RavenError as error:
            return Failed(problem=error.problem, subgraph=self._computing)
        except OSError as error:
            return Failed(problem=BlobError("an input or output file cannot be used", received=error).problem)
        except MemoryError as error:
            return Failed(
                problem=OutOfMemoryError(
                    "the subgraph needs more memory than this provider offers", received=error
                ).problem,
                subgraph=self._computing,
            )

    def _run(self, run: Run) -> Ran:
        start = time.perf_counter()
        inputs = {given.name: resolve(given.ref, self._read) for given in run.inputs}
        if run.part is None:
            arrays = self._runner.run(run.subgraph, inputs, run.outputs)
        else:
            arrays = checked(self._run_part(run.part, inputs), run.outputs)
        seconds = time.perf_counter() - start
        return Ran(outputs=self._deliver(run, arrays), seconds=seconds, memory=self._memory())

    @property
    def _computing(self) -> str | None:
        """Hash of the model of a part that ran when something failed."""
        return None if self._part is None else self._part.computing

    def _run_part(self, part: Part, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with closing(Mailbox(self._folder / MAILBOX, part)) as box:
            self._part = PartRun(part, self._runner.session, WorkerMail(box, self._tell, self._hear))
            results = self._part.run(inputs)
        self._runner.relieve()
        return results

    def _deliver(self, run: Run, arrays: list[Array]) -> tuple[Produced, ...]:
        room = MAX_INLINE
        produced = []
        for index, (spec, array) in enumerate(zip(run.outputs, arrays, strict=True)):
            data = None
            if array.nbytes < min(INLINE_LIMIT, room):
                encoded = encode_tensor(array)
                if len(encoded) <= INLINE_LIMIT:
                    data, room = encoded, room - len(encoded)
            if data is None:
                with (self._folder / output_file(index)).open("wb") as file:
                    write_tensor(array, file)
            produced.append(Produced(name=spec.name, data=data))
        return tuple(produced)

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

    def _memory(self) -> int:
        return max(0, limits.private_memory(self._process) - self._base)


def main() -> None:
    stdout = _claim_stdout()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which may finish the task first
    limits.lower_priority()
    limits.forbid_core_dumps()
    messages: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(messages,), daemon=True).start()
    setup = messages.get()
    if not isinstance(setup, Setup):
        raise SystemExit("the first message must be Setup")
    worker = Worker(setup, lambda word: _send(stdout, word), messages.get)
    limits.limit_memory(setup.memory, setup.threads)
    _send(stdout, Ready(engine=ENGINE, opset=OPSET))
    while True:
        message = messages.get()
        match message:
            case Run() | Measure():
                _send(stdout, worker.answer(message))
            case Arrived() | Sent() | Broken():
                pass  # of a part that has ended
            case Setup():
                raise SystemExit("Setup comes once")


def _claim_stdout() -> BinaryIO:
    """Stdout for messages alone; whatever libraries print goes to stderr."""
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return stdout


def _send(stream: BinaryIO, message: FromWorker) -> None:
    stream.write(pack(message))
    stream.flush()


def _receive(messages: queue.SimpleQueue[ToWorker]) -> None:
    """Runs in a thread of its own, to notice the end of stdin while the engine computes."""
    try:
        while True:
            messages.put(unpack(_read(body_length(_read(HEADER.size))), ToWorker))
    except EOFError:
        pass
    finally:
        signal.raise_signal(
            signal.SIGTERM
        )  # ends the process at once, also in the middle of the engine's work


def _read(size: int) -> bytes:
    """Bytes from stdin, without a buffer that this thread would hold locked for ever."""
    data = bytearray()
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


if __name__ == "__main__":
    main()
