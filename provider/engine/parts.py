"""`PartRun`: computes what one rank of a gang does (`ravop.protocol.parts`).

Values are NumPy arrays. ONNX Runtime copies none of them, neither on the way in nor on the way out; slices are views of
the whole. How messages reach the other ranks is the business of the `Mail` that is passed in. The part was checked
before (`check_part`); what the other ranks send is checked here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from ravop.engine import Session
from ravop.errors import ComputeError, MessageError
from ravop.protocol.parts import Compute, Exchange, Part, Repeat, Shared, Step, payload_size
from ravop.protocol.tensors import Array

Values = dict[str, Array]


class Mail(Protocol):
    """Messages to and from the other ranks, those of each in their order."""

    def send(self, ranks: Sequence[int], payload: Sequence[memoryview]) -> None:
        """Send the pieces as one message to each of `ranks`. They may change after that."""

    def receive(self, rank: int) -> bytearray:
        """The next message of `rank`; nobody else uses it. Raises a `RavenError` when none can come any more."""


class PartRun:
    """One run of a part.

    Args:
        session: gives the loaded model of a hash.
    """

    def __init__(self, part: Part, session: Callable[[str], Session], mail: Mail) -> None:
        self._part = part
        self._session = session
        self._mail = mail
        self._loaded: dict[str, Session] = {}
        self.computing: str | None = None
        """Hash of the model that runs now, or has failed."""

    def run(self, inputs: Mapping[str, Array]) -> Values:
        """The values that the part's loop gives.

        Raises `ComputeError` where the engine fails or a value is not what the part says, `MessageError` where another
        rank sends something else than it should.
        """
        return self._repeat(self._part.loop, dict(inputs), range(self._part.start, self._part.stop))

    def _repeat(self, loop: Repeat, around: Values, iterations: range) -> Values:
        state = {carry.body_in: around[carry.init] for carry in loop.carries}
        sources = [(piece.body_in, _long_enough(piece.source, around, loop)) for piece in loop.sliced]
        stacks: Values = {}
        for number, iteration in enumerate(iterations):
            scope = around | state
            for body_in, source in sources:
                scope[body_in] = source[iteration, ...]
            for step in loop.steps:
                self._step(step, scope)
            state = {carry.body_in: scope[carry.body_out] for carry in loop.carries}
            for stack in loop.stacked:
                value = scope[stack.body_out]
                if number == 0:
                    stacks[stack.stacked] = np.empty((len(iterations), *value.shape), value.dtype)
                _put(stack.body_out, stacks[stack.stacked], number, value)
        return {carry.final: state[carry.body_in] for carry in loop.carries} | stacks

    def _step(self, step: Step, scope: Values) -> None:
        match step:
            case Compute():
                self._compute(step, scope)
            case Exchange():
                self._exchange(step, scope)
            case Repeat():
                scope |= self._repeat(step, scope, range(step.length))

    def _compute(self, step: Compute, scope: Values) -> None:
        self.computing = step.subgraph
        session = self._loaded.get(step.subgraph)
        if session is None:
            session = self._loaded[step.subgraph] = self._session(step.subgraph)
        results = session.run({wire.port: scope[wire.value] for wire in step.inputs})
        for wire in step.outputs:
            if wire.port not in results:
                raise ComputeError(
                    "the subgraph has no such output", expected=", ".join(results), received=wire.port
                )
            scope[wire.value] = results[wire.port]
        self.computing = None

    def _exchange(self, step: Exchange, scope: Values) -> None:
        if step.to:
            self._mail.send(step.to, [_bytes_of(value, scope[value.name]) for value in step.gives])
        for rank, values in step.takes.items():
            scope |= _unpacked(rank, values, self._mail.receive(rank))


def _long_enough(name: str, values: Values, loop: Repeat) -> Array:
    source = values[name]
    if source.ndim == 0 or len(source) < loop.length:
        raise ComputeError(
            f"the iterations of a loop read more elements of {name!r} than there are",
            expected=f"{loop.length} along the first axis",
            received=source.shape,
        )
    return source


def _put(name: str, stack: Array, number: int, value: Array) -> None:
    if value.shape != stack.shape[1:] or value.dtype != stack.dtype:
        raise ComputeError(
            f"the iterations of a loop give different kinds of {name!r}",
            expected=f"{stack.dtype} {stack.shape[1:]}",
            received=f"{value.dtype} {value.shape}",
        )
    stack[number] = value


def _bytes_of(shared: Shared, value: Array) -> memoryview:
    """The value's bytes as they travel, without a copy."""
    if value.shape != shared.shape or value.dtype != np.dtype(shared.dtype):
        raise ComputeError(
            f"value {shared.name!r}, which the other ranks wait for, is not what was promised",
            expected=f"{shared.dtype} {shared.shape}",
            received=f"{value.dtype} {value.shape}",
        )
    little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def _unpacked(rank: int, shared: Sequence[Shared], payload: bytearray) -> Values:
    """The values in a message of `rank`, without a copy where the machine can read them in their place."""
    if len(payload) != payload_size(shared):
        raise MessageError(
            f"rank {rank} sent a message of another length",
            expected=f"{payload_size(shared):,} bytes",
            received=f"{len(payload):,} bytes",
        )
    values, start = {}, 0
    for one in shared:
        dtype = np.dtype(one.dtype).newbyteorder("<")
        array = np.frombuffer(payload, dtype, math.prod(one.shape), start)
        values[one.name] = np.require(array, np.dtype(one.dtype), "A").reshape(one.shape)
        start += array.nbytes
    return values
