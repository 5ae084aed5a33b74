"""Dtypes: the default float, promotion, and the way between NumPy's and ONNX's names.

Promotion is NumPy's, with two differences. To keep float32 the default, an integer that meets a float takes the float's
dtype (NumPy would widen int64 with float32 to float64). And where NumPy knows no dtype for two narrow ones (bfloat16
with float16, int4 with uint4), it is float32 or int8. Python scalars are weak, as in NumPy 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike

from ravop.errors import DTypeError
from ravop.protocol.tensors import DTYPES, NARROW, Array

DType = np.dtype[Any]

FLOAT = np.dtype(np.float32)
INT = np.dtype(np.int64)
BOOL = np.dtype(np.bool_)

_NARROW_FLOATS = frozenset(dtype for name, dtype in NARROW.items() if "float" in name)
_NARROW_INTEGERS = frozenset(NARROW.values()) - _NARROW_FLOATS
_TO_IR = {dtype: ir.DataType.from_numpy(dtype) for dtype in DTYPES}
_FROM_IR = {value: key for key, value in _TO_IR.items()}
_ELEM_TYPES = {int(value): key for key, value in _TO_IR.items()}


def as_dtype(dtype: DTypeLike) -> DType:
    """`dtype` as one of the supported dtypes. Raises `DTypeError` for any other."""
    try:
        found: DType = np.dtype(dtype)
    except TypeError as error:
        raise DTypeError("not a dtype", expected=_names(), received=repr(dtype)) from error
    if found not in DTYPES:
        raise DTypeError("this dtype is not supported", expected=_names(), received=found)
    return found


def _names() -> str:
    return ", ".join(sorted(map(str, DTYPES)))


def to_ir(dtype: DType) -> ir.DataType:
    return _TO_IR[dtype]


def from_ir(dtype: ir.DataType) -> DType:
    """Raises `DTypeError` for an ONNX type without a counterpart (strings, complex numbers, …)."""
    try:
        return _FROM_IR[dtype]
    except KeyError:
        raise DTypeError(
            "this ONNX element type is not supported", expected=_names(), received=dtype.name
        ) from None


def from_elem_type(elem_type: int) -> DType:
    """The dtype of an ONNX `elem_type` number. Raises `DTypeError` for one without a counterpart."""
    found = _ELEM_TYPES.get(elem_type)
    if found is not None:
        return found
    names = {int(kind): kind.name for kind in ir.DataType}
    raise DTypeError("this ONNX element type is not supported", expected=_names(),
                     received=names.get(elem_type, elem_type))  # fmt: skip


def is_float(dtype: DType) -> bool:
    """Whether it is a dtype of floating-point numbers, the narrow ones included."""
    return dtype.kind == "f" or dtype in _NARROW_FLOATS


def is_integer(dtype: DType) -> bool:
    """Whether it is a dtype of integers, signed or not, the narrow ones included."""
    return dtype.kind in "iu" or dtype in _NARROW_INTEGERS


def is_number(dtype: DType) -> bool:
    """Whether it is a dtype of floats, integers or booleans."""
    return dtype.kind in "biuf" or dtype in DTYPES


def itemsize(dtype: DType) -> float:
    """Bytes that an element takes in a packed tensor of ONNX: half of one for int4, a quarter for int2."""
    return float(to_ir(dtype).itemsize)


def promote(first: DType, second: DType) -> DType:
    """The dtype of an operation on both."""
    if first == second:
        return first
    if is_float(first) != is_float(second):
        return first if is_float(first) else second
    try:
        return np.promote_types(first, second)
    except TypeError:
        return FLOAT if is_float(first) else np.promote_types(_whole_bytes(first), _whole_bytes(second))


def _whole_bytes(dtype: DType) -> DType:
    """An integer dtype of NumPy's own that has all values of this one."""
    return np.dtype(np.int8) if dtype in _NARROW_INTEGERS else dtype


def as_array(value: Any, dtype: DTypeLike | None = None) -> Array:
    """A private copy of `value` as an array that a graph can hold.

    Without `dtype`: floats become float32 (whatever their width), integers int64 when they are Python's and stay what they
    are when they are NumPy's, booleans stay. Raises `DTypeError` for text, objects and ragged lists.
    """
    try:
        array = np.array(value)
    except ValueError as error:
        raise DTypeError(
            "this is not a tensor", expected="numbers, or lists of equal length", received=str(error)
        ) from error
    if not is_number(array.dtype):
        raise DTypeError(
            "this is not a tensor of numbers",
            expected=_names(),
            received=f"{type(value).__name__} of {array.dtype}",
        )
    if dtype is not None:
        return array.astype(as_dtype(dtype))
    if is_float(array.dtype):
        return array.astype(FLOAT)
    return array.astype(as_dtype(array.dtype), copy=False)
