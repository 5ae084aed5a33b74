"""Cutting, joining and repeating: what `concat` and `stack` of `shaping` are used for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.dtypes import BOOL
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import axis_of, length_of, whole, wholes
from ravop.ops.axes import at_least, moveaxis
from ravop.ops.catalogue import as_op, cast, integers, node, operator
from ravop.ops.indexing import index
from ravop.ops.shaping import axis_or_flat, broadcast_to, concat, expand_dims, reshape, several

__all__ = [
    "append", "array_split", "column_stack", "delete", "dsplit", "dstack", "hsplit", "hstack", "insert", "repeat", "split",
    "tile", "vsplit", "vstack",
]  # fmt: skip

Sizes = int | Sequence[int]


@operator
def split(x: Operand, sections: Sizes, axis: int = 0) -> tuple[Op, ...]:
    """Cut x along `axis`: into `sections` equal parts, or at the positions in the list `sections`, as `numpy.split`.

    Example:
        >>> R.split([1, 2, 3, 4], [1])
        ([1], [2, 3, 4])
    """
    op = as_op(x)
    a = axis_of(op, axis)
    length = length_of(op, a)
    if isinstance(sections, Sequence | np.ndarray):
        cuts = [0, *(_within(s, length) for s in wholes(sections, "a position")), length]
        sizes = [max(0, stop - start) for start, stop in itertools.pairwise(cuts)]
    else:
        count = whole(sections, "sections")
        if count < 1 or length % count:
            raise ShapeError(
                "the axis cannot be cut into equal parts", expected=f"a divisor of {length}", received=count
            )
        sizes = [length // count] * count
    if len(sizes) == 1:
        return (op,)
    if sum(sizes) != length:  # falling positions: as NumPy, each part from one to the next, if any
        return tuple(index(op, (np.s_[:],) * a + (np.s_[i:j],)) for i, j in itertools.pairwise(cuts))
    return op.graph.apply("Split", [op, integers(op, sizes)], {"axis": a})


def _within(position: int, length: int) -> int:
    return min(max(position + length if position < 0 else position, 0), length)


_PARTS = 1024
"""What an axis may be cut into when it has not so many elements."""


@operator
def array_split(x: Operand, sections: Sizes, axis: int = 0) -> tuple[Op, ...]:
    """As `split`; where equal parts are not possible, the first ones are longer by one. Parts may be empty.

    Example:
        >>> R.array_split([1, 2, 3, 4, 5], 2)
        ([1, 2, 3], [4, 5])
    """
    op = as_op(x)
    if isinstance(sections, Sequence | np.ndarray):
        return split(op, sections, axis)
    count, length = whole(sections, "sections"), length_of(op, axis_of(op, axis))
    if not 1 <= count <= max(length, _PARTS):
        raise ArgumentError(
            "the axis cannot be cut into so many",
            expected=f"1 to {max(length, _PARTS)} parts",
            received=count,
        )
    short, more = divmod(length, count)
    return split(op, [short * n + min(n, more) for n in range(1, count)], axis)


@operator
def vsplit(x: Operand, sections: Sizes) -> tuple[Op, ...]:
    """`split` along the first axis.

    Example:
        >>> R.vsplit([[1, 2], [3, 4]], 2)
        ([[1, 2]], [[3, 4]])
    """
    return split(x, sections, 0)


@operator
def hsplit(x: Operand, sections: Sizes) -> tuple[Op, ...]:
    """`split` along the second axis; of a vector along its only one.

    Example:
        >>> R.hsplit([[1, 2], [3, 4]], 2)
        ([[1], [3]], [[2], [4]])
    """
    op = as_op(x)
    return split(op, sections, 1 if op.ndim > 1 else 0)


@operator
def dsplit(x: Operand, sections: Sizes) -> tuple[Op, ...]:
    """`split` along the third axis.

    Example:
        >>> R.dsplit([[[1, 2], [3, 4]]], 2)
        ([[[1], [3]]], [[[2], [4]]])
    """
    return split(x, sections, 2)


@operator
def vstack(*tensors: Any) -> Op:
    """The tensors one below another; vectors are rows.

    Example:
        >>> R.vstack([1, 2], [3, 4])
        [[1, 2], [3, 4]]
    """
    return concat([at_least(as_op(tensor), 2) for tensor in several(tensors)], axis=0)


@operator
def hstack(*tensors: Any) -> Op:
    """The tensors side by side, along the second axis; vectors along their only one.

    Example:
        >>> R.hstack([[1], [2]], [[3], [4]])
        [[1, 3], [2, 4]]
    """
    ops = [at_least(as_op(tensor), 1) for tensor in several(tensors)]
    return concat(ops, axis=0 if ops[0].ndim == 1 else 1)


@operator
def dstack(*tensors: Any) -> Op:
    """The tensors behind one another, along the third axis.

    Example:
        >>> R.dstack([1, 2], [3, 4])
        [[[1, 3], [2, 4]]]
    """
    return concat([at_least(as_op(tensor), 3) for tensor in several(tensors)], axis=2)


@operator
def column_stack(*tensors: Any) -> Op:
    """Vectors as the columns of a matrix; matrices side by side.

    Example:
        >>> R.column_stack([1, 2], [3, 4])
        [[1, 3], [2, 4]]
    """
    ops = [as_op(tensor) for tensor in several(tensors)]
    return concat([op if op.ndim > 1 else reshape(op, (-1, 1)) for op in ops], axis=1)


@operator
def append(x: Operand, values: Operand, axis: int | None = None) -> Op:
    """x with `values` after it along `axis`; both flattened for None.

    Example:
        >>> R.append([1, 2], [3])
        [1, 2, 3]
    """
    return concat(x, values, axis=axis)


@operator
def insert(x: Operand, positions: Sizes | slice, values: Operand, axis: int | None = None) -> Op:
    """x with `values` before the elements at `positions` along `axis`, as `numpy.insert`; of the flattened x for None.

    Example:
        >>> R.insert([1, 2, 3], 1, 9)
        [1, 9, 2, 3]
    """
    op, a = axis_or_flat(x, axis)
    length = length_of(op, a)
    places = np.array(_positions(op, positions, a, length + 1), dtype=np.int64)
    new = op.graph.tensor(values)
    if new.ndim < op.ndim:
        new = expand_dims(new, list(range(op.ndim - new.ndim)))
    if isinstance(positions, int | np.integer):
        new = moveaxis(new, 0, a)  # as NumPy: values for one position have its axis in front
    count = length_of(new, a) if len(places) == 1 else len(places)
    places = np.repeat(places, count) if len(places) == 1 else places
    new = broadcast_to(new, [count if axis_ == a else size for axis_, size in enumerate(op.static_shape)])
    order = np.argsort(np.concatenate([np.arange(length) + 0.5, places]), kind="stable")
    return node("Gather", [concat(op, cast(new, op.dtype), axis=a), op.graph.tensor(order)], axis=a)


@operator
def delete(x: Operand, positions: Sizes | slice, axis: int | None = None) -> Op:
    """x without the elements at `positions` (whole numbers, a slice, or a mask) along `axis`; of the flattened x for None.

    Example:
        >>> R.delete([1, 2, 3], 1)
        [1, 3]
    """
    op, a = axis_or_flat(x, axis)
    length = length_of(op, a)
    mask = np.asarray(positions) if isinstance(positions, list | np.ndarray) else None
    if mask is not None and mask.dtype == BOOL and mask.shape == (length,):
        positions = np.flatnonzero(mask).tolist()
    kept = np.delete(np.arange(length), _positions(op, positions, a, length))
    return node("Gather", [op, op.graph.tensor(kept)], axis=a)


def _positions(op: Op, positions: Sizes | slice, axis: int, end: int) -> list[int]:
    """The positions counted from the front. Raises `ArgumentError` for one that is not below `end`."""
    length = length_of(op, axis)
    if isinstance(positions, slice):
        return list(range(*positions.indices(length)))
    given = wholes(positions, "a position")
    if any(not -length <= place < end for place in given):
        raise ArgumentError(
            "there is no such position",
            expected=f"{-length} to {end - 1}",
            received=f"{list(given)} along axis {axis} of {list(op.shape)}",
        )
    return [place + length if place < 0 else place for place in given]


@operator
def tile(x: Operand, reps: Sizes) -> Op:
    """x repeated as a whole, `reps` times along each axis, as `numpy.tile`.

    Example:
        >>> R.tile([1, 2], 2)
        [1, 2, 1, 2]
    """
    op = as_op(x)
    times = wholes(reps, "reps")
    if len(times) < op.ndim:
        times = (1,) * (op.ndim - len(times)) + times
    if len(times) > op.ndim:
        op = node("Unsqueeze", [op, integers(op, range(len(times) - op.ndim))])
    return node("Tile", [op, integers(op, times)]) if times else op


@operator
def repeat(x: Operand, repeats: Sizes, axis: int | None = None) -> Op:
    """Each element `repeats` times along `axis` (a count for each element where a list is given); of the flattened x for None.

    Example:
        >>> R.repeat([1, 2], 2)
        [1, 1, 2, 2]
    """
    op, a = axis_or_flat(x, axis)
    length = length_of(op, a)
    counts = wholes(repeats, "repeats")
    if len(counts) not in (1, length) or min(counts, default=0) < 0:
        raise ArgumentError(
            "these repeats do not fit", expected=f"one count of 0 or more, or {length}", received=list(counts)
        )
    where = np.repeat(np.arange(length), counts[0] if len(counts) == 1 else counts)
    return node("Gather", [op, op.graph.tensor(where)], axis=a)
