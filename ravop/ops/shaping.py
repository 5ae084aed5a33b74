"""Other forms of the same elements: reshaping, joining, cutting, repeating, padding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.dtypes import INT
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import (
    as_op,
    axes_of,
    axis_of,
    cast,
    common,
    integers,
    node,
    operator,
    scalar,
    whole,
    wholes,
)

__all__ = [
    "broadcast_to", "concat", "expand_dims", "flatten", "pad", "ravel", "repeat", "reshape", "shape", "size", "split",
    "squeeze", "stack", "swapaxes", "tile", "transpose",
]  # fmt: skip

Sizes = int | Sequence[int]


@operator
def reshape(x: Operand, shape: Sizes, *more: int) -> Op:
    """The elements of x, in order, in another shape; one size may be −1."""
    op = as_op(x)
    sizes = wholes(shape, "a size") + tuple(whole(m, "a size") for m in more)
    if any(size < -1 for size in sizes) or sizes.count(-1) > 1:
        raise ArgumentError(
            "not a shape", expected="sizes of 0 or more, at most one −1", received=list(sizes)
        )
    if -1 in sizes and all(isinstance(d, int) for d in op.shape):
        rest = -math.prod(sizes)
        if rest and op_size(op) % rest == 0:
            sizes = tuple(op_size(op) // rest if s == -1 else s for s in sizes)
    if -1 not in sizes and all(isinstance(d, int) for d in op.shape) and op_size(op) != math.prod(sizes):
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
    """x with its axes in the order `axes`; reversed for None."""
    op = as_op(x)
    order = tuple(reversed(range(op.ndim))) if axes is None else axes_of(op, axes)
    if len(order) != op.ndim:
        raise ArgumentError(
            "transpose needs every axis once", expected=f"{op.ndim} axes", received=list(order)
        )
    return node("Transpose", [op], perm=order) if op.ndim > 1 else op


@operator
def swapaxes(x: Operand, first: int, second: int) -> Op:
    """x with two axes exchanged."""
    op = as_op(x)
    order = list(range(op.ndim))
    a, b = axis_of(op, first), axis_of(op, second)
    order[a], order[b] = b, a
    return transpose(op, order)


@operator
def expand_dims(x: Operand, axis: Sizes) -> Op:
    """x with a new axis of length 1 at the position `axis` of the result; or several."""
    op = as_op(x)
    given = wholes(axis, "axis")
    axes = [axis_of(op, a, op.ndim + len(given)) for a in given]
    if len(set(axes)) != len(axes):
        raise ArgumentError("an axis is given twice", received=list(given))
    return node("Unsqueeze", [op, integers(op, axes)])


@operator
def squeeze(x: Operand, axis: Sizes | None = None) -> Op:
    """x without its axes of length 1, or without the axes named, which must have length 1."""
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
    """The elements of x as a vector."""
    op = as_op(x)
    return node("Reshape", [op, integers(op, [-1])])


@operator
def ravel(x: Operand) -> Op:
    """The elements of x as a vector."""
    return flatten(x)


@operator
def broadcast_to(x: Operand, shape: Sizes) -> Op:
    """x repeated along axes of length 1, and along new leading axes, up to `shape`."""
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
def concat(*tensors: Any, axis: int = 0) -> Op:
    """The tensors one after another along `axis`; they agree in all other sizes. Takes them singly or as a list."""
    operands = common(*_several(tensors))
    return node("Concat", operands, axis=axis_of(operands[0], axis))


@operator
def stack(*tensors: Any, axis: int = 0) -> Op:
    """The tensors, all of one shape, along a new axis."""
    operands = common(*_several(tensors))
    position = axis_of(operands[0], axis, operands[0].ndim + 1)
    for op in operands:
        if op.shape != operands[0].shape:
            raise ShapeError(
                "stack needs tensors of one shape", expected=list(operands[0].shape), received=list(op.shape)
            )
    return node(
        "Concat", [node("Unsqueeze", [op, integers(op, [position])]) for op in operands], axis=position
    )


def _several(tensors: tuple[Any, ...]) -> list[Any]:
    several = (
        list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], list | tuple) else list(tensors)
    )
    if not several:
        raise ArgumentError("nothing to join", expected="at least one tensor", received="none")
    return several


@operator
def split(x: Operand, sections: Sizes, axis: int = 0) -> tuple[Op, ...]:
    """Cut x along `axis`: into `sections` equal parts, or at the positions in the list `sections`, as `numpy.split`."""
    op = as_op(x)
    a = axis_of(op, axis)
    length = op.static_shape[a]
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
    if sum(sizes) != length:
        raise ArgumentError(
            "positions must grow", expected="positions in rising order", received=list(cuts[1:-1])
        )
    if len(sizes) == 1:
        return (op,)
    return op.graph.apply("Split", [op, integers(op, sizes)], {"axis": a})


def _within(position: int, length: int) -> int:
    return min(max(position + length if position < 0 else position, 0), length)


@operator
def tile(x: Operand, reps: Sizes) -> Op:
    """x repeated as a whole, `reps` times along each axis, as `numpy.tile`."""
    op = as_op(x)
    times = wholes(reps, "reps")
    if len(times) < op.ndim:
        times = (1,) * (op.ndim - len(times)) + times
    if len(times) > op.ndim:
        op = node("Unsqueeze", [op, integers(op, range(len(times) - op.ndim))])
    return node("Tile", [op, integers(op, times)]) if times else op


@operator
def repeat(x: Operand, repeats: Sizes, axis: int | None = None) -> Op:
    """Each element `repeats` times along `axis` (a count for each element where a list is given); of the flattened x for None."""
    op = as_op(x)
    if axis is None:
        op, axis = flatten(op), 0
    a = axis_of(op, axis)
    length = op.static_shape[a]
    counts = wholes(repeats, "repeats")
    if len(counts) not in (1, length) or min(counts, default=0) < 0:
        raise ArgumentError(
            "these repeats do not fit", expected=f"one count of 0 or more, or {length}", received=list(counts)
        )
    where = np.repeat(np.arange(length), counts[0] if len(counts) == 1 else counts)
    return node("Gather", [op, op.graph.tensor(where)], axis=a)


@operator
def pad(
    x: Operand,
    pad_width: int | Sequence[Any],
    mode: Literal["constant", "edge", "reflect", "wrap"] = "constant",
    constant_values: float = 0,
) -> Op:
    """x with elements added before and after along each axis: one number, (before, after), or a pair for each axis."""
    op = as_op(x)
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise ArgumentError(
            "unknown padding mode", expected="constant, edge, reflect or wrap", received=repr(mode)
        )
    try:
        widths = np.broadcast_to(np.array(pad_width), (op.ndim, 2))
    except ValueError:
        raise ArgumentError(
            "these widths do not fit", expected=f"a number, a pair, or {op.ndim} pairs", received=pad_width
        ) from None
    if widths.dtype.kind not in "iu" or (widths < 0).any():
        raise ArgumentError("widths must be whole and not negative", received=pad_width)
    widths_op = integers(op, widths.T.reshape(-1).tolist())
    extra = [scalar(op, constant_values)] if mode == "constant" else []
    if op.dtype.name in ("int16", "uint16"):  # engines have no kernel
        return cast(pad(cast(op, INT), pad_width, mode, constant_values), op.dtype)
    return node("Pad", [op, widths_op, *extra], mode=mode)


@operator
def shape(x: Operand) -> Op:
    """The shape of x as an int64 vector."""
    op = as_op(x)
    return integers(op, op.shape) if all(isinstance(d, int) for d in op.shape) else node("Shape", [op])  # type: ignore[arg-type]


@operator
def size(x: Operand) -> Op:
    """The number of elements of x, int64."""
    op = as_op(x)
    if all(isinstance(d, int) for d in op.shape):
        return op.graph.constant(np.array(op_size(op), dtype=np.int64))
    return node("Size", [op])
