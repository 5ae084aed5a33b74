"""Tensors on the wire: NumPy's `.npy` format, and references to where the bytes are.

A tensor travels as the bytes of an `.npy` file (little-endian, C order, no objects): inline in a message up to
`INLINE_LIMIT`, as a blob named by the SHA-256 of those bytes above it. NumPy's format has no name for the dtypes of
`NARROW`: they travel as records of one unsigned integer, whose field is named after the dtype. Elements of fewer than
eight bits take a byte each, and its upper bits do not count. A value may be in several pieces, such as the
losses of the chunks of a loop; `TensorRef` says how they make one tensor. `resolve` puts it together, given a way to
read a blob: it does no I/O of its own.
"""

from __future__ import annotations

import functools
import hashlib
import io
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any, BinaryIO

import ml_dtypes
import msgspec
import numpy as np
from msgspec import Meta

from ravop.errors import BlobError, MessageError

INLINE_LIMIT = 64 * 1024
"""Bytes of an encoded tensor that may ride inside a message."""
HEAD = 4096
"""Bytes in which the header of an `.npy` file must end."""
NPY_START = 10
"""Bytes before the header's text: magic, version, and its length in the last two."""
MAX_PARTS = 100_000
MAX_DEPTH = 16
NARROW = {
    name: np.dtype(getattr(ml_dtypes, name))
    for name in ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
                 "float4_e2m1fn", "int4", "uint4", "int2", "uint2")
}  # fmt: skip
"""Dtypes of ONNX that NumPy does not have, by name; `ml_dtypes` adds them to it."""
DTYPES = frozenset(
    np.dtype(name)
    for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
                 "float16", "float32", "float64")
) | frozenset(NARROW.values())  # fmt: skip
"""The dtypes a tensor may have."""

_RECORDS = {dtype: np.dtype([(name, f"<u{dtype.itemsize}")]) for name, dtype in NARROW.items()}
_OF_RECORD = {record: dtype for dtype, record in _RECORDS.items()}

Array = np.ndarray[Any, np.dtype[Any]]


class Inline(msgspec.Struct, frozen=True, tag="inline"):
    """The tensor itself, as `.npy` bytes."""

    data: Annotated[bytes, Meta(max_length=INLINE_LIMIT)]


class Blob(msgspec.Struct, frozen=True, tag="blob"):
    """The tensor is the blob of this name."""

    sha: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Meta(ge=0)]


class Concat(msgspec.Struct, frozen=True, tag="concat"):
    """The parts, one after another along the first axis: what the chunks of a loop stacked."""

    parts: Annotated[tuple[TensorRef, ...], Meta(min_length=1, max_length=MAX_PARTS)]


class Stack(msgspec.Struct, frozen=True, tag="stack"):
    """The parts under a new first axis: what the iterations of an opened loop gave."""

    parts: Annotated[tuple[TensorRef, ...], Meta(min_length=1, max_length=MAX_PARTS)]


class Element(msgspec.Struct, frozen=True, tag="element"):
    """The element `index` of the first axis of `of`."""

    of: TensorRef
    index: Annotated[int, Meta(ge=0)]


TensorRef = Inline | Blob | Concat | Stack | Element


def sha256(data: bytes | memoryview) -> str:
    """The name of a blob with these bytes."""
    return hashlib.sha256(data).hexdigest()


def write_tensor(array: Array, stream: BinaryIO) -> None:
    """Write the `.npy` bytes of the array, little-endian and C-ordered; fastest to a real file.

    Raises `MessageError` for a dtype outside `DTYPES`.
    """
    array = np.asarray(array)
    if array.dtype.newbyteorder("=") not in DTYPES:
        raise MessageError("this dtype cannot be sent", expected=_dtype_names(), received=array.dtype)
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    if little.dtype in _RECORDS:
        little = little.view(_RECORDS[little.dtype])
    np.lib.format.write_array(stream, little, version=(1, 0), allow_pickle=False)


def encode_tensor(array: Array) -> bytes:
    """What `write_tensor` writes, as bytes. Raises as it does."""
    buffer = io.BytesIO()
    write_tensor(array, buffer)
    return buffer.getvalue()


