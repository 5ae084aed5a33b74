"""Values in parts: whatever is appended is read back, in few parts; and elements are found in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravop.errors import BlobError
from ravop.protocol.tensors import (
    INLINE_LIMIT,
    Blob,
    Concat,
    Element,
    Inline,
    Stack,
    decode_tensor,
    encode_tensor,
    reference,
    resolve,
    sha256,
)
from ravsock.core import series
from ravsock.core.series import Part


class Shelf:
    """Blobs for tests."""

    def __init__(self) -> None:
        self.bytes: dict[str, bytes] = {}

    def put(self, array: np.ndarray) -> Inline | Blob:
        data = encode_tensor(array)
        self.bytes[sha256(data)] = data
        return reference(data)

    def read(self, blob: Blob) -> np.ndarray:
        return decode_tensor(self.bytes[blob.sha])


def append(parts: list[Part], new: Part) -> list[Part]:
    swallowed, part = series.merge(parts, new)
    return [p for p in parts if p.start not in swallowed] + [part]


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60), width=st.sampled_from([1, 50, 5000]))
def test_what_is_appended_is_read_back(lengths: list[int], width: int) -> None:
    shelf = Shelf()
    total = sum(lengths)
    value = np.arange(total * width, dtype=np.float32).reshape(total, width)
    parts: list[Part] = []
    start = 0
    for length in lengths:
        parts = append(parts, Part(start, length, shelf.put(value[start : start + length])))
        start += length
        assert series.length(parts) == start
    np.testing.assert_array_equal(resolve(series.whole(parts), shelf.read), value)
    for index in {0, total // 2, total - 1}:
        part = series.part_with(parts, index)
        assert part is not None
        found = resolve(series.element(part.ref, index - part.start), shelf.read)
        np.testing.assert_array_equal(found, value[index])
    assert series.part_with(parts, total) is None


@pytest.mark.parametrize(("total", "chunk"), [(5_000, 1), (100_000, 77), (100_000, 3_000)])
def test_a_hundred_thousand_losses_are_a_few_parts(total: int, chunk: int) -> None:
    value = np.arange(total, dtype=np.float32)
    parts: list[Part] = []
    for start in range(0, len(value), chunk):
        some = value[start : start + chunk]
        tail = parts[-24:]
        swallowed, part = series.merge(tail, Part(start, len(some), Inline(encode_tensor(some))))
        del parts[len(parts) - len(swallowed) :]
        parts.append(part)
    assert len(parts) <= 30
    np.testing.assert_array_equal(resolve(series.whole(parts), Shelf().read), value)


def test_iterations_of_an_opened_loop_become_rows() -> None:
    parts: list[Part] = []
    for row in range(5):
        ref = Concat((Inline(encode_tensor(np.array([row, 1.0]))), Inline(encode_tensor(np.array([2.0])))))
        parts = append(parts, Part(row, 1, series.single(ref)))
    assert [p.count for p in parts] == [4, 1]
    expected = np.array([[row, 1.0, 2.0] for row in range(5)])
    np.testing.assert_array_equal(resolve(series.whole(parts), Shelf().read), expected)


def test_large_parts_stay_apart() -> None:
    shelf = Shelf()
    big = shelf.put(np.zeros(INLINE_LIMIT))
    assert isinstance(big, Blob)
    assert series.single(big) == Stack((big,))
    assert series.merge([Part(0, 1, big)], Part(1, 1, big)) == ([], Part(1, 1, big))
    assert series.element(Stack((big,)), 0) == big
    assert series.element(big, 3) == Element(big, 3)


def test_elements_that_are_not_there_are_refused() -> None:
    with pytest.raises(BlobError, match="no such element"):
        series.element(Inline(encode_tensor(np.zeros(3))), 3)
    with pytest.raises(BlobError, match="no such element"):
        series.element(Inline(encode_tensor(np.float32(1))), 0)


def test_the_last_number_is_for_show() -> None:
    row = Inline(encode_tensor(np.array([[1.0, 2.0], [3.0, 4.0]])))
    assert series.last_number(row) == 4.0
    assert series.last_number(Stack((Concat((row, Inline(encode_tensor(np.array([[5.0, 6.5]]))))),))) == 6.5
    assert series.last_number(Inline(encode_tensor(np.zeros(0)))) is None
    assert series.last_number(Blob("a" * 64, 5)) is None
