"""Order: sorting, the largest elements, different elements, and places in sorted ones. Of equals the first comes first."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.dtypes import BOOL, FLOAT, INT, is_float
from ravop.graph.graph import graph_of
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import axis_of, length_of, whole
from ravop.ops.catalogue import also, as_op, cast, common, integers, node, numbers, operator, scalar
from ravop.ops.shaping import axis_or_flat, expand_dims, reshape

__all__ = ["argsort", "digitize", "searchsorted", "sort", "top_k", "topk", "unique"]

_SORTABLE = ("float32", "float64", "int32", "int64")


@operator
def top_k(x: Operand, k: int, axis: int = -1, largest: bool = True) -> tuple[Op, Op]:
    """The k largest (or smallest) elements along `axis`, in order, and their int64 indices; the first of equals comes first.

    Example:
        >>> R.top_k([3, 1, 2], 2)
        ([3, 2], [0, 2])
    """
    op = as_op(x)
    a = axis_of(op, axis)
    count, length = whole(k, "k"), length_of(op, a)
    if not 0 < count <= length:
        raise ArgumentError("top_k cannot give so many", expected=f"1 to {length}", received=k)
    key = op if op.dtype.name in _SORTABLE else cast(op, FLOAT if is_float(op.dtype) else INT)
    values, positions = op.graph.apply(
        "TopK", [key, integers(op, [count])], {"axis": a, "largest": int(largest)}
    )
    return cast(values, op.dtype), positions


topk = also("topk", top_k)


@operator
def sort(x: Operand, axis: int | None = -1, descending: bool = False) -> Op:
    """The elements in rising order along `axis`; of the flattened x for None. NaNs come last.

    Example:
        >>> R.sort([3, 1, 2])
        [1, 2, 3]
    """
    op, a = axis_or_flat(x, axis)
    length = length_of(op, a)
    if not length:
        return op
    lost = node("IsNaN", [op]) if is_float(op.dtype) else None
    ordered = top_k(_without_nans(op, lost, descending), length, a, descending)[0]
    if lost is None:
        return ordered
    count = node("ReduceSum", [cast(lost, INT), integers(op, [a])], keepdims=1)
    place = reshape(integers(op, range(length, 0, -1)), [length if n == a else 1 for n in range(op.ndim)])
    return node("Where", [node("LessOrEqual", [place, count]), scalar(op, math.nan), ordered])


def _without_nans(op: Op, lost: Op | None, descending: bool) -> Op:
    """`op` with what comes last in place of its NaNs, which engines cannot order."""
    if lost is None:
        return op
    return node("Where", [lost, scalar(op, -math.inf if descending else math.inf), op])


@operator
def argsort(x: Operand, axis: int | None = -1, descending: bool = False) -> Op:
    """int64 indices that would sort x along `axis`; equal elements keep their order, and NaNs are as infinity.

    Example:
        >>> R.argsort([3, 1, 2])
        [1, 2, 0]
    """
    op, a = axis_or_flat(x, axis)
    length = length_of(op, a)
    if not length:
        return cast(op, INT)
    lost = node("IsNaN", [op]) if is_float(op.dtype) else None
    return top_k(_without_nans(op, lost, descending), length, a, descending)[1]


@operator
def unique(
    x: Operand,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
) -> Op | tuple[Op, ...]:
    """The different elements of x in rising order, or its different slices along `axis`; how many is known when it is computed.
    All NaNs among elements are one, which is the last.

    With any of the further three, a tuple with them after it, int64: where each is first in the flattened x, which of them
    each element of x is, and how often each occurs.

    Example:
        >>> R.unique([3, 1, 3, 2], return_counts=True)
        ([1, 2, 3], [1, 1, 2])
    """
    op = as_op(x)
    key = (
        op
        if op.dtype.name in ("float32", "float64", "int64", "int8")
        else cast(op, FLOAT if is_float(op.dtype) else INT)
    )
    apart = axis is None and is_float(op.dtype)
    if apart:
        key = _nans_apart(key)
    attributes = (
        {"sorted": 1, "axis": 0}
        if apart
        else {"sorted": 1}
        if axis is None
        else {"sorted": 1, "axis": axis_of(op, axis)}
    )
    sizes = (
        (None, 2)
        if apart
        else (None,)
        if axis is None
        else tuple(None if a == attributes["axis"] else n for a, n in enumerate(op.shape))
    )
    length = op.shape[attributes["axis"]] if axis is not None else None
    outputs = op.graph.apply(
        "Unique",
        [key],
        attributes,
        outputs=[(key.dtype, sizes), (INT, (None,)), (INT, (length,)), (INT, (None,))],
    )
    found = cast(_nans_back(outputs[0]) if apart else outputs[0], op.dtype)
    inverse = reshape(outputs[2], op.static_shape) if return_inverse and axis is None else outputs[2]
    wanted = zip(
        (return_index, return_inverse, return_counts), (outputs[1], inverse, outputs[3]), strict=True
    )
    more = tuple(output for asked, output in wanted if asked)
    return (found, *more) if more else found


def _nans_apart(key: Op) -> Op:
    """Each element as a row of whether it is NaN, and itself or 0: engines cannot order NaNs, but such rows."""
    flat = node("Reshape", [key, integers(key, [-1])])
    lost = node("IsNaN", [flat])
    columns = [cast(lost, flat.dtype), node("Where", [lost, scalar(flat, 0), flat])]
    return node("Concat", [expand_dims(column, 1) for column in columns], axis=1)


def _nans_back(rows: Op) -> Op:
    lost, value = (node("Gather", [rows, rows.graph.constant(np.array(n))], axis=1) for n in (0, 1))
    return node("Where", [cast(lost, BOOL), scalar(value, math.nan), value])


@operator
def searchsorted(x: Operand, values: Operand, side: Literal["left", "right"] = "left") -> Op:
    """Where each of `values` belongs in the rising vector x, int64: before equal elements, or after them for "right".
    NaNs belong to the end.

    Every value is compared with every element: for long x and many values that is much.

    Example:
        >>> R.searchsorted([1, 3, 5], [0, 3, 9])
        [0, 1, 3]
    """
    if side not in ("left", "right"):
        raise ArgumentError("unknown side", expected="left or right", received=repr(side))
    ordered, wanted = (numbers(op) for op in common(x, values))
    if ordered.ndim != 1:
        raise ShapeError("a sorted vector is needed", expected="1 axis", received=list(ordered.shape))
    wanted = expand_dims(wanted, -1)
    before = node("Less" if side == "left" else "LessOrEqual", [ordered, wanted])
    if is_float(wanted.dtype):
        last = node("IsNaN", [wanted])
        if side == "left":
            last = node("And", [last, node("Not", [node("IsNaN", [ordered])])])
        before = node("Or", [before, last])
    return node("ReduceSum", [cast(before, INT), integers(before, [before.ndim - 1])], keepdims=0)


@operator
def digitize(x: Operand, bins: Operand, right: bool = False) -> Op:
    """Into which of the bins between rising edges (or falling ones that are known) each x falls, int64: 0 is below all; edges
    belong to the bin above, or with `right` to the one below.

    Example:
        >>> R.digitize([0.5, 1.5, 3], [1, 2, 3])
        [0, 1, 3]
    """
    edges = graph_of(bins, x).tensor(bins)
    known = edges.constant
    if known is not None and known.ndim == 1 and known.size > 1 and known[0] > known[-1]:  # falling
        place = searchsorted(np.flip(known), x, "left" if right else "right")
        return node("Sub", [scalar(place, known.size), place])
    return searchsorted(edges, x, "left" if right else "right")
