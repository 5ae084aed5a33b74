"""What singular values tell: pseudo-inverse, least squares, rank; and norms of vectors and matrices."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.dtypes import INT
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import Axes, axes_of, axis_of
from ravop.ops.arithmetic import abs
from ravop.ops.catalogue import cast, common, floats, node, operator, scalar
from ravop.ops.compare import where
from ravop.ops.create import stop_gradient
from ravop.ops.linalg.matrices import batched, change, epsilon, formed, matrices, turned
from ravop.ops.linalg.products import matmul
from ravop.ops.linalg.spectra import SVDResult, svd
from ravop.ops.reduction import max, min, root, sum
from ravop.ops.shaping import expand_dims, transpose

__all__ = ["lstsq", "matrix_rank", "norm", "pinv"]


class LstsqResult(NamedTuple):
    x: Op
    residuals: Op
    rank: Op
    singular_values: Op


@operator
def pinv(a: Operand, rcond: float | None = None) -> Op:
    """The Moore-Penrose inverse (…, n, m) of matrices (…, m, n), from their singular values.

    Values up to `rcond` times the largest count as 0; None: max(m, n) times the distance from 1 to the next number. The
    derivatives, of a rank that does not change, are exact up to the second (Golub and Pereyra 1973, equation 4.12).

    Example:
        >>> R.pinv([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
        [[1.0, 0.0, 0.0], [0.0, 0.5, 0.0]]
    """
    op = matrices(a, "pinv")
    flat = batched(op)
    found = _thin(stop_gradient(flat))
    inverse = formed(_inverted(found, _limit(op, rcond)), (*op.static_shape[:-2], *op.static_shape[:-3:-1]))
    d = change(op)
    # the midpoint rule along D = A − copy, so that second derivatives are right, too
    middle = inverse + _derivative(op, inverse, d / 2)
    return inverse + _derivative(stop_gradient(op) + d / 2, middle, d)


def _derivative(a: Op, x: Op, d: Op) -> Op:
    """Of the pseudo-inverse x of a in direction d: x xᵀ dᵀ (I − a x) + (I − x a) dᵀ xᵀ x − x d x, without large squares."""
    dt, xt = turned(d), turned(x)
    high = x.static_shape[-2] > x.static_shape[-1]
    left = matmul(x, matmul(xt, dt)) if high else matmul(matmul(x, xt), dt)
    right = matmul(dt, matmul(xt, x)) if high else matmul(matmul(dt, xt), x)
    left = left - matmul(matmul(left, a), x)
    right = right - matmul(x, matmul(a, right))
    return left + right - matmul(x, matmul(d, x))


def _thin(a: Op) -> SVDResult:
    found = svd(a, full_matrices=False)
    assert isinstance(found, SVDResult)
    return found


def _limit(op: Op, rcond: float | None) -> float:
    return _shape_max(op) * epsilon(op) if rcond is None else float(rcond)


def _shape_max(op: Op) -> int:
    rows, columns = op.static_shape[-2:]
    return rows if rows > columns else columns


def _kept(s: Op, limit: float) -> Op:
    """Which singular values count."""
    return s > max(s, -1, keepdims=True) * limit


def _inverted(found: SVDResult, limit: float) -> Op:
    kept = _kept(found.S, limit)
    weights = where(kept, 1 / where(kept, found.S, scalar(found.S, 1)), scalar(found.S, 0))
    return matmul(turned(found.Vh) * expand_dims(weights, -2), turned(found.U))


@operator
def lstsq(a: Operand, b: Operand, rcond: float | None = None) -> LstsqResult:
    """The x of least |a x − b|, and of those the shortest; with the residuals, the rank of a and its singular values.

    a (m, n), b (m,) or (m, k). By the pseudo-inverse, see `pinv` for `rcond` and derivatives. Unlike NumPy's, the residuals
    Σ(a x − b)² are given whatever the rank: (1,) or (k,).

    Example:
        >>> R.lstsq([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]], [1.0, 2.0, 2.0])[0]
        [0.6667, 0.5]
    """
    left, right = common(matrices(a, "lstsq"), b)
    if left.ndim != 2 or right.ndim not in (1, 2) or right.shape[0] != left.shape[0]:
        raise ShapeError("lstsq takes a matrix and what it should give", expected="(m, n) and (m,) or (m, k)",
                         received=f"{list(left.shape)} and {list(right.shape)}")  # fmt: skip
    x = matmul(pinv(left, rcond), right)
    s = svd(left, compute_uv=False)
    assert isinstance(s, Op)
    rest = matmul(left, x) - right
    residuals = sum(rest * rest, 0, keepdims=right.ndim == 1)
    return LstsqResult(x, residuals, _count(_kept(s, _limit(left, rcond))), s)


def _count(kept: Op) -> Op:
    return sum(cast(kept, INT), -1)


@operator
def matrix_rank(a: Operand, tol: float | None = None) -> Op:
    """int64: how many singular values of (…, m, n) are above `tol`; None: above max(m, n) · epsilon · the largest.

    Example:
        >>> R.matrix_rank([[1.0, 2.0], [2.0, 4.0]])
        1
    """
    op = matrices(a, "matrix_rank")
    s = svd(op, compute_uv=False)
    assert isinstance(s, Op)
    return _count(_kept(s, _limit(op, None)) if tol is None else s > tol)


@operator
def norm(x: Operand, ord: float | str | None = None, axis: Axes = None, keepdims: bool = False) -> Op:
    """The norm of vectors (one axis) or matrices (two axes), as `numpy.linalg.norm`.

    Args:
        ord: of vectors 2 (None), 1, inf, −inf, 0 (how many are not 0) or any p: (Σ|x|ᵖ)^(1/p). Of matrices `"fro"` (None),
            `"nuc"`, 1 and −1 (columns), inf and −inf (rows), 2 and −2 (singular values).
        axis: one axis, or two. None: the axes of a vector or matrix; with `ord` None all elements of any x.
    Raises `ArgumentError` for an order that there is not. The gradient of lengths (None, 2, "fro") is 0 where they are.

    Example:
        >>> R.norm([[3.0, 4.0], [6.0, 8.0]], axis=1)
        [5.0, 10.0]
    """
    op = floats(x)
    if axis is None and ord is None:
        return root(sum(op * op, keepdims=keepdims))
    axes = axes_of(op, axis)
    if len(axes) == 1:
        return _vector_norm(op, ord, axis_of(op, axes[0]), keepdims)
    if len(axes) == 2:
        return _matrix_norm(op, ord, axes, keepdims)
    raise ArgumentError("norms are of vectors and matrices", expected="one axis or two", received=list(op.shape),
                        hint="give axis=")  # fmt: skip


def _vector_norm(op: Op, ord: Any, axis: int, keepdims: bool) -> Op:
    if ord is None or ord == 2:
        return node("ReduceL2", [op, op.graph.integers([axis])], keepdims=int(keepdims))
    if isinstance(ord, str) or not isinstance(ord, int | float | np.number):
        raise ArgumentError("vectors have no such norm", expected="a number, inf or -inf", received=repr(ord))
    size = abs(op)
    if math.isinf(ord):
        return (max if ord > 0 else min)(size, axis, keepdims)
    if ord == 0:
        return sum(cast(op != 0, op.dtype), axis, keepdims)
    return (
        sum(size, axis, keepdims) if ord == 1 else sum(size ** float(ord), axis, keepdims) ** (1 / float(ord))
    )


def _matrix_norm(op: Op, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Op:
    rows, columns = axes
    if ord is None or ord == "fro":
        return root(sum(op * op, axes, keepdims))
    if ord in (1, -1, np.inf, -np.inf):
        inner, outer = (rows, columns) if _magnitude(ord) == 1 else (columns, rows)
        sums = sum(abs(op), inner, keepdims=True)
        value = (max if ord > 0 else min)(sums, outer, keepdims=True)
        return value if keepdims else node("Squeeze", [value, op.graph.integers(sorted(axes))])
    if ord not in (2, -2, "nuc"):
        raise ArgumentError(
            "matrices have no such norm",
            expected="'fro', 'nuc', 1, -1, 2, -2, inf or -inf",
            received=repr(ord),
        )
    rest = [axis for axis in range(op.ndim) if axis not in axes]
    s = svd(transpose(op, [*rest, rows, columns]), compute_uv=False)
    assert isinstance(s, Op)
    value = sum(s, -1) if ord == "nuc" else (max if ord > 0 else min)(s, -1)
    return expand_dims(value, sorted(axes)) if keepdims else value


def _magnitude(number: float) -> float:
    return -number if number < 0 else number
