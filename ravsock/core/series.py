"""Values in pieces: how the parts of a stacked value are kept few, and how one element of it is found.

A stacked value is a sequence of parts, each with a leading axis of `count` elements. Pure; works on
references, and on
the bytes of those small enough to be inline. Used by the store.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ravop.errors import BlobError
from ravop.protocol.tensors import (
    INLINE_LIMIT,
    Array,
    Blob,
    Concat,
    Element,
    Inline,
    Stack,
    TensorRef,
    decode_tensor,
    encode_tensor,
    resolve,
)

HEADER = 64
"""Bytes of an `.npy` header, at least."""


class Part(msgspec.Struct, frozen=True):
    """Elements `start` to `start + count - 1` of a stacked value; `count` None: a value that is whole."""

    start: int
    count: int | None
    ref: TensorRef


def whole(parts: Sequence[Part]) -> TensorRef:
    """The value that all `parts`, in order, make up."""
    return parts[0].ref if len(parts) == 1 else Concat(tuple(part.ref for part in parts))


def length(parts: Sequence[Part]) -> int:
    """How many elements are there."""
    return sum(part.count or 0 for part in parts)


def single(ref: TensorRef) -> TensorRef:
    """`ref` as a part of one element: with a new leading axis."""
    return packed(Stack((ref,)))


def part_with(parts: Sequence[Part], index: int) -> Part | None:
    """The part that holds element `index` of a stacked value."""
    return next((p for p in parts if p.count is not None and p.start <= index < p.start + p.count), None)


def element(ref: TensorRef, index: int) -> TensorRef:
    """Element `index` along the first axis, without more bytes around it than needed."""
    match ref:
        case Inline(data):
            array = decode_tensor(data)
            if array.ndim == 0 or index >= array.shape[0]:
                raise BlobError(
                    "a tensor has no such element", expected=f"an index into {array.shape}", received=index
                )
            return Inline(encode_tensor(array[index]))
        case Stack(parts) if index < len(parts):
            return parts[index]
        case _:
            return Element(ref, index)


def packed(ref: TensorRef) -> TensorRef:
    """The same tensor in one inline piece where its bytes are all here and few enough; else `ref` as it
    is."""
    if isinstance(ref, Inline) or not 0 <= inline_size(ref) <= INLINE_LIMIT:
        return ref
    data = encode_tensor(resolve(ref, no_blob))
    return Inline(data) if len(data) <= INLINE_LIMIT else ref


def inline_size(ref: TensorRef) -> int:
    """Bytes of the inline tensors in `ref`, without their headers; -1 where there is a blob."""
    total, pending = 0, [ref]
    while pending:
        match pending.pop():
            case Inline(data):
                total += max(0, len(data) - 2 * HEADER)
            case Concat(parts) | Stack(parts):
                pending.extend(parts)
            case Element(of):
                pending.append(of)
            case Blob():
                return -1
    return total


def merge(tail: Sequence[Part], new: Part) -> tuple[list[int], Part]:
    """`new` joined with the small inline parts right before it: the starts of those it swallowed, and what
    results.

    `tail` are the last parts, in order. A part is swallowed only by one of as many elements or more, as in
    a binary
    counter: each element is copied a logarithmic number of times, and a million losses stay some hundred
    rows.
    """
    swallowed: list[int] = []
    for part in reversed(tail):
        if (
            part.count is None
            or new.count is None
            or part.count > new.count
            or part.start + part.count != new.start
        ):
            break
        if not isinstance(part.ref, Inline) or not isinstance(new.ref, Inline):
            break
        ref = packed(Concat((part.ref, new.ref)))
        if not isinstance(ref, Inline):
            break
        new = Part(part.start, part.count + new.count, ref)
        swallowed.append(part.start)
    return swallowed, new


def last_number(ref: TensorRef) -> float | None:
    """The last number of a tensor of numbers, where its bytes are here; for the progress display."""
    match ref:
        case Inline(data):
            flat = decode_tensor(data).reshape(-1)
            return float(flat[-1]) if flat.size else None
        case Concat(parts) | Stack(parts):
            return last_number(parts[-1])
        case _:
            return None


def no_blob(blob: Blob) -> Array:
    """For `resolve`, where all bytes should be inline."""
    raise BlobError("a tensor that should be inline is a blob", received=blob.sha)
