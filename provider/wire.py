"""What daemon and worker say to each other over the worker's stdin and stdout: typed messages with a length
before each.

Pure: values and bytes. Both ends validate what arrives: the worker runs what strangers sent, so the daemon
does not trust it. Tensors up to `INLINE_LIMIT` ride in the messages, larger ones are files: inputs in the
blob cache, outputs in the worker's own folder, named by `output_file`. There the file `PROGRESS` tells which
task the worker is at, also when it dies.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ravop.errors import MessageError, Problem
from ravop.protocol.fields import Count, Name, Seconds, Sha
from ravop.protocol.messages import MAX_BATCH, Task
from ravop.protocol.parts import Rank
from ravop.protocol.tensors import INLINE_LIMIT

HEADER = struct.Struct(">I")
MAX_FRAME = 32 * 1024 * 1024
"""Bytes of one message; a `Run` carries at most what one control message carried."""
MAX_INLINE = 4 * 1024 * 1024
"""Bytes of outputs that ride in one `Ran`: they must fit into one control message afterwards."""
PROGRESS = "progress"
PLACE = struct.Struct("<Q")
"""What is in the file `PROGRESS`: the place in the batch of the task being computed."""


class Setup(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """First message to a worker. → `Ready`."""

    memory: Count
    """Bytes it may use beyond what it uses when it starts."""
    threads: Annotated[int, Meta(ge=1, le=4096)]
    blobs: str
    """Folder of the blob cache; the worker only reads there."""
    folder: str
    """Where the worker puts large outputs."""


class Run(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Compute the tasks of a batch, one after another. Their models and blobs are in the cache. → `Ran`.

    A task with a part is alone. While it runs, messages of and to other ranks go through the mailbox: → `Sending`,
    `Taken`, any number of times.
    """

    number: Count
    """Counts the runs of a slot; files of outputs are named by it."""
    tasks: Annotated[tuple[Task, ...], Meta(max_length=MAX_BATCH)]


class Measure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Measure the engine's speed. → `Measured` or `Failed`."""


class Arrived(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The next message of a rank is in the mailbox. → `Taken` when it is taken out."""

    rank: Rank
    size: Count


class Sent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The mailbox is free for the next message to other ranks."""


class Broken(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """No more messages come or go: end the run. → `Ran`, unless it has ended."""

    problem: Problem


ToWorker = Setup | Run | Measure | Arrived | Sent | Broken


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The worker is there. `engine` is name and version; `opset` the newest it takes."""

    engine: Annotated[str, Meta(max_length=200)]
    opset: Annotated[int, Meta(ge=7)]


class Produced(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One output: its `.npy` bytes, or in `file` the number in its file's name."""

    name: Name
    data: Annotated[bytes, Meta(max_length=INLINE_LIMIT)] = b""
    file: Count | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Of one task."""

    outputs: tuple[Produced, ...]
    seconds: Seconds
    """Spent loading the inputs and computing."""


class Ran(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What came of a `Run`. A task that failed ended it: results are those of the tasks before."""

    results: tuple[Result, ...]
    problem: Problem | None = None
    """Why the next task failed; `problem.op` is the failing node's name, where the engine told it."""
    subgraph: Sha | None = None
    """The model that failed, of a part."""
    memory: Count = 0
    """Bytes in use afterwards, beyond those at the start; 0 where the system does not tell."""
    slow: tuple[str, ...] = ()
    """Why models that were loaded for it are computed by ONNX's reference evaluator."""


class Sending(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A message for other ranks is in the mailbox, where the next one must wait for `Sent`."""

    ranks: tuple[Rank, ...]
    size: Count


class Taken(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The message of this rank is out of the mailbox."""

    rank: Rank


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Of a `Measure`."""

    problem: Problem


class Measured(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """GFLOP/s of a worker."""

    matmul_gflops: Annotated[float, Meta(ge=0)]
    conv_gflops: Annotated[float, Meta(ge=0)]


FromWorker = Ready | Ran | Sending | Taken | Failed | Measured

_DECODERS: dict[Any, msgspec.msgpack.Decoder[Any]] = {
    ToWorker: msgspec.msgpack.Decoder(ToWorker),
    FromWorker: msgspec.msgpack.Decoder(FromWorker),
}


def pack(message: ToWorker | FromWorker) -> bytes:
    """The message with its length before it. Raises `MessageError` where it is too large."""
    data = msgspec.msgpack.encode(message)
    _check_length(len(data))
    return HEADER.pack(len(data)) + data


def body_length(header: bytes) -> int:
    """Bytes that follow `header`. Raises `MessageError` where they are too many."""
    (length,) = HEADER.unpack(header)
    return _check_length(length)


def unpack(data: bytes, expect: Any) -> Any:
    """The message in `data`, one of `expect` (`ToWorker` or `FromWorker`). Raises `MessageError`."""
    try:
        return _DECODERS[expect].decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise MessageError("a message between daemon and worker is malformed", received=str(error)) from error


def output_file(run: int, file: int) -> str:
    """Name of the file with output number `file` of run number `run`."""
    return f"output-{run}-{file}.npy"


MAILBOX = "mailbox"
"""Name of the file of `provider.mailbox` in the worker's folder."""


def _check_length(length: int) -> int:
    if length > MAX_FRAME:
        raise MessageError(
            "a message between daemon and worker is too large",
            expected=f"at most {MAX_FRAME:,} bytes",
            received=f"{length:,} bytes",
        )
    return int(length)
