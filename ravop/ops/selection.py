"""Choosing and setting elements by their place or by a condition. `x[...]` itself is in `indexing`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ravop.errors import ArgumentError, DTypeError, ShapeError
from ravop.graph.dtypes import BOOL, INT
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import as_op, axis_of, booleans, cast, common, integers, node, operator
from ravop.ops.compare import equal, where
from ravop.ops.indexing import index
from ravop.ops.shaping import broadcast_to, flatten, reshape, transpose

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
    return transpose(node("NonZero", [booleans(x)]))


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
    new = broadcast_to(_of_dtype(op, values), places.static_shape)
    made = node("ScatterElements", [op, places, new], axis=a)
    return made if axis is not None else reshape(made, as_op(x).static_shape)


def _along(x: Operand, indices: Operand, axis: int | None) -> tuple[Op, Op, int]:
    op, places = as_op(x), as_op(indices)
    if places.dtype.kind not in "iu":
        raise DTypeError("indices must be whole numbers", expected="an integer dtype", received=places.dtype)
    if axis is None:
        op, axis = flatten(op), 0
    a = axis_of(op, axis)
    if places.ndim != op.ndim:
        raise ShapeError("as many axes are needed", expected=f"{op.ndim} axes", received=list(places.shape))
    others = np.broadcast_shapes(*(
        tuple(1 if axis_ == a else size for axis_, size in enumerate(one.static_shape)) for one in (op, places)
    ))  # fmt: skip
    op = broadcast_to(op, [*others[:a], op.static_shape[a], *others[a + 1 :]])
    places = broadcast_to(cast(places, INT), [*others[:a], places.static_shape[a], *others[a + 1 :]])
    known = as_op(indices).constant
    length = op.static_shape[a]
    if known is not None and known.size and not (-length <= known.min() and known.max() < length):
        raise ArgumentError(
            "an index is out of range", expected=f"{-length} to {length - 1}", received=known.tolist()
        )
    return op, places, a


@operator
def compress(condition: Operand, x: Operand, axis: int | None = None) -> Op:
    """The elements of x along `axis` where the vector `condition` holds; of the flattened x for None. As many as there are.

    Example:
        >>> R.compress([True, False, True], [1, 2, 3])
        [1, 3]
    """
    op, test = as_op(x), booleans(condition)
    if test.ndim != 1:
        raise ShapeError(
            "one truth value for each element is needed", expected="1 axis", received=list(test.shape)
        )
    if axis is None:
        op, axis = flatten(op), 0
    return index(op, (np.s_[:],) * axis_of(op, axis) + (test,))


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
    return select([equal(x, number) for number in range(len(choices))], choices)


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
    if isinstance(key, Op) and key.dtype.kind not in "iub":
        raise DTypeError("an op as index must be integers or booleans", expected="int64", received=key.dtype)
    positions = op.graph.tensor(np.arange(op_count(op)).reshape(op.static_shape))
    chosen = index(positions, key)
    if all(isinstance(size, int) for size in chosen.shape):
        new = broadcast_to(_of_dtype(op, value), chosen.static_shape)
        if 0 in chosen.shape:
            return op
    else:
        new = node("Expand", [_of_dtype(op, value), node("Shape", [chosen])])
    flat = node("ScatterElements", [flatten(op), flatten(chosen), flatten(new)], axis=0)
    return reshape(flat, op.static_shape)


def op_count(op: Op) -> int:
    return int(np.prod(op.static_shape, dtype=np.int64))


def _of_dtype(op: Op, value: Operand) -> Op:
    return cast(value, op.dtype) if isinstance(value, Op) else op.graph.tensor(value, op.dtype)
