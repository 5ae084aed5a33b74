"""Axes and the order along them: moving, turning, shifting; the triangles of matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import Axes, axes_of, axis_of, length_of, whole, wholes
from ravop.ops.catalogue import also, as_op, cast, creator, integers, node, operator, scalar
from ravop.ops.create import ones
from ravop.ops.shaping import broadcast_to, concat, expand_dims, flatten, reshape, transpose

__all__ = [
    "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_arrays", "flip", "fliplr", "flipud", "matrix_transpose", "moveaxis",
    "reverse", "roll", "rollaxis", "rot90", "swapaxes", "tri", "tril", "triu",
]  # fmt: skip


@operator
def swapaxes(x: Operand, first: int, second: int) -> Op:
    """x with two axes exchanged.

    Example:
        >>> R.swapaxes([[1, 2], [3, 4]], 0, 1)
        [[1, 3], [2, 4]]
    """
    op = as_op(x)
    order = list(range(op.ndim))
    a, b = axis_of(op, first), axis_of(op, second)
    order[a], order[b] = b, a
    return transpose(op, order)


@operator
def matrix_transpose(x: Operand) -> Op:
    """x with its last two axes exchanged.

    Example:
        >>> R.matrix_transpose([[1, 2], [3, 4]])
        [[1, 3], [2, 4]]
    """
    return swapaxes(x, -1, -2)


@operator
def moveaxis(x: Operand, source: int | Sequence[int], destination: int | Sequence[int]) -> Op:
    """x with axes moved to other places, the others in their order.

    Example:
        >>> R.moveaxis([[[1, 2], [3, 4]]], 0, -1)
        [[[1], [2]], [[3], [4]]]
    """
    op = as_op(x)
    origin, target = axes_of(op, source), axes_of(op, destination)
    if len(origin) != len(target):
        raise ArgumentError(
            "as many axes as places are needed", expected=f"{len(origin)} places", received=list(target)
        )
    rest = iter(axis for axis in range(op.ndim) if axis not in origin)
    places = dict(zip(target, origin, strict=True))
    return transpose(op, [places[axis] if axis in places else next(rest) for axis in range(op.ndim)])


@operator
def rollaxis(x: Operand, axis: int, start: int = 0) -> Op:
    """x with one axis moved to stand before the axis `start`; `moveaxis` says it better.

    Example:
        >>> R.rollaxis([[1, 2, 3]], 1)
        [[1], [2], [3]]
    """
    op = as_op(x)
    count = whole(start, "start")
    origin, place = axis_of(op, axis), axis_of(op, count + op.ndim if count < 0 else count, op.ndim + 1)
    return moveaxis(op, origin, place - (origin < place))


@operator
def broadcast_arrays(*tensors: Operand) -> tuple[Op, ...]:
    """The tensors, each broadcast to the shape that they have together.

    Example:
        >>> R.broadcast_arrays([1, 2], [[3], [4]])
        ([[1, 2], [1, 2]], [[3, 3], [4, 4]])
    """
    ops = [as_op(tensor) for tensor in tensors]
    try:
        shape = np.broadcast_shapes(*(op.static_shape for op in ops))
    except ValueError as error:
        raise ShapeError(
            "the tensors do not fit each other", expected="shapes that broadcast: from the last axis on equal, or 1",
            received=", ".join(str(list(op.shape)) for op in ops),
        ) from error  # fmt: skip
    return tuple(broadcast_to(op, shape) for op in ops)


def at_least(op: Op, ndim: int) -> Op:
    """`op` with at least so many axes, up to three, where NumPy puts the new ones."""
    if not op.ndim and ndim:
        op = expand_dims(op, 0)
    if op.ndim == 1 and ndim > 1:
        op = expand_dims(op, 0)
    return expand_dims(op, 2) if op.ndim == 2 and ndim > 2 else op


def _all_at_least(tensors: tuple[Operand, ...], ndim: int) -> Op | tuple[Op, ...]:
    made = tuple(at_least(as_op(tensor), ndim) for tensor in tensors)
    return made[0] if len(made) == 1 else made


@operator
def atleast_1d(*tensors: Operand) -> Op | tuple[Op, ...]:
    """x, a vector of one element where it is a scalar; a tuple for several.

    Example:
        >>> R.atleast_1d(1)
        [1]
    """
    return _all_at_least(tensors, 1)


@operator
def atleast_2d(*tensors: Operand) -> Op | tuple[Op, ...]:
    """x, a matrix of one row where it is a vector or scalar; a tuple for several.

    Example:
        >>> R.atleast_2d([1, 2])
        [[1, 2]]
    """
    return _all_at_least(tensors, 2)


@operator
def atleast_3d(*tensors: Operand) -> Op | tuple[Op, ...]:
    """x with at least three axes; a matrix gets a last one, a vector one on either side; a tuple for several.

    Example:
        >>> R.atleast_3d([1, 2])
        [[[1], [2]]]
    """
    return _all_at_least(tensors, 3)


@operator
def reverse(x: Operand, axis: Axes = None) -> Op:
    """x with the order of its elements reversed along `axis`; along all axes for None.

    Example:
        >>> R.reverse([1, 2, 3])
        [3, 2, 1]
    """
    op = as_op(x)
    axes = axes_of(op, axis)
    if not axes:
        return op
    first = int(np.iinfo(np.int64).min)
    bounds = [[-1] * len(axes), [first] * len(axes), axes, [-1] * len(axes)]
    return node("Slice", [op, *(integers(op, bound) for bound in bounds)])


flip = also("flip", reverse)


@operator
def fliplr(x: Operand) -> Op:
    """x with its second axis reversed.

    Example:
        >>> R.fliplr([[1, 2], [3, 4]])
        [[2, 1], [4, 3]]
    """
    return reverse(x, 1)


@operator
def flipud(x: Operand) -> Op:
    """x with its first axis reversed.

    Example:
        >>> R.flipud([[1, 2], [3, 4]])
        [[3, 4], [1, 2]]
    """
    return reverse(x, 0)


@operator
def rot90(x: Operand, k: int = 1, axes: Sequence[int] = (0, 1)) -> Op:
    """x turned by k quarters in the plane of two axes, from the first towards the second.

    Example:
        >>> R.rot90([[1, 2], [3, 4]])
        [[2, 4], [1, 3]]
    """
    op = as_op(x)
    plane = axes_of(op, axes)
    if len(plane) != 2:
        raise ArgumentError("a plane has two axes", expected="two different axes", received=list(plane))
    quarters = whole(k, "k") % 4
    if quarters == 2:
        return reverse(op, plane)
    if quarters == 1:
        return swapaxes(reverse(op, plane[1]), *plane)
    return reverse(swapaxes(op, *plane), plane[1]) if quarters else op


@operator
def roll(x: Operand, shift: int | Sequence[int], axis: Axes = None) -> Op:
    """x with its elements moved on by `shift` along `axis`, those at the end to the beginning; of the flattened x for None.

    Example:
        >>> R.roll([1, 2, 3, 4], 1)
        [4, 1, 2, 3]
    """
    op = as_op(x)
    if axis is None:
        return reshape(_rolled(flatten(op), sum(wholes(shift, "shift")), 0), op.static_shape)
    axes = [axis_of(op, a) for a in wholes(axis, "axis")]
    shifts = wholes(shift, "shift")
    if len(shifts) != len(axes) and 1 not in (len(shifts), len(axes)):
        raise ArgumentError(
            "a shift for each axis is needed", expected=f"1 or {len(axes)} shifts", received=list(shifts)
        )
    for a, by in np.broadcast(axes, shifts):
        op = _rolled(op, int(by), int(a))
    return op


def _rolled(op: Op, shift: int, axis: int) -> Op:
    length = length_of(op, axis)
    cut = length - shift % length if length else 0
    if cut in (0, length):
        return op
    return concat(
        *reversed(op.graph.apply("Split", [op, integers(op, [cut, length - cut])], {"axis": axis})), axis=axis
    )


@operator
def tril(x: Operand, k: int = 0) -> Op:
    """The matrix, or each of (…, n, m), with zeros right of the diagonal, or of the one k places right of it.

    Example:
        >>> R.tril([[1, 2], [3, 4]])
        [[1, 0], [3, 4]]
    """
    return _triangle(x, k, upper=False)


@operator
def triu(x: Operand, k: int = 0) -> Op:
    """The matrix, or each of (…, n, m), with zeros left of the diagonal, or of the one k places right of it.

    Example:
        >>> R.triu([[1, 2], [3, 4]])
        [[1, 2], [0, 4]]
    """
    return _triangle(x, k, upper=True)


_TRILU = ("bool", "float32", "float64", "int64")
"""Dtypes that engines have a kernel for."""


def _triangle(x: Operand, k: int, upper: bool) -> Op:
    op = as_op(x)
    if op.ndim == 1:  # as NumPy: each row is the vector
        op = broadcast_to(op, (length_of(op, 0),) * 2)
    if op.ndim < 2:
        raise ShapeError("only matrices have triangles", expected="(…, n, m)", received=list(op.shape))
    place = scalar(op.graph.integers([0]), whole(k, "k"))
    own = (
        op
        if op.dtype.name in _TRILU
        else cast(op, np.dtype(np.float32 if op.dtype.itemsize == 2 else np.int64))
    )
    return cast(node("Trilu", [own, place], upper=int(upper)), op.dtype)


@creator
def tri(rows: int, columns: int | None = None, k: int = 0, dtype: DTypeLike | None = None) -> Op:
    """Ones on the diagonal k places right of the main one and left of it, in a (rows, columns) matrix of zeros.

    Example:
        >>> R.tri(3, dtype="int64")
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    return tril(ones((rows, rows if columns is None else columns), dtype), k)
