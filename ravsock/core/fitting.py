"""Values that would make a message too large: what is inline beyond a budget is written out as blobs.

Pure: what a blob is kept in is the caller's business. Used for task inputs and fetched values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from ravop.protocol.tensors import (
    Blob,
    Concat,
    Element,
    Inline,
    Stack,
    TensorRef,
    encode_tensor,
    resolve,
)
from ravsock.core.series import no_blob

BUDGET = 2 * 1024 * 1024
"""Bytes of inline tensors in one message: a quarter of what it may have."""
RUN = 256
"""Inline parts of a value that become one blob, at most: 16 MB."""

Keep = Callable[[bytes], Blob]
"""Notes bytes to be kept as a blob."""


def inline_bytes(ref: TensorRef) -> int:
    """Bytes of the inline tensors in `ref`, with their headers."""
    total, pending = 0, [ref]
    while pending:
        match pending.pop():
            case Inline(data):
                total += len(data)
            case Concat(parts) | Stack(parts):
                pending.extend(parts)
            case Element(of):
                pending.append(of)
            case Blob():
                pass
    return total


def fitted(refs: Sequence[TensorRef], keep: Keep, budget: int = BUDGET) -> list[TensorRef]:
    """The same values, with at most `budget` bytes inline: the largest are spilled first."""
    made, sizes = list(refs), [inline_bytes(ref) for ref in refs]
    left = sum(sizes)
    for index in sorted(range(len(refs)), key=lambda i: -sizes[i]):
        if left <= budget:
            break
        made[index] = spilled(refs[index], keep)
        left -= sizes[index]
    return made


def spilled(ref: TensorRef, keep: Keep) -> TensorRef:
    """The same value with nothing inline; inline parts that follow each other become one blob."""
    match ref:
        case Inline(data):
            return keep(data)
        case Concat(parts):
            made = [
                part
                for is_inline, run in groupby(parts, _is_inline)
                for part in _run(is_inline, list(run), keep)
            ]
            return made[0] if len(made) == 1 else Concat(tuple(made))
        case Stack(parts):
            return Stack(tuple(spilled(part, keep) for part in parts))
        case Element(of, index):
            return Element(spilled(of, keep), index)
        case Blob():
            return ref


def _is_inline(ref: TensorRef) -> bool:
    return isinstance(ref, Inline)


def _run(is_inline: bool, parts: list[TensorRef], keep: Keep) -> list[TensorRef]:
    if not is_inline:
        return [spilled(part, keep) for part in parts]
    pieces = [tuple(parts[first : first + RUN]) for first in range(0, len(parts), RUN)]
    return [keep(encode_tensor(resolve(Concat(piece), no_blob))) for piece in pieces]
