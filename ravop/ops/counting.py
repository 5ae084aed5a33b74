"""Counting: how often, how many, and classes as vectors of zeros and a one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ravop.errors import ArgumentError, DTypeError, ShapeError
from ravop.graph.dtypes import FLOAT, INT, as_dtype, is_integer
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import Axes, length_of, whole
from ravop.ops.catalogue import (
    also,
    as_op,
    booleans,
    cast,
    floats,
    integers,
    node,
    numbers,
    operator,
    scalar,
    summands,
)
from ravop.ops.reduction import max, min, sum
from ravop.ops.shaping import expand_dims, expand_like, flatten
from ravop.ops.sorting import searchsorted

__all__ = ["bincount", "count_nonzero", "histogram", "histogram_bin_edges", "one_hot", "one_hot_encoding"]


@operator
def count_nonzero(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """How many elements along `axis` are not zero, int64.

    Example:
        >>> R.count_nonzero([1, 0, 3])
        2
    """
    return sum(booleans(x), axis, keepdims)


@operator
def bincount(x: Operand, weights: Operand | None = None, minlength: int = 0, length: int | None = None) -> Op:
    """How often each of 0, 1, 2, … is in the vector x, or the sum of its `weights`, as `numpy.bincount`.

    With `length` the result has exactly so many bins, and a shape known at once; x must be smaller everywhere.

    Example:
        >>> R.bincount([1, 3, 1])
        [0, 2, 0, 1]
        >>> R.bincount([1, 3, 1], weights=[0.5, 2.0, 1.0])
        [0.0, 1.5, 0.0, 2.0]
    """
    op = numbers(x)
    if op.ndim != 1 or not is_integer(op.dtype):
        raise ShapeError(
            "bincount counts a vector of integers",
            expected="integers, 1 axis",
            received=f"{op.dtype}{list(op.shape)}",
        )
    values = cast(op, INT)
    added = expand_like(op.graph.tensor(1) if weights is None else summands(weights), op)
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
def histogram(
    x: Operand,
    bins: int | Sequence[float] = 10,
    range: tuple[float, float] | None = None,
    density: bool = False,
    weights: Operand | None = None,
) -> tuple[Op, Op]:
    """How many elements lie in each of `bins` equal parts of `range` (from the smallest to the largest for None), or between
    the rising edges given; and the edges. → counts, edges, as `numpy.histogram`; the last bin holds its upper edge.

    Counts are int64; sums of `weights`, or with `density` parts of the whole by unit of length, are floats.

    Example:
        >>> R.histogram([1, 2, 2, 4], bins=3)
        ([1, 2, 1], [1.0, 2.0, 3.0, 4.0])
    """
    values = flatten(floats(x))
    edges = histogram_bin_edges(values, bins, range)
    count = length_of(edges, 0) - 1
    place = node("Sub", [searchsorted(edges, values, "right"), integers(edges, [1])])
    last = node("Equal", [values, node("Gather", [edges, scalar(place, count)], axis=0)])
    place = node("Where", [last, scalar(place, count - 1), place])
    # Who is outside is in a further bin, which is dropped.
    inside = node(
        "And",
        [node("GreaterOrEqual", [place, scalar(place, 0)]), node("Less", [place, scalar(place, count)])],
    )
    place = node("Where", [inside, place, scalar(place, count)])
    found = bincount(place, None if weights is None else flatten(as_op(weights)), length=count + 1)
    found = node("Slice", [found, *(integers(found, [n]) for n in (0, count, 0))])
    if density:
        number = floats(found)
        widths = node("Sub", [_part(edges, 1, count + 1), _part(edges, 0, count)])
        found = node("Div", [number, node("Mul", [sum(number), cast(widths, number.dtype)])])
    return found, edges


def _part(op: Op, start: int, stop: int) -> Op:
    return node("Slice", [op, *(integers(op, [n]) for n in (start, stop, 0))])


@operator
def histogram_bin_edges(
    x: Operand, bins: int | Sequence[float] = 10, range: tuple[float, float] | None = None
) -> Op:
    """The edges of the bins of `histogram`, one more than bins.

    Example:
        >>> R.histogram_bin_edges([1, 2, 2, 4], bins=3)
        [1.0, 2.0, 3.0, 4.0]
    """
    op = floats(x)
    if isinstance(bins, Sequence | np.ndarray | Op):
        edges = cast(op.graph.tensor(bins), op.dtype)
        if edges.ndim != 1 or length_of(edges, 0) < 2:
            raise ShapeError(
                "these are no edges", expected="a vector of two or more", received=list(edges.shape)
            )
        return edges
    count = whole(bins, "bins")
    if count < 1:
        raise ArgumentError("a histogram has bins", expected="1 or more", received=bins)
    if range is not None:
        low, high = (float(limit) for limit in range)
        if not low <= high:
            raise ArgumentError("this range is empty", expected="a lower and an upper limit", received=range)
        if low == high:
            low, high = low - 0.5, high + 0.5
        return op.graph.tensor(np.linspace(low, high, count + 1), op.dtype)
    if 0 in op.shape:
        return op.graph.tensor(np.linspace(0, 1, count + 1), op.dtype)
    lower, upper = min(op), max(op)
    flat = node("Equal", [lower, upper])
    half = node("Where", [flat, scalar(op, 0.5), scalar(op, 0)])
    start = node("Sub", [lower, half])
    step = node("Div", [node("Sub", [node("Add", [upper, half]), start]), scalar(op, count)])
    inner = node("Add", [node("Mul", [op.graph.tensor(np.arange(count), op.dtype), step]), start])
    return node("Concat", [inner, expand_dims(node("Add", [upper, half]), 0)], axis=0)


@operator
def one_hot(x: Operand, depth: int, dtype: DTypeLike = FLOAT) -> Op:
    """1 at the position that x tells, else 0, along a new last axis of length `depth`; all 0 where x is outside of it.

    Example:
        >>> R.one_hot([0, 2], 3)
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    op = numbers(x)
    if not is_integer(op.dtype):
        raise DTypeError(
            "one_hot needs whole numbers", expected="integers", received=op.dtype, hint="use .astype('int64')"
        )
    count = whole(depth, "depth")
    if count < 1:
        raise ArgumentError("depth is the number of classes", expected="1 or more", received=depth)
    classes = op.graph.tensor(np.arange(count))
    return cast(node("Equal", [expand_dims(cast(op, INT), -1), classes]), as_dtype(dtype))


one_hot_encoding = also("one_hot_encoding", one_hot)
