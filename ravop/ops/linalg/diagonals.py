"""Diagonals of matrices, and matrices of diagonals, with NumPy's names and meaning."""

from __future__ import annotations

import builtins

import numpy as np

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import axis_of, length_of, lengths_of, whole
from ravop.ops.catalogue import as_op, node, operator
from ravop.ops.compare import where
from ravop.ops.padding import pad
from ravop.ops.reduction import sum
from ravop.ops.shaping import expand_dims, flatten, folded, transpose

__all__ = ["diag", "diagflat", "diagonal", "trace"]


@operator
def diagonal(x: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Op:
    """The elements whose indices along `axis1` and `axis2` differ by `offset`, along a new last axis.

    Example:
        >>> R.diagonal([[1, 2, 3], [4, 5, 6]], offset=1)
        [2, 6]
    """
    op = as_op(x)
    if op.ndim < 2:
        raise ShapeError("only matrices have diagonals", expected="at least 2 axes", received=list(op.shape))
    first, second = axis_of(op, axis1), axis_of(op, axis2)
    if first == second:
        raise ArgumentError("a diagonal needs two different axes", received=f"axis {axis1} twice")
    rest = [axis for axis in range(op.ndim) if axis not in (first, second)]
    op = transpose(op, [*rest, first, second])
    rows, columns = lengths_of(op, (-2, -1))
    shift = whole(offset, "offset")
    count = builtins.max(0, min(rows, columns - shift) if shift >= 0 else min(rows + shift, columns))
    start = shift if shift >= 0 else -shift * columns
    positions = start + np.arange(count, dtype=np.int64) * (columns + 1)
    return node("Gather", [folded(op, len(rest)), op.graph.tensor(positions)], axis=len(rest))


@operator
def trace(x: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Op:
    """The sum of a diagonal, see `diagonal`.

    Example:
        >>> R.trace([[1, 2], [3, 4]])
        5
    """
    return sum(diagonal(x, offset, axis1, axis2), axis=-1)


@operator
def diag(x: Operand, k: int = 0) -> Op:
    """The k-th diagonal of a matrix; of a vector, the square matrix that has it there, and zeros elsewhere.

    Example:
        >>> R.diag([1, 2])
        [[1, 0], [0, 2]]
    """
    op = as_op(x)
    if op.ndim == 2:
        return diagonal(op, k)
    if op.ndim != 1:
        raise ShapeError(
            "diag takes a vector or a matrix", expected="1 or 2 axes", received=list(op.shape),
            hint="use diagonal for the matrices of a batch",
        )  # fmt: skip
    shift = whole(k, "k")
    size = length_of(op, 0) + builtins.abs(shift)
    columns = np.arange(size)
    across = expand_dims(pad(op, [(builtins.max(shift, 0), builtins.max(-shift, 0))]), 0)
    on_diagonal = node("Equal", [op.graph.tensor((columns + shift)[:, None]), op.graph.tensor(columns[None])])
    return where(on_diagonal, across, op.graph.tensor(0, op.dtype))


@operator
def diagflat(x: Operand, k: int = 0) -> Op:
    """The square matrix with the elements of x, laid out in a row, on its k-th diagonal.

    Example:
        >>> R.diagflat([[1, 2], [3, 4]])
        [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 4]]
    """
    return diag(flatten(x), k)
