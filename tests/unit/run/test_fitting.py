"""Values spilled into blobs are the same values, with nothing large left in the message."""

from __future__ import annotations

import numpy as np
import pytest

from ravop.protocol.tensors import (
    Blob,
    Concat,
    Element,
    Inline,
    Stack,
    TensorRef,
    blobs_of,
    decode_tensor,
    encode_tensor,
    resolve,
    sha256,
)
from ravsock.core.fitting import RUN, fitted, inline_bytes


class Shelf:
    def __init__(self) -> None:
        self.kept: dict[Blob, bytes] = {}

    def keep(self, data: bytes) -> Blob:
        blob = Blob(sha256(data), len(data))
        self.kept[blob] = data
        return blob

    def value(self, ref: TensorRef) -> np.ndarray:
        return resolve(ref, lambda blob: decode_tensor(self.kept[blob]))


def part(start: int, count: int = 3) -> Inline:
    return Inline(encode_tensor(np.arange(start, start + count, dtype=np.float32)))


@pytest.mark.parametrize("parts", [1, 2, RUN, RUN + 1, 3 * RUN])
def test_a_value_of_many_inline_parts_becomes_few_blobs(parts: int) -> None:
    shelf = Shelf()
    ref = Concat(tuple(part(3 * number) for number in range(parts)))
    (small,) = fitted([ref], shelf.keep, budget=0)
    assert inline_bytes(small) == 0
    assert len(list(blobs_of(small))) == -(-parts // RUN)
    np.testing.assert_array_equal(shelf.value(small), np.arange(3 * parts))


def test_what_is_a_blob_already_stays_one_and_nested_values_keep_their_shape() -> None:
    shelf = Shelf()
    old = shelf.keep(encode_tensor(np.arange(6, dtype=np.float32)))
    ref = Stack((Concat((part(0), old, part(6), part(9))), Element(Stack((Concat((part(0, 15),)),)), 0)))
    before = shelf.value(ref)
    (small,) = fitted([ref], shelf.keep, budget=0)
    assert inline_bytes(small) == 0
    assert old in set(blobs_of(small))
    np.testing.assert_array_equal(shelf.value(small), before)


def test_the_largest_go_first_and_small_ones_stay() -> None:
    shelf = Shelf()
    refs = [part(0, 10), part(0, 1000), part(0, 20)]
    small = fitted(refs, shelf.keep, budget=1000)
    assert [isinstance(ref, Blob) for ref in small] == [False, True, False]
    assert fitted(refs, shelf.keep, budget=10_000) == refs
