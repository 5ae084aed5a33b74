"""What one provider of a gang does: the part of a loop's chunk that one rank computes.

A gang is several providers (its *ranks*) that compute one chunk of a loop together. Each keeps the loop's state that it
works on, runs its share of every iteration and sends the others what they need; the coordinator passes it on
(`ravop.protocol.exchange`). Values have names within a part. All ranks walk through the same loops in step, so the
n-th exchange of one rank is the n-th of all.

Pure values; `check_part` says whether a part makes sense. The planner writes parts, the provider's worker runs them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from ravop.errors import MessageError
from ravop.protocol.fields import Count, Name, Sha
from ravop.protocol.tensors import DTYPES

MAX_RANKS = 64
MAX_STEPS = 10_000
"""Steps of one part, loops inside counted with theirs."""
MAX_DEPTH = 16
"""Loops inside each other."""
MAX_PAYLOAD = 2**31 - 1
"""Bytes of one message between ranks."""
Rank = Annotated[int, Meta(ge=0, lt=MAX_RANKS)]


class Wire(msgspec.Struct, frozen=True):
    """An input or output of a model, and the part's value that goes in or comes out."""

    port: Name
    value: Name


class Compute(msgspec.Struct, frozen=True, kw_only=True, tag="compute"):
    """Run a model."""

    subgraph: Sha
    inputs: tuple[Wire, ...]
    outputs: tuple[Wire, ...]


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """A value that ranks exchange. Its dtype and whole shape are known when the plan is made."""

    name: Name
    dtype: str
    shape: tuple[Count, ...]


class Exchange(msgspec.Struct, frozen=True, kw_only=True, tag="exchange"):
    """Send `gives` to the ranks in `to` as one message, then wait for one message of each rank in `takes`."""

    gives: tuple[Shared, ...] = ()
    to: tuple[Rank, ...] = ()
    takes: dict[Rank, tuple[Shared, ...]] = {}


class PartCarry(msgspec.Struct, frozen=True, kw_only=True):
    """A state variable that this rank holds. `init` and `final` are values outside of the loop."""

    init: Name
    body_in: Name
    body_out: Name
    final: Name


class PartSlice(msgspec.Struct, frozen=True, kw_only=True):
    """Element `i` of `source` along its first axis is `body_in` in iteration `i`."""

    source: Name
    body_in: Name


class PartStack(msgspec.Struct, frozen=True, kw_only=True):
    """`body_out` of all iterations under a new first axis is `stacked`."""

    body_out: Name
    stacked: Name


class Repeat(msgspec.Struct, frozen=True, kw_only=True, tag="repeat"):
    """A loop. Values of the scopes around it can be read in it; what it makes inside ends with each iteration."""

    length: Count
    carries: tuple[PartCarry, ...] = ()
    sliced: tuple[PartSlice, ...] = ()
    stacked: tuple[PartStack, ...] = ()
    steps: tuple[Compute | Exchange | Repeat, ...]


