"""How operators read the plain numbers among their arguments: integers, axes, lengths of axes, dtypes.

Each of these raises a typed error that says what was expected. Operands, which are tensors, are in `catalogue`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ravop.errors import ArgumentError, DTypeError, ShapeError
from ravop.graph.dtypes import DType, as_dtype
from ravop.graph.op import Op
from ravop.protocol.tensors import Array

Axes = int | Sequence[int] | None
"""One axis, several, or None for all; negative ones count from the end."""


def whole(value: Any, what: str) -> int:
    """`value` as a Python int. Raises `DTypeError` for anything but an integer."""
    try:
        return operator.index(value)
    except TypeError:
        raise DTypeError(f"{what} must be an integer", expected="an int", received=repr(value)) from None


def wholes(values: Any, what: str) -> tuple[int, ...]:
    """An integer, or a sequence of them, as a tuple."""
    if isinstance(values, Op):
        values = known(values, what).tolist()
    if isinstance(values, Sequence | np.ndarray) and not isinstance(values, str):
        return tuple(whole(v, what) for v in values)
    return (whole(values, what),)


def known(op: Op, what: str) -> Array:
    """The value of an op that must be a small constant, because it decides a shape."""
    value = op.constant
    if value is None:
        raise ArgumentError(
            f"{what} must be known while the graph is defined",
            expected="Python numbers",
            received=f"{op!r}, computed later",
            op=op.name,
        )
    return value


def axis_of(op: Op, axis: Any, ndim: int | None = None) -> int:
    """`axis` counted from the front. Raises `ArgumentError` when the op has no such axis."""
    ndim = op.ndim if ndim is None else ndim
    number = whole(axis, "axis")
    if not -ndim <= number < ndim:
        raise ArgumentError(
            "there is no such axis",
            expected=f"{-ndim} to {ndim - 1}" if ndim else "no axis, this is a scalar",
            received=f"axis {number} of shape {list(op.shape)}",
        )
    return number % ndim


def axes_of(op: Op, axis: Axes) -> tuple[int, ...]:
    """`axis` as a tuple of different axes counted from the front; all of them for None."""
    if axis is None:
        return tuple(range(op.ndim))
    axes = tuple(axis_of(op, a) for a in wholes(axis, "axis"))
    if len(set(axes)) != len(axes):
        raise ArgumentError("an axis is given twice", received=list(axes))
    return axes


def lengths_of(op: Op, axes: Iterable[int]) -> tuple[int, ...]:
    """The lengths of these axes, counted from the front; the others may be unknown. Raises `ShapeError` where one of these is."""
    return tuple(length_of(op, axis) for axis in axes)


def length_of(op: Op, axis: int) -> int:
    """The length of one axis. Raises `ShapeError` where it is not known, as that of the batch in an inference model."""
    length = op.shape[axis]
    if isinstance(length, int):
        return length
    raise ShapeError(
        "this needs an axis of known length",
        expected=f"a number as length of axis {axis % op.ndim}",
        received=list(op.shape),
        op=op.name,
        source=op.source,
    )


def make_dtype(dtype: DTypeLike | None, default: DType) -> DType:
    return default if dtype is None else as_dtype(dtype)
