"""What one provider of a gang does: the part of a loop's chunk that one rank computes.

A gang is several providers (its *ranks*) that compute one chunk of a loop together. Each keeps the loop's state that it
works on, runs its share of every iteration and sends the others what they need; the coordinator passes it on
(`ravop.protocol.exchange`). Values have names within a part. All ranks walk through the same loops in step, so the
n-th exchange of one rank is the n-th of all.

Pure values; `check_part` says whether a part makes sense. The planner writes parts, the provider's worker runs them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from ravop.protocol.tensors import DTYPES

MAX_RANKS = 64
Name = Annotated[str, Meta(min_length=1, max_length=400)]
Sha = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Rank = Annotated[int, Meta(ge=0, lt=MAX_RANKS)]
Length = Annotated[int, Meta(ge=0, le=2**63 - 1)]


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
    shape: tuple[Length, ...]


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

    length: Length
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
    start: Length
    stop: Length
    loop: Repeat


DTYPE_NAMES = frozenset(str(dtype) for dtype in DTYPES)
