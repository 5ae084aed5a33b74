"""Choosing and setting elements by their place or by a condition. `x[...]` itself is in `indexing`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ravop.errors import ArgumentError, DTypeError, ShapeError
from ravop.graph.dtypes import BOOL, INT, is_integer
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import as_op, booleans, cast, common, integers, node, operator
from ravop.ops.compare import equal, where
from ravop.ops.indexing import index
from ravop.ops.shaping import axis_or_flat, broadcast_to, expand_like, flatten, op_size, reshape, transpose

__all__ = [
    "argwhere", "choose", "compress", "extract", "find_indices", "flatnonzero", "put_along_axis", "select", "set_value",
    "take_along_axis",
]  # fmt: skip


@operator
def find_indices(x: Operand, value: Operand) -> Op:
    """Where x equals `value`, in order, int64: positions for a vector, rows of (number of axes,)
    otherwise; as many as there are.

    Example:
        >>> R.find_indices([3, 1, 3], 3)
        [0, 2]
    """
    op = as_op(x)
    found = transpose(node("NonZero", [equal(op, value)]))
    return node("Squeeze", [found, integers(op, [1])]) if op.ndim == 1 else found


@operator
def argwhere(x: Operand) -> Op:
    """Where x is not zero, in order, int64: a row of indices for each place; as many as there are.

    Example:
        >>> R.argwhere([[3, 0], [0, 4]])
        [[0, 0], [1, 1]]
    """
    test = booleans(x)
    if not test.ndim:  # no axis, so rows of no index
        rows = node("NonZero", [reshape(test, (1,))])
        return transpose(node("Slice", [rows, *(integers(rows, [n]) for n in (0, 0, 0))]))
    return transpose(node("NonZero", [test]))


@operator
def flatnonzero(x: Operand) -> Op:
    """Where the flattened x is not zero, in order, int64.

    Example:
        >>> R.flatnonzero([0, 2, 0, 3])
        [1, 3]
    """
    return flatten(node("NonZero", [flatten(booleans(x))]))


@operator
def take_along_axis(x: Operand, indices: Operand, axis: int | None = -1) -> Op:
    """For each place of `indices` the element of x that it tells along `axis`, such as by `argsort`; of the flattened x for None.

    The other axes broadcast.

    Example:
        >>> R.take_along_axis([[3, 1], [4, 5]], [[1, 0], [0, 1]], axis=1)
        [[1, 3], [4, 5]]
    """
    op, places, a = _along(x, indices, axis)
    return node("GatherElements", [op, places], axis=a)


@operator
def put_along_axis(x: Operand, indices: Operand, values: Operand, axis: int | None = -1) -> Op:
    """x with `values` at the places that `indices` tell along `axis`, as `take_along_axis` reads them.

    Example:
        >>> R.put_along_axis([[3, 1], [4, 5]], [[1], [0]], 9, axis=1)
        [[3, 9], [9, 5]]
    """
    op, places, a = _along(x, indices, axis)
    new = expand_like(_of_dtype(op, values), places)
    made = node("ScatterElements", [op, places, new], axis=a)
    return made if axis is not None else reshape(made, as_op(x).static_shape)


def _along(x: Operand, indices: Operand, axis: int | None) -> tuple[Op, Op, int]:
    given = as_op(indices)
    if not is_integer(given.dtype):
        raise DTypeError("indices must be whole numbers", expected="an integer dtype", received=given.dtype)
    (op, a), places = axis_or_flat(x, axis), cast(given, INT)
    if places.ndim != op.ndim:
        raise ShapeError("as many axes are needed", expected=f"{op.ndim} axes", received=list(places.shape))
    if (*op.shape[:a], *op.shape[a + 1 :]) != (*places.shape[:a], *places.shape[a + 1 :]):
        others = np.broadcast_shapes(*(
            tuple(1 if axis_ == a else size for axis_, size in enumerate(one.static_shape)) for one in (op, places)
        ))  # fmt: skip
        op, places = (
            broadcast_to(one, [*others[:a], one.static_shape[a], *others[a + 1 :]]) for one in (op, places)
        )
    known, length = given.constant, op.shape[a]
    if (
        known is not None
        and known.size
        and isinstance(length, int)
        and not (-length <= known.min() and known.max() < length)
    ):
        raise ArgumentError(
            "an index is out of range", expected=f"{-length} to {length - 1}", received=known.tolist()
        )
    return op, places, a


@operator
def compress(condition: Operand, x: Operand, axis: int | None = None) -> Op:
    """The elements of x along `axis` where the vector `condition` holds; of the flattened x for None. As many as there are.
    Elements behind the end of a shorter condition are left out.

    Example:
        >>> R.compress([True, False, True], [1, 2, 3])
        [1, 3]
    """
    (op, a), test = axis_or_flat(x, axis), booleans(condition)
    if test.ndim != 1:
        raise ShapeError(
            "one truth value for each element is needed", expected="1 axis", received=list(test.shape)
        )
    length, count = op.shape[a], test.shape[0]
    if isinstance(length, int) and isinstance(count, int) and count < length:  # the rest is left out
        op = index(op, (np.s_[:],) * a + (np.s_[:count],))
    return index(op, (np.s_[:],) * a + (test,))


@operator
def extract(condition: Operand, x: Operand) -> Op:
    """The elements of x, in order, where `condition`, of as many elements, holds.

    Example:
        >>> R.extract([[True, False], [False, True]], [[1, 2], [3, 4]])
        [1, 4]
    """
    return compress(flatten(booleans(condition)), x)


@operator
def select(conditions: Sequence[Operand], choices: Sequence[Operand], default: Operand = 0) -> Op:
    """For each element the choice whose condition holds, the first of several; `default` where none does.

    Example:
        >>> R.select([[True, False, False], [True, True, False]], [[1, 2, 3], [4, 5, 6]])
        [1, 5, 0]
    """
    if len(conditions) != len(choices) or not conditions:
        raise ArgumentError(
            "each choice has one condition",
            expected="lists of one length",
            received=f"{len(conditions)} and {len(choices)}",
        )
    *values, found = common(*choices, default)
    for condition, choice in reversed(list(zip(conditions, values, strict=True))):
        found = where(condition, choice, found)
    return found


@operator
def choose(x: Operand, choices: Sequence[Operand]) -> Op:
    """For each element the one of the `choices` (a list of tensors) that x tells, from 0.

    Example:
        >>> R.choose([0, 1, 0], [[1, 2, 3], [4, 5, 6]])
        [1, 5, 3]
    """
    return select([equal(x, number) for number in range(len(choices))], choices, default=False)


@operator
def set_value(x: Operand, key: Any, value: Operand) -> Op:
    """x with `x[key] = value` done: key as in `x[key]`, with ops of integers and booleans too. Where an element is set more
    than once, the last value stays.

    Example:
        >>> R.set_value([1, 2, 3, 4], np.s_[::2], 0)
        [0, 2, 0, 4]
    """
    op = as_op(x)
    if isinstance(key, Op) and key.dtype == BOOL and key.shape == op.shape and as_op(value).ndim == 0:
        return where(key, _of_dtype(op, value), op)
    if isinstance(key, Op) and not (is_integer(key.dtype) or key.dtype == BOOL):
        raise DTypeError("an op as index must be integers or booleans", expected="int64", received=key.dtype)
    positions = op.graph.tensor(np.arange(op_size(op)).reshape(op.static_shape))
    chosen = index(positions, key)
    new = expand_like(_of_dtype(op, value), chosen)
    if 0 in chosen.shape:
        return op
    flat = node("ScatterElements", [flatten(op), flatten(chosen), flatten(new)], axis=0)
    return reshape(flat, op.static_shape)


def _of_dtype(op: Op, value: Operand) -> Op:
    return cast(value, op.dtype) if isinstance(value, Op) else op.graph.tensor(value, op.dtype)
