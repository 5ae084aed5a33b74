"""The worker process: computes what the daemon sends, one batch at a time. `python -m provider.worker`.

Speaks `provider.wire` on stdin and stdout. It has no token and no network business; it dies when its stdin
ends, which happens however the daemon ends. Started by `provider.sandbox` only. What it does with a batch is in
`provider.engine.batch`.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from importlib.metadata import version
from typing import BinaryIO

from provider import limits
from provider.benchmark import measure
from provider.engine import Batches
from provider.wire import (
    HEADER,
    Arrived,
    Broken,
    Failed,
    FromWorker,
    Measure,
    Measured,
    Ready,
    Run,
    Sent,
    Setup,
    ToWorker,
    body_length,
    pack,
    unpack,
)  # fmt: skip
from ravop.errors import RavenError
from ravop.graph.infer import OPSET

ENGINE = f"onnxruntime {version('onnxruntime')}"


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
    batches = Batches(setup, lambda word: _send(stdout, word), messages.get)
    limits.limit_memory(setup.memory, setup.threads)
    _send(stdout, Ready(engine=ENGINE, opset=OPSET))
    while True:
        match messages.get():
            case Run() as run:
                _send(stdout, batches.run(run))
            case Measure():
                _send(stdout, _measure(setup.threads))
            case Arrived() | Sent() | Broken():
                pass  # of a part that has ended
            case Setup():
                raise SystemExit("Setup comes once")


def _measure(threads: int) -> Measured | Failed:
    try:
        return measure(threads)
    except RavenError as error:
        return Failed(problem=error.problem)


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
        # This ends the process at once, also in the middle of the engine's work.
        signal.raise_signal(signal.SIGTERM)


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
