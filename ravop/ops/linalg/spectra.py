"""Eigenvalues of symmetric matrices, singular values, and what is made of them: pseudo-inverse, least squares, rank.

One-sided Jacobi sweeps (`ravop.ops.linalg.jacobi`) find the vectors, of a copy that passes no gradient on. Two steps of the
refinement of Ogita and Aishima ("Iterative refinement for symmetric eigenvalue decomposition", 2018), which converges
quadratically, are then taken for their derivatives alone: these are exact up to the third. Within a group of equal
values, where vectors have no derivative, they count as constant.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn

import numpy as np

from ravop.errors import DTypeError
from ravop.graph.op import Op, Operand
from ravop.graph.source import located
from ravop.ops.arithmetic import abs
from ravop.ops.catalogue import node, operator, scalar
from ravop.ops.compare import equal, greater_equal, where
from ravop.ops.create import stop_gradient
from ravop.ops.elementary import sqrt
from ravop.ops.linalg.diagonals import diagonal
from ravop.ops.linalg.jacobi import orthogonalise
from ravop.ops.linalg.matrices import batched, change, epsilon, formed, matrices, squares, turned, unit
from ravop.ops.linalg.orthogonal import orthonormal, reflect
from ravop.ops.linalg.products import matmul
from ravop.ops.reduction import max, sum
from ravop.ops.shaping import broadcast_to, expand_dims

__all__ = ["eig", "eigh", "eigvals", "eigvalsh", "svd"]


class EighResult(NamedTuple):
    eigenvalues: Op
    eigenvectors: Op


class SVDResult(NamedTuple):
    U: Op
    S: Op
    Vh: Op


def eig(a: Operand) -> NoReturn:
    """Refused: the eigenvalues of a general matrix are complex. Raises `DTypeError` that tells the way around."""
    raise located(_complex_values("eig"), "eig")


def eigvals(a: Operand) -> NoReturn:
    """Refused, as `eig`."""
    raise located(_complex_values("eigvals"), "eigvals")


def _complex_values(name: str) -> DTypeError:
    return DTypeError(
        f"{name} gives complex numbers, and tensors hold real ones", expected="a symmetric matrix, for eigh",
        received="any matrix",
        hint="use eigh for symmetric matrices, svd for singular values, or matrix_power for what powers tend to",
    )  # fmt: skip


@operator
def eigh(a: Operand) -> EighResult:
    """(eigenvalues in rising order (…, n), eigenvectors as columns (…, n, n)) of symmetric matrices (…, n, n).

    As NumPy's, of which only the lower triangle is read. The signs of the vectors are not determined.

    Example:
        >>> R.eigh([[2.0, 1.0], [1.0, 2.0]])[0]
        [1.0, 3.0]
    """
    op = squares(a, "eigh")
    shape = op.static_shape
    n = shape[-1]
    low = batched(op)
    below = np.arange(n)[:, None] > np.arange(n)
    zero = scalar(op, 0)
    strict = where(below, low, zero)
    whole = strict + turned(strict) + where(np.eye(n, dtype=bool), low, zero)
    copy = stop_gradient(whole)
    shift = sqrt(sum(copy * copy, (1, 2), keepdims=True))  # no eigenvalue is further from 0
    vectors = orthogonalise(copy + shift * unit(op, n))
    values = sum(vectors * matmul(copy, vectors), 1)
    vectors = stop_gradient(_columns(vectors, _order(values, largest=False)))
    for _ in range(2):
        image = matmul(whole, vectors)
        cosines, values = matmul(turned(vectors), image), sum(vectors * image, 1) / sum(vectors * vectors, 1)
        vectors = vectors + matmul(vectors, change(_turn(vectors, cosines, values, _gaps(values))))
    values = sum(vectors * matmul(whole, vectors), 1) / sum(vectors * vectors, 1)
    return EighResult(formed(values, shape[:-1]), formed(vectors, shape))


@operator
def eigvalsh(a: Operand) -> Op:
    """The eigenvalues of symmetric matrices in rising order, see `eigh`.

    Example:
        >>> R.eigvalsh([[0.0, 2.0], [2.0, 3.0]])
        [-1.0, 4.0]
    """
    return eigh(a)[0]


@operator
def svd(a: Operand, full_matrices: bool = True, compute_uv: bool = True) -> SVDResult | Op:
    """(U, S, Vh) with U S Vh = a, of (…, m, n): singular values S in falling order, orthonormal columns in U and rows in Vh.

    With k = min(m, n): S (…, k), U (…, m, m) or (…, m, k), Vh (…, n, n) or (…, k, n), as NumPy's. The signs of the vectors
    are not determined. What `full_matrices` adds to a basis counts as constant in gradients.

    Args:
        full_matrices: whole bases, or only the k vectors that belong to singular values.
        compute_uv: False: give S alone.

    Example:
        >>> R.svd([[3.0, 0.0], [4.0, 5.0]], compute_uv=False)
        [6.7082, 2.2361]
    """
    op = matrices(a, "svd")
    *batch, m, n = op.static_shape
    k = min(m, n)
    tall = batched(op) if m >= n else turned(batched(op))
    vectors, images, lengths = singular(tall)
    s = formed(lengths, (*batch, k))
    if not compute_uv:
        return s
    nonzero = expand_dims(lengths, 1) > 0
    units = images / where(nonzero, expand_dims(lengths, 1), scalar(op, 1))
    reflections, triangle = reflect(stop_gradient(units))
    square = k if not full_matrices else tall.static_shape[1]
    basis = orthonormal(reflections, square)
    signs = where(greater_equal(diagonal(triangle[:, :k], 0, 1, 2), 0), scalar(op, 1), scalar(op, -1))
    first = basis[:, :, :k] * expand_dims(signs, 1) + where(nonzero, change(units), scalar(op, 0))
    left = first if square == k else node("Concat", [first, basis[:, :, k:]], axis=2)
    u, v = (left, vectors) if m >= n else (vectors, left)
    return SVDResult(
        formed(u, (*batch, *u.static_shape[1:])), s, formed(turned(v), (*batch, *turned(v).static_shape[1:]))
    )


def singular(a: Op) -> tuple[Op, Op, Op]:
    """For a batch a (B, m, n), m ≥ n: right singular vectors V (B, n, n), their images a V, and the singular values."""
    _, m, n = a.static_shape
    copy = stop_gradient(a)
    scale = max(abs(copy), (1, 2), keepdims=True)
    scaled = copy / where(equal(scale, 0), scalar(a, 1), scale)
    small = (
        reflect(scaled)[1][:, :n] if m > n else scaled
    )  # the same singular values and vectors on this side
    vectors = orthogonalise(small)
    images = matmul(scaled, vectors)
    vectors = stop_gradient(_columns(vectors, _order(sum(images * images, 1), largest=True)))
    for _ in range(2):
        images = matmul(a, vectors)
        lengths = _lengths(images)
        across, down = expand_dims(lengths, 1), expand_dims(lengths, 2)
        near = abs(across - down) <= 16 * epsilon(a) * (across + down)
        gaps = where(near, scalar(a, 0), (across - down) * (across + down))
        turn = _turn(vectors, matmul(turned(images), images), lengths * lengths, gaps)
        vectors = vectors + matmul(vectors, change(turn))
    images = matmul(a, vectors)
    return vectors, images, _lengths(images)


def _lengths(columns: Op) -> Op:
    """Of each column; the derivative at 0 is 0."""
    squares_ = sum(columns * columns, 1)
    nonzero = squares_ > 0
    return where(nonzero, sqrt(where(nonzero, squares_, scalar(columns, 1))), scalar(columns, 0))


def _turn(vectors: Op, cosines: Op, values: Op, gaps: Op) -> Op:
    """E with vectors (I + E) nearer to the eigenvectors: (s_ij + λ_j r_ij) / (λ_j − λ_i), and r_ij / 2 where λ_i = λ_j."""
    n = vectors.static_shape[2]
    rest = unit(vectors, n) - matmul(turned(vectors), vectors)
    equal_values = equal(gaps, 0)
    apart = (cosines + expand_dims(values, 1) * rest) / where(equal_values, scalar(vectors, 1), gaps)
    return where(equal_values, rest / 2, apart)


def _gaps(values: Op) -> Op:
    """λ_j − λ_i, 0 where it is within rounding."""
    gaps = expand_dims(values, 1) - expand_dims(values, 2)
    size = max(abs(values), 1, keepdims=True)
    near = abs(gaps) <= 4 * epsilon(values) * expand_dims(size, 2)
    return where(near, scalar(values, 0), gaps)


def _order(values: Op, largest: bool) -> Op:
    count = values.static_shape[1]
    return values.graph.apply(
        "TopK", [values, values.graph.integers([count])], {"axis": 1, "largest": int(largest)}
    )[1]


def _columns(matrix: Op, order: Op) -> Op:
    """The columns of each matrix in the order told for it."""
    return node("GatherElements", [matrix, broadcast_to(expand_dims(order, 1), matrix.static_shape)], axis=2)
