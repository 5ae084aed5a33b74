"""Other forms of the same elements: reshaping, joining. What is made of these is in `axes` and `joining`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import axes_of, axis_of, lengths_of, whole, wholes
from ravop.ops.catalogue import also, as_op, common, integers, node, operator

__all__ = [
    "broadcast_to", "concat", "concatenate", "expand_dims", "flatten", "ndim", "permute_dims", "ravel", "reshape", "shape",
    "size", "squeeze", "stack", "transpose", "unsqueeze",
]  # fmt: skip

Sizes = int | Sequence[int]


@operator
def reshape(x: Operand, shape: Sizes, *more: int) -> Op:
    """The elements of x, in order, in another shape; one size may be −1.

    Example:
        >>> R.reshape([1, 2, 3, 4], (2, -1))
        [[1, 2], [3, 4]]
    """
    op = as_op(x)
    sizes = wholes(shape, "a size") + tuple(whole(m, "a size") for m in more)
    if any(size < -1 for size in sizes) or sizes.count(-1) > 1:
        raise ArgumentError(
            "not a shape", expected="sizes of 0 or more, at most one −1", received=list(sizes)
        )
    if -1 in sizes and is_static(op):
        rest = -math.prod(sizes)
        if rest and op_size(op) % rest == 0:
            sizes = tuple(op_size(op) // rest if s == -1 else s for s in sizes)
    if -1 not in sizes and is_static(op) and op_size(op) != math.prod(sizes):
        raise ShapeError("the elements do not fit the shape", expected=f"{op_size(op)} elements, of shape {list(op.shape)}",
                         received=f"shape {list(sizes)}")  # fmt: skip
    return (
        node("Reshape", [op, integers(op, sizes)], allowzero=1)
        if 0 in sizes
        else node("Reshape", [op, integers(op, sizes)])
    )


def op_size(op: Op) -> int:
    """The number of elements of an op of known shape."""
    return math.prod(op.static_shape)


@operator
def transpose(x: Operand, axes: Sequence[int] | None = None) -> Op:
    """x with its axes in the order `axes`; reversed for None.

    Example:
        >>> R.transpose([[1, 2], [3, 4]])
        [[1, 3], [2, 4]]
    """
    op = as_op(x)
    order = tuple(reversed(range(op.ndim))) if axes is None else axes_of(op, axes)
    if len(order) != op.ndim:
        raise ArgumentError(
            "transpose needs every axis once", expected=f"{op.ndim} axes", received=list(order)
        )
    return node("Transpose", [op], perm=order) if op.ndim > 1 else op


permute_dims = also("permute_dims", transpose)


@operator
def expand_dims(x: Operand, axis: Sizes) -> Op:
    """x with a new axis of length 1 at the position `axis` of the result; or several.

    Example:
        >>> R.expand_dims([1, 2], 1)
        [[1], [2]]
    """
    op = as_op(x)
    given = wholes(axis, "axis")
    axes = [axis_of(op, a, op.ndim + len(given)) for a in given]
    if len(set(axes)) != len(axes):
        raise ArgumentError("an axis is given twice", received=list(given))
    return node("Unsqueeze", [op, integers(op, axes)])


unsqueeze = also("unsqueeze", expand_dims)


@operator
def squeeze(x: Operand, axis: Sizes | None = None) -> Op:
    """x without its axes of length 1, or without the axes named, which must have length 1.

    Example:
        >>> R.squeeze([[1, 2]])
        [1, 2]
    """
    op = as_op(x)
    axes = [a for a, size in enumerate(op.shape) if size == 1] if axis is None else axes_of(op, axis)
    for a in axes:
        if op.shape[a] not in (1, None):
            raise ShapeError(
                "only axes of length 1 can be squeezed",
                expected="length 1",
                received=f"axis {a} of {list(op.shape)}",
            )
    return node("Squeeze", [op, integers(op, list(axes))]) if axes else op


@operator
def flatten(x: Operand) -> Op:
    """The elements of x as a vector.

    Example:
        >>> R.flatten([[1, 2], [3, 4]])
        [1, 2, 3, 4]
    """
    op = as_op(x)
    return node("Reshape", [op, integers(op, [-1])])


def axis_or_flat(x: Operand, axis: int | None) -> tuple[Op, int]:
    """x and the axis counted from the front; for None the flattened x and its only axis."""
    op = as_op(x)
    return (flatten(op), 0) if axis is None else (op, axis_of(op, axis))


@operator
def ravel(x: Operand) -> Op:
    """The elements of x as a vector.

    Example:
        >>> R.ravel([[1, 2], [3, 4]])
        [1, 2, 3, 4]
    """
    return flatten(x)


def folded(op: Op, first: int) -> Op:
    """`op` with its axes from `first` on made one, of the product of their lengths; the axes before may be of unknown lengths."""
    lengths = lengths_of(op, range(first, op.ndim))
    if len(lengths) == 1:
        return op
    if is_static(op):
        return reshape(op, [*op.static_shape[:first], math.prod(lengths)])
    return node("Reshape", [op, integers(op, [*[0] * first, math.prod(lengths) if 0 not in lengths else -1])])


def is_static(op: Op) -> bool:
    """Whether the lengths of all axes are known."""
    return all(isinstance(length, int) for length in op.shape)


def expand_like(x: Op, like: Op) -> Op:
    """x broadcast to the shape of `like`, whether that is known or not."""
    if is_static(like):
        return broadcast_to(x, like.static_shape)
    return x.graph.apply("Expand", [x, node("Shape", [like])], {}, outputs=[(x.dtype, like.shape)])[0]


@operator
def broadcast_to(x: Operand, shape: Sizes) -> Op:
    """x repeated along axes of length 1, and along new leading axes, up to `shape`.

    Example:
        >>> R.broadcast_to([1, 2], (2, 2))
        [[1, 2], [1, 2]]
    """
    op = as_op(x)
    sizes = wholes(shape, "a size")
    tail = sizes[len(sizes) - op.ndim :]
    if len(sizes) < op.ndim or any(
        have not in (1, want, None) for have, want in zip(op.shape, tail, strict=True)
    ):
        raise ShapeError("this shape cannot be broadcast to the other", expected=f"something that fits {list(sizes)}",
                         received=list(op.shape))  # fmt: skip
    return op if op.shape == sizes else node("Expand", [op, integers(op, sizes)])


@operator
def concat(*tensors: Any, axis: int | None = 0) -> Op:
    """The tensors one after another along `axis`; they agree in all other sizes. Takes them singly or as a list; for None
    each is flattened first.

    Example:
        >>> R.concat([1, 2], [3])
        [1, 2, 3]
    """
    operands = common(*several(tensors))
    if axis is None:
        return node("Concat", [flatten(op) for op in operands], axis=0)
    return node("Concat", operands, axis=axis_of(operands[0], axis))


concatenate = also("concatenate", concat)


@operator
def stack(*tensors: Any, axis: int = 0) -> Op:
    """The tensors, all of one shape, along a new axis.

    Example:
        >>> R.stack([1, 2], [3, 4])
        [[1, 2], [3, 4]]
    """
    operands = common(*several(tensors))
    position = axis_of(operands[0], axis, operands[0].ndim + 1)
    for op in operands:
        if op.shape != operands[0].shape:
            raise ShapeError(
                "stack needs tensors of one shape", expected=list(operands[0].shape), received=list(op.shape)
            )
    return node(
        "Concat", [node("Unsqueeze", [op, integers(op, [position])]) for op in operands], axis=position
    )


def several(tensors: tuple[Any, ...]) -> list[Any]:
    """Operands that were given singly or as one list. Raises `ArgumentError` for none."""
    given = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], list | tuple) else list(tensors)
    if not given:
        raise ArgumentError("nothing to join", expected="at least one tensor", received="none")
    return given


@operator
def shape(x: Operand) -> Op:
    """The shape of x as an int64 vector.

    Example:
        >>> R.shape([[1, 2, 3]])
        [1, 3]
    """
    op = as_op(x)
    return integers(op, op.shape) if is_static(op) else node("Shape", [op])  # type: ignore[arg-type]


@operator
def size(x: Operand) -> Op:
    """The number of elements of x, int64.

    Example:
        >>> R.size([[1, 2, 3]])
        3
    """
    op = as_op(x)
    if is_static(op):
        return op.graph.constant(np.array(op_size(op), dtype=np.int64))
    return node("Size", [op])


@operator
def ndim(x: Operand) -> Op:
    """The number of axes of x, int64.

    Example:
        >>> R.ndim([[1, 2, 3]])
        2
    """
    op = as_op(x)
    return op.graph.constant(np.array(op.ndim, dtype=np.int64))
