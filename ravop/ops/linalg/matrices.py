"""What the decompositions share: batches of matrices, loops over their columns, and differences for gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ravop.errors import DTypeError, ShapeError
from ravop.graph.infer import Dim
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import lengths_of
from ravop.ops.catalogue import floats, integers, node
from ravop.ops.create import filled, stop_gradient


def matrices(x: Operand, what: str) -> Op:
    """`x` as floats (…, m, n) of known shape. Raises `ShapeError` for fewer axes, `DTypeError` for half precision."""
    op = floats(x)
    if op.ndim < 2 or 0 in op.static_shape:
        raise ShapeError(
            f"{what} takes matrices", expected="(…, m, n), none of them 0", received=list(op.shape)
        )
    if op.dtype.name not in ("float32", "float64"):
        raise DTypeError(
            f"{what} is not computed in so few digits", expected="float32 or float64", received=op.dtype,
            hint="convert with .astype('float32')",
        )  # fmt: skip
    return op


def squares(x: Operand, what: str) -> Op:
    """As `matrices`, (…, n, n)."""
    op = matrices(x, what)
    if op.shape[-1] != op.shape[-2]:
        raise ShapeError(f"{what} takes square matrices", expected="(…, n, n)", received=list(op.shape))
    return op


def batched(op: Op, axes: int = 2) -> Op:
    """`op` with all axes but the last `axes` folded into one."""
    shape = op.static_shape
    return formed(op, (math.prod(shape[: len(shape) - axes]), *shape[len(shape) - axes :]))


def formed(op: Op, shape: Sequence[Dim]) -> Op:
    """`op` in another shape, which may have axes of length 0, and one of a length that is not known."""
    if op.shape == tuple(shape):
        return op
    sizes = [size if isinstance(size, int) else -1 for size in shape]
    if sizes.count(-1) > 1:
        lengths_of(op, range(op.ndim))
    return node("Reshape", [op, integers(op, sizes)], **({} if 0 not in sizes else {"allowzero": 1}))


def turned(op: Op) -> Op:
    """Each matrix transposed."""
    order = list(range(op.ndim))
    return node("Transpose", [op], perm=[*order[:-2], order[-1], order[-2]])


def unit(like: Op, rows: int, columns: int | None = None) -> Op:
    """Ones on the diagonal of a (rows, columns) matrix, of the dtype and in the graph of `like`."""
    return node("EyeLike", [filled(like.graph, (rows, rows if columns is None else columns), 0, like.dtype)])


def epsilon(op: Op) -> float:
    """The distance from 1 to the next number of the op's dtype."""
    return float(np.finfo(op.dtype).eps)


def change(op: Op) -> Op:
    """Zero, with the derivative of `op`."""
    return op - stop_gradient(op)


def at(op: Op, position: Op, axis: int) -> Op:
    """`op` at a computed position along `axis`, which goes."""
    return node("Gather", [op, position], axis=axis)
