"""What the daemon and the workers of a cluster say to each other: typed values as bytes. Pure.

A cluster's engine carries both ways as arguments and results of `site.answer`, and nothing else.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from provider.core.events import Key
from provider.wire import Measured
from ravop.errors import MessageError, Problem
from ravop.protocol.fields import Count, Sha
from ravop.protocol.messages import MAX_BATCH, Task, TaskFailure, TaskResult


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """For whom a worker computes, and within which limits."""

    url: str
    token: str
    threads: Annotated[int, Meta(ge=1, le=4096)]
    memory: Count
    """Bytes one subgraph may use."""
    max_cache: Count
    software: str
    """The daemon's release: the worker's must be the same."""
    engine: str = ""
    """What the cluster's other workers compute with, where that is known."""


class Introduce(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Who are you? → `Introduced` or `Unable`."""

    terms: Terms
    measure: bool = False
    """Measure the engine's speed."""


class Compute(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Compute a batch. → `Done`, `Blamed`, `Unable` or `GivenUp`."""

    terms: Terms
    tasks: Annotated[tuple[Task, ...], Meta(min_length=1, max_length=MAX_BATCH)]


class Introduced(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    engine: str
    opset: Annotated[int, Meta(ge=7)]
    system: Annotated[str, Meta(max_length=200)]
    memory: Count
    """Bytes of the machine's memory for each of its cores."""
    measured: Measured | None = None


class Done(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The batch is computed, up to the task that failed; large outputs are at the coordinator."""

    done: tuple[TaskResult, ...]
    failed: TaskFailure | None = None


class Blamed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The batch ended by the fault of the task `key`, and nothing of it is left."""

    key: Key
    problem: Problem
    node: int | None = None
    subgraph: Sha | None = None


class Unable(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It does not work on this worker, by no fault of a task."""

    problem: Problem


class GivenUp(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Other ranks of the task's gang broke it off."""


Request = Introduce | Compute
Reply = Introduced | Done | Blamed | Unable | GivenUp

_DECODERS: dict[Any, msgspec.msgpack.Decoder[Any]] = {
    Request: msgspec.msgpack.Decoder(Request),
    Reply: msgspec.msgpack.Decoder(Reply),
}


def pack(message: Request | Reply) -> bytes:
    return msgspec.msgpack.encode(message)


def unpack(data: object, expect: Any) -> Any:
    """The message in `data`, one of `expect` (`Request` or `Reply`). Raises `MessageError`."""
    if not isinstance(data, bytes):
        raise MessageError("a cluster carries bytes only", expected="bytes", received=type(data).__name__)
    try:
        return _DECODERS[expect].decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise MessageError("a message of a cluster is malformed", received=str(error)) from error
