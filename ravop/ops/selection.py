"""Order and selection: sorting, searching, counting, and setting elements."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ravop.errors import ArgumentError, DTypeError, ShapeError
from ravop.graph.dtypes import BOOL, FLOAT, INT, as_dtype
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import also, as_op, axis_of, cast, integers, node, numbers, operator, whole
from ravop.ops.compare import equal, where
from ravop.ops.shaping import broadcast_to, expand_dims, flatten, reshape, transpose

__all__ = [
    "argsort", "bincount", "find_indices", "one_hot", "one_hot_encoding", "set_value", "sort", "top_k", "unique",
]  # fmt: skip

_SORTABLE = ("float32", "float64", "int32", "int64")


@operator
def top_k(x: Operand, k: int, axis: int = -1, largest: bool = True) -> tuple[Op, Op]:
    """The k largest (or smallest) elements along `axis`, in order, and their int64 indices; the first of equals comes first."""
    op = as_op(x)
    a = axis_of(op, axis)
    count, length = whole(k, "k"), op.static_shape[a]
    if not 0 < count <= length:
        raise ArgumentError("top_k cannot give so many", expected=f"1 to {length}", received=k)
    key = op if op.dtype.name in _SORTABLE else cast(op, FLOAT if op.dtype.kind == "f" else INT)
    values, positions = op.graph.apply(
        "TopK", [key, integers(op, [count])], {"axis": a, "largest": int(largest)}
    )
    return cast(values, op.dtype), positions


@operator
def sort(x: Operand, axis: int | None = -1, descending: bool = False) -> Op:
    """The elements in rising order along `axis`; of the flattened x for None."""
    op, a = _axis_or_flat(x, axis)
    return top_k(op, op.static_shape[a], a, descending)[0] if op.static_shape[a] else op


@operator
def argsort(x: Operand, axis: int | None = -1, descending: bool = False) -> Op:
    """int64 indices that would sort x along `axis`; equal elements keep their order."""
    op, a = _axis_or_flat(x, axis)
    return top_k(op, op.static_shape[a], a, descending)[1] if op.static_shape[a] else cast(op, INT)


def _axis_or_flat(x: Operand, axis: int | None) -> tuple[Op, int]:
    op = as_op(x)
    return (flatten(op), 0) if axis is None else (op, axis_of(op, axis))


@operator
def unique(x: Operand) -> Op:
    """The different elements of x in rising order: a vector whose length is known when it is computed."""
    op = as_op(x)
    key = (
        op
        if op.dtype.name in ("float32", "float64", "int64", "int8")
        else cast(op, FLOAT if op.dtype.kind == "f" else INT)
    )
    return cast(node("Unique", [key], sorted=1), op.dtype)


@operator
def find_indices(x: Operand, value: Operand) -> Op:
    """Where x equals `value`, in order, int64: positions for a vector, rows of (number of axes,)
    otherwise; as many as there are.
    """
    op = as_op(x)
    found = transpose(node("NonZero", [equal(op, value)]))
    return node("Squeeze", [found, integers(op, [1])]) if op.ndim == 1 else found


@operator
def set_value(x: Operand, key: Any, value: Operand) -> Op:
    """x with `x[key] = value` done: key as in `x[key]`, or a boolean op of the shape of x, or an int op along the first axis."""
    op = as_op(x)
    if isinstance(key, Op):
        return (
            where(key, _of_dtype(op, value), op)
            if key.dtype == BOOL
            else _set_rows(op, key, _of_dtype(op, value))
        )
    positions = np.arange(op_count(op)).reshape(op.static_shape)
    try:
        chosen = positions[key]
    except (IndexError, TypeError) as error:
        raise ArgumentError(
            "this is no index of the op",
            expected=f"an index into shape {list(op.shape)}",
            received=str(error),
        ) from None
    new = flatten(broadcast_to(_of_dtype(op, value), chosen.shape))
    if not chosen.size:
        return op
    flat = node("ScatterElements", [flatten(op), op.graph.tensor(chosen.reshape(-1)), new], axis=0)
    return reshape(flat, op.static_shape)


def op_count(op: Op) -> int:
    return int(np.prod(op.static_shape, dtype=np.int64))


def _of_dtype(op: Op, value: Operand) -> Op:
    return cast(value, op.dtype) if isinstance(value, Op) else op.graph.tensor(value, op.dtype)


def _set_rows(op: Op, rows: Op, value: Op) -> Op:
    if rows.dtype.kind not in "iu" or not op.ndim:
        raise DTypeError("an op as index must be integers or booleans", expected="int64", received=rows.dtype)
    new = broadcast_to(value, rows.static_shape + op.static_shape[1:])
    return node("ScatterND", [op, expand_dims(cast(rows, INT), -1), new])


@operator
def bincount(x: Operand, weights: Operand | None = None, minlength: int = 0, length: int | None = None) -> Op:
    """How often each of 0, 1, 2, … is in the vector x, or the sum of its `weights`, as `numpy.bincount`.

    With `length` the result has exactly so many bins, and a shape known at once; x must be smaller everywhere.
    """
    op = as_op(x)
    if op.ndim != 1 or op.dtype.kind not in "iu":
        raise ShapeError(
            "bincount counts a vector of integers",
            expected="integers, 1 axis",
            received=f"{op.dtype}{list(op.shape)}",
        )
    values = cast(op, INT)
    if weights is None:
        added = cast(broadcast_to(op.graph.tensor(1), op.static_shape), INT)
    else:
        added = broadcast_to(numbers(as_op(weights)), op.static_shape)
    if length is not None:
        bins = integers(op, [whole(length, "length")])
    else:
        highest = node("ReduceMax", [values, integers(op, [0])], keepdims=1)
        bins = node(
            "Max", [node("Add", [highest, integers(op, [1])]), integers(op, [whole(minlength, "minlength")])]
        )
    empty = node("ConstantOfShape", [bins], value=np.zeros(1, dtype=added.dtype))
    return node("ScatterElements", [empty, values, added], axis=0, reduction="add")


@operator
def one_hot(x: Operand, depth: int, dtype: DTypeLike = FLOAT) -> Op:
    """1 at the position that x tells, else 0, along a new last axis of length `depth`; all 0 where x is outside of it."""
    op = numbers(x)
    if op.dtype.kind not in "iu":
        raise DTypeError(
            "one_hot needs whole numbers", expected="integers", received=op.dtype, hint="use .astype('int64')"
        )
    count = whole(depth, "depth")
    if count < 1:
        raise ArgumentError("depth is the number of classes", expected="1 or more", received=depth)
    classes = op.graph.tensor(np.arange(count))
    return cast(node("Equal", [expand_dims(cast(op, INT), -1), classes]), as_dtype(dtype))


one_hot_encoding = also("one_hot_encoding", one_hot)