Step = Compute | Exchange | Repeat


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What rank `rank` of `ranks` does for the iterations `start` to `stop - 1` of `loop`, the outermost loop.

    The names in `loop` of its carries' `init`, its slices' `source` and of what it captures are inputs of the task,
    those of carries' `final` and of `stacked` its outputs. A slice's source is given whole: iteration `start` reads
    element `start`.
    """

    rank: Rank
    ranks: Annotated[int, Meta(ge=2, le=MAX_RANKS)]
    start: Count
    stop: Count
    loop: Repeat


DTYPE_NAMES = frozenset(str(dtype) for dtype in DTYPES)


def payload_size(values: Sequence[Shared]) -> int:
    """Bytes of the message that carries these values: their elements, little-endian, one value after another."""
    return sum(np.dtype(value.dtype).itemsize * math.prod(value.shape) for value in values)


def largest_messages(part: Part) -> tuple[int, dict[Rank, int]]:
    """Bytes of the largest message that this rank sends, and of the largest that it gets, by the rank that sends it."""
    given, taken = 0, dict[Rank, int]()
    for step in _steps(part.loop):
        if isinstance(step, Exchange):
            given = max(given, payload_size(step.gives))
            for rank, values in step.takes.items():
                taken[rank] = max(taken.get(rank, 0), payload_size(values))
    return given, taken


def check_part(part: Part, inputs: Collection[str], outputs: Collection[str]) -> None:
    """Raises `MessageError` for a part that makes no sense as a task with these inputs and outputs."""
    if part.rank >= part.ranks or not part.start < part.stop <= part.loop.length:
        raise MessageError(
            "a part is of no rank, or of no iteration",
            expected="rank < ranks, and start < stop ≤ the length of its loop",
            received=f"rank {part.rank} of {part.ranks}, iterations {part.start} to {part.stop} of {part.loop.length}",
        )
    if sum(1 for _ in _steps(part.loop)) > MAX_STEPS:  # `_steps` bounds the depth
        raise MessageError("a part has too many steps", expected=f"at most {MAX_STEPS:,}")
    made: set[str] = set()
    _check_repeat(part, part.loop, (set(inputs),), made)
    if foreign := sorted(set(outputs) - made):
        raise MessageError(
            "a part does not give what its task is asked for",
            expected=", ".join(sorted(outputs)),
            received=f"nothing named {', '.join(foreign)}",
        )


def _steps(loop: Repeat, depth: int = 1) -> Iterator[Step]:
    """All steps in `loop`, those of loops inside included."""
    if depth > MAX_DEPTH:
        raise MessageError(
            "the loops of a part are nested too deeply", expected=f"at most {MAX_DEPTH} levels"
        )
    for step in loop.steps:
        yield step
        if isinstance(step, Repeat):
            yield from _steps(step, depth + 1)


_Scopes = tuple[Collection[str], ...]
"""The names that can be read, by the loop they are made in."""


def _check_repeat(part: Part, loop: Repeat, around: _Scopes, made: set[str]) -> None:
    """`around` is what can be read outside of the loop; what the loop gives goes into `made`."""
    _check_read([carry.init for carry in loop.carries], around)
    _check_read([piece.source for piece in loop.sliced], around)
    inside: set[str] = set()
    scopes = (*around, inside)
    _make([carry.body_in for carry in loop.carries], scopes, inside)
    _make([piece.body_in for piece in loop.sliced], scopes, inside)
    for step in loop.steps:
        match step:
            case Compute(inputs=inputs, outputs=outputs):
                _check_compute(step)
                _check_read([wire.value for wire in inputs], scopes)
                _make([wire.value for wire in outputs], scopes, inside)
            case Exchange(gives=gives, takes=takes):
                _check_exchange(part, step)
                _check_read([value.name for value in gives], scopes)
                _make([value.name for values in takes.values() for value in values], scopes, inside)
            case Repeat():
                if step.length == 0 and step.stacked:
                    raise MessageError("a loop of a part stacks what it never makes", expected="an iteration")
                results: set[str] = set()
                _check_repeat(part, step, scopes, results)
                _make(sorted(results), scopes, inside)
    _check_read([carry.body_out for carry in loop.carries], scopes)
    _check_read([stack.body_out for stack in loop.stacked], scopes)
    results_here = [carry.final for carry in loop.carries] + [stack.stacked for stack in loop.stacked]
    _make(results_here, (made,), made)


def _check_compute(step: Compute) -> None:
    for wires in (step.inputs, step.outputs):
        if len({wire.port for wire in wires}) != len(wires):
            raise MessageError(
                "a part names a port of a model twice", received=", ".join(wire.port for wire in wires)
            )


def _check_exchange(part: Part, step: Exchange) -> None:
    others = set(range(part.ranks)) - {part.rank}
    if not others.issuperset((*step.to, *step.takes)) or len(set(step.to)) != len(step.to):
        raise MessageError(
            "a part exchanges with ranks that are none",
            expected=f"ranks below {part.ranks}, each once, and not {part.rank} itself",
            received=f"to {list(step.to)}, of {list(step.takes)}",
        )
    if bool(step.gives) != bool(step.to) or not all(step.takes.values()):
        raise MessageError("a part exchanges messages without values, or values with nobody")
    for values in (step.gives, *step.takes.values()):
        if foreign := {value.dtype for value in values} - DTYPE_NAMES:
            raise MessageError(
                "a part exchanges values of a dtype that cannot be sent",
                expected=", ".join(sorted(DTYPE_NAMES)),
                received=", ".join(sorted(foreign)),
            )
        if (size := payload_size(values)) > MAX_PAYLOAD:
            raise MessageError(
                "a part exchanges too large a message",
                expected=f"at most {MAX_PAYLOAD:,} bytes",
                received=f"{size:,} bytes",
            )


def _check_read(names: Sequence[str], scopes: _Scopes) -> None:
    for name in names:
        if not any(name in scope for scope in scopes):
            raise MessageError(f"a part reads {name!r}, which nothing before gives")


def _make(names: Sequence[str], scopes: _Scopes, inside: set[str]) -> None:
    for name in names:
        if any(name in scope for scope in scopes):
            raise MessageError(
                f"a part gives {name!r} twice", expected="each name once in a loop and those around it"
            )
        inside.add(name)