def decode_tensor(data: bytes | memoryview) -> Array:
    """The array in `.npy` bytes (a read-only view where possible). Raises `MessageError` for anything else."""
    view = memoryview(data)
    header = tensor_header(bytes(view[:HEAD]))
    if header.total != len(view):
        raise MessageError(
            "a tensor's bytes do not match its shape",
            expected=f"{header.total} bytes for {header.shape} {header.dtype}",
            received=f"{len(view)} bytes",
        )
    try:
        return np.frombuffer(view[header.offset :], dtype=np.dtype(header.dtype)).reshape(header.shape)
    except ValueError as error:  # more axes, or longer ones, than NumPy has, around an empty one
        raise MessageError("a tensor of an impossible shape", received=header.shape) from error


class TensorHeader(msgspec.Struct, frozen=True):
    """What the header of `.npy` bytes says; `offset` is its own length, `total` that of the whole, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    total: int


def tensor_header(head: bytes) -> TensorHeader:
    """The header in the first `HEAD` bytes (or all) of an `.npy` file. Raises `MessageError` for anything else."""
    length = NPY_START + int.from_bytes(head[NPY_START - 2 : NPY_START], "little")
    return _parsed_header(head[: min(length, HEAD)])


@functools.lru_cache(maxsize=1024)
def _parsed_header(head: bytes) -> TensorHeader:
    stream = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"npy version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if any(dim < 0 for dim in shape):
            raise ValueError(f"shape {shape}")
    except (ValueError, EOFError, SyntaxError, TypeError) as error:
        raise MessageError("not a tensor in .npy format", received=str(error)[:200]) from error
    dtype = _OF_RECORD.get(dtype, dtype)
    if fortran or dtype.newbyteorder("=") not in DTYPES or dtype.byteorder == ">":
        raise MessageError(
            "a tensor this protocol does not carry",
            expected=f"C order, {_dtype_names()}",
            received=f"{dtype}",
        )
    total = stream.tell() + math.prod(shape) * dtype.itemsize
    return TensorHeader(dtype.newbyteorder("=").name, shape, stream.tell(), total)


def _dtype_names() -> str:
    return ", ".join(sorted(map(str, DTYPES)))


def reference(data: bytes) -> Inline | Blob:
    """How encoded tensor bytes are referred to: inline when small, by name when not."""
    return Inline(data) if len(data) <= INLINE_LIMIT else Blob(sha256(data), len(data))


def blobs_of(ref: TensorRef) -> Iterator[Blob]:
    """Every blob that `ref` needs, with repetitions."""
    pending: list[TensorRef] = [ref]
    while pending:
        match pending.pop():
            case Blob() as blob:
                yield blob
            case Concat(parts) | Stack(parts):
                pending.extend(reversed(parts))
            case Element(of):
                pending.append(of)
            case Inline():
                pass


def resolve(ref: TensorRef, read: Callable[[Blob], Array], depth: int = 0) -> Array:
    """The tensor that `ref` stands for; `read` gives the array in a blob.

    Raises `BlobError` where the parts do not fit each other or an index is out of range.
    """
    if depth > MAX_DEPTH:
        raise MessageError("a tensor reference is nested too deeply", expected=f"at most {MAX_DEPTH} levels")
    match ref:
        case Inline(data):
            return decode_tensor(data)
        case Blob():
            return read(ref)
        case Element(of, index):
            whole = resolve(of, read, depth + 1)
            if whole.ndim == 0 or index >= whole.shape[0]:
                raise BlobError(
                    "a tensor has no such element", expected=f"an index into {whole.shape}", received=index
                )
            element: Array = np.asarray(whole[index])  # of a vector, NumPy gives a scalar
            return element
        case Concat(parts) | Stack(parts):
            arrays = [resolve(part, read, depth + 1) for part in parts]
            try:
                return np.concatenate(arrays) if isinstance(ref, Concat) else np.stack(arrays)
            except ValueError as error:
                raise BlobError("the parts of a tensor do not fit together", received=str(error)) from error
