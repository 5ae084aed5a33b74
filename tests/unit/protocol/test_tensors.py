"""Tensors on the wire: against NumPy's own reader and writer."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ravop.errors import BlobError, MessageError
from ravop.protocol.tensors import (
    DTYPES,
    INLINE_LIMIT,
    MAX_DEPTH,
    NARROW,
    Blob,
    Concat,
    Element,
    Inline,
    Stack,
    blobs_of,
    decode_tensor,
    encode_tensor,
    reference,
    resolve,
    sha256,
)

Array = np.ndarray[Any, np.dtype[Any]]
ARRAYS = st.sampled_from(sorted(DTYPES - set(NARROW.values()), key=str)).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)


def nothing(blob: Blob) -> Array:
    raise AssertionError("no blob should be read")


def inline(array: Any) -> Inline:
    return Inline(encode_tensor(np.asarray(array)))


@given(ARRAYS)
def test_numpy_reads_what_we_write(array: Array) -> None:
    found = np.load(io.BytesIO(encode_tensor(array)), allow_pickle=False)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@given(ARRAYS)
def test_we_read_what_numpy_writes(array: Array) -> None:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array).reshape(array.shape))
    found = decode_tensor(stream.getvalue())
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("name", NARROW)
def test_narrow_dtypes_travel_as_records_named_after_them(name: str) -> None:
    every = np.arange(256, dtype=np.uint8)
    bits = (np.arange(1 << 16, dtype=np.uint16) if name == "bfloat16" else every).reshape(2, -1)
    array = bits.view(name)
    data = encode_tensor(array)
    told = np.load(io.BytesIO(data), allow_pickle=False)
    assert told.dtype.names == (name,)
    np.testing.assert_array_equal(told[name], bits)
    found = decode_tensor(data)
    assert found.dtype == getattr(ml_dtypes, name)
    np.testing.assert_array_equal(found.astype(np.float32), array.astype(np.float32))
    assert decode_tensor(encode_tensor(array[1, 3])).shape == ()
    turned = decode_tensor(encode_tensor(array.T[::2]))
    np.testing.assert_array_equal(turned.astype(np.float32), array.T[::2].astype(np.float32))


@pytest.mark.parametrize(
    "array", [np.zeros((4, 6), order="F"), np.arange(12.0)[::2], np.arange(3, dtype=">i4")]
)
def test_any_layout_becomes_little_endian_c_order(array: Array) -> None:
    np.testing.assert_array_equal(decode_tensor(encode_tensor(array)), array)
    assert encode_tensor(array) == encode_tensor(
        np.array(array, dtype=array.dtype.newbyteorder("<"), order="C")
    )


@pytest.mark.parametrize(
    "value", [np.array(["a"]), np.array([object()]), np.array([1j]), np.array(["2026"], "M8[Y]")]
)
def test_what_is_no_tensor_of_numbers_is_not_sent(value: Array) -> None:
    with pytest.raises(MessageError):
        encode_tensor(value)


def saved(array: Array, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def header(text: str) -> bytes:
    padded = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode()


HOSTILE = {
    "empty": b"",
    "text": b"hello",
    "pickle": saved(np.array([{"a": 1}], dtype=object), allow_pickle=True),
    "fortran": saved(np.zeros((2, 3), order="F")),
    "strings": saved(np.array(["a"])),
    "short": encode_tensor(np.arange(8))[:-1],
    "long": encode_tensor(np.arange(8)) + b"\0",
    "negative": header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 0), }"),
    "huge": header("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9), }"),
    "huge and empty": header("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808, 0), }"),
    "code": header("__import__('os').abort()"),
    "no shape": header("{'descr': '<f4', 'fortran_order': False, }"),
    "wide record": header("{'descr': [('bfloat16', '<u4')], 'fortran_order': False, 'shape': (1,), }")
    + bytes(4),
    "record of two": header(
        "{'descr': [('int4', '|u1'), ('int2', '|u1')], 'fortran_order': False, 'shape': (0,), }"
    ),
    "raw bytes": header("{'descr': '|V2', 'fortran_order': False, 'shape': (1,), }") + bytes(2),
    "unheard-of": header("{'descr': [('float128', '<u2')], 'fortran_order': False, 'shape': (1,), }")
    + bytes(2),
    "structured": header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (0,), }"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_bytes_are_refused(case: str) -> None:
    with pytest.raises(MessageError):
        decode_tensor(HOSTILE[case])


@given(st.binary(max_size=400))
def test_any_bytes_are_a_tensor_or_refused(data: bytes) -> None:
    try:
        decode_tensor(b"\x93NUMPY\x01\x00" + data)
    except MessageError:
        return


def test_small_tensors_ride_inline_and_large_ones_by_name() -> None:
    small, large = encode_tensor(np.zeros(10)), encode_tensor(np.zeros(INLINE_LIMIT))
    assert reference(small) == Inline(small)
    assert reference(large) == Blob(hashlib.sha256(large).hexdigest(), len(large))
    assert sha256(memoryview(large)) == hashlib.sha256(large).hexdigest()


# ── references ───────────────────────────────────────────────────────────────────────────────────────────────────────
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(0, 3))), st.data())
def test_parts_make_the_whole(array: Array, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(array)), max_size=3)))
    parts = tuple(inline(part) for part in np.split(array, cuts))
    np.testing.assert_array_equal(resolve(Concat(parts), nothing), array)
    np.testing.assert_array_equal(resolve(Stack(tuple(inline(row) for row in array)), nothing), array)
    index = data.draw(st.integers(0, len(array) - 1))
    np.testing.assert_array_equal(resolve(Element(Concat(parts), index), nothing), array[index])


def test_an_element_of_a_vector_is_an_array() -> None:
    found = resolve(Element(inline([1.0, 2.0]), 1), nothing)
    assert isinstance(found, np.ndarray)
    assert found.shape == ()


def test_blobs_are_read_by_name() -> None:
    blob = Blob("a" * 64, 10)
    np.testing.assert_array_equal(resolve(Stack((blob, blob)), lambda b: np.ones(2)), np.ones((2, 2)))
    assert list(blobs_of(Concat((blob, Element(blob, 0), inline([1]))))) == [blob, blob]


@pytest.mark.parametrize(
    "ref",
    [
        Element(inline([1.0, 2.0]), 2),
        Element(inline(1.0), 0),
        Concat((inline([1.0]), inline([[1.0]]))),
        Stack((inline([1.0]), inline([1.0, 2.0]))),
    ],
)
def test_parts_that_do_not_fit_are_refused(ref: Any) -> None:
    with pytest.raises(BlobError):
        resolve(ref, nothing)


def test_nesting_is_bounded() -> None:
    ref: Any = inline([1.0])
    for _ in range(MAX_DEPTH + 2):
        ref = Stack((ref,))
    with pytest.raises(MessageError, match="nested"):
        resolve(ref, nothing)
