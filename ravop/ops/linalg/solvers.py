"""Linear equations, inverses and determinants: Gauss-Jordan elimination, Cholesky's decomposition, substitution.

ONNX has no solver, so each is a loop over the columns of a matrix, or of all matrices of a batch at once. Inverse, solution
and determinant have closed derivatives: the loop is computed on a copy that passes no gradient on, and a series in
D = A − copy, which is zero, gives the first three derivatives exactly.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ravop.errors import ShapeError
from ravop.graph.control import indices, scan
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import whole
from ravop.ops.arithmetic import abs, sign
from ravop.ops.catalogue import common, node, operator, scalar
from ravop.ops.compare import equal, where
from ravop.ops.create import stop_gradient
from ravop.ops.elementary import log, sqrt
from ravop.ops.linalg.diagonals import diagonal
from ravop.ops.linalg.matrices import at, batched, change, formed, squares, turned, unit
from ravop.ops.linalg.products import matmul
from ravop.ops.reduction import any, argmax, prod, sum
from ravop.ops.shaping import broadcast_to, concat, expand_dims, transpose

__all__ = ["cholesky", "det", "inv", "matrix_power", "slogdet", "solve", "solve_triangular"]


class SlogdetResult(NamedTuple):
    sign: Op
    logabsdet: Op


class _Eliminated(NamedTuple):
    """What Gauss-Jordan elimination of [A | I | b] leaves: A⁻¹, A⁻¹b, the pivots (n, batch) and the sign of their order."""

    inverse: Op
    solution: Op | None
    pivots: Op
    sign: Op


def _eliminate(a: Op, b: Op | None = None) -> _Eliminated:
    """Gauss-Jordan elimination with partial pivoting of a batch (B, n, n), b (B, n, k)."""
    count, n, _ = a.static_shape
    rows = np.arange(n)
    identity = broadcast_to(unit(a, n), a.static_shape)
    start = concat([a, identity] if b is None else [a, identity, b], axis=2)

    def step(carry: tuple[Op, Op], i: Op) -> tuple[tuple[Op, Op], Op]:
        m, order = carry
        pivot = argmax(where(rows >= i, abs(at(m, i, 2)), scalar(m, -1)), axis=1)
        top = node("GatherND", [m, expand_dims(pivot, 1)], batch_dims=1)
        is_pivot = expand_dims(equal(rows, expand_dims(pivot, 1)), 2)
        m = where(is_pivot, expand_dims(at(m, i, 1), 1), m)  # row i itself is replaced below
        value = at(top, i, 1)
        top = expand_dims(top / expand_dims(value, 1), 1)
        rest = m - expand_dims(at(m, i, 2), 2) * top
        m = where(expand_dims(equal(rows, i), 1), top, rest)
        return (m, where(equal(pivot, i), order, -order)), value

    ones = broadcast_to(scalar(a, 1), (count,))
    (m, order), pivots = scan(step, (start, ones), indices(a.graph, n))
    return _Eliminated(m[:, :, n : 2 * n], None if b is None else m[:, :, 2 * n :], pivots, order)


@operator
def inv(a: Operand) -> Op:
    """The inverse of a square matrix, or of each in (…, n, n), by Gauss-Jordan elimination with partial pivoting.

    A loop of n steps, as ONNX has no operator for it. A singular matrix gives infinities or NaNs. The gradient of g is
    −A⁻ᵀ g A⁻ᵀ (Petersen and Pedersen, The Matrix Cookbook, 59); derivatives are exact up to the third.

    Example:
        >>> R.inv([[2.0, 0.0], [1.0, 1.0]])
        [[0.5, 0.0], [-0.5, 1.0]]
    """
    op = squares(a, "inv")
    inverse = formed(_eliminate(batched(stop_gradient(op))).inverse, op.static_shape)
    e = matmul(change(op), inverse)
    return inverse - matmul(inverse, e - matmul(e, e - matmul(e, e)))


def _system(a: Operand, b: Operand, what: str) -> tuple[Op, Op, bool]:
    """a (…, n, n) and b (…, n, k) of one dtype and batch, and whether b was one vector. Raises `ShapeError`."""
    left, right = common(squares(a, what), b)
    vector = right.ndim == 1
    right = expand_dims(right, 1) if vector else right
    n = left.static_shape[-1]
    if right.ndim < 2 or right.static_shape[-2] != n:
        raise ShapeError(
            "b does not fit the matrix", expected=f"({n},) or (…, {n}, k)", received=list(right.shape)
        )
    try:
        batch = np.broadcast_shapes(left.static_shape[:-2], right.static_shape[:-2])
    except ValueError:
        raise ShapeError(
            "the batches of a and b do not fit", received=f"{list(left.shape)} and {list(right.shape)}"
        ) from None
    return (
        broadcast_to(left, (*batch, n, n)),
        broadcast_to(right, (*batch, n, right.static_shape[-1])),
        vector,
    )


@operator
def solve(a: Operand, b: Operand) -> Op:
    """x with a x = b, by Gauss-Jordan elimination with partial pivoting: a (…, n, n), b (n,) or (…, n, k).

    As in NumPy, b is one vector only where it has one axis. A singular a gives infinities or NaNs. Derivatives are exact up
    to the third.

    Example:
        >>> R.solve([[2.0, 1.0], [1.0, 3.0]], [3.0, 5.0])
        [0.8, 1.4]
    """
    left, right, vector = _system(a, b, "solve")
    found = _eliminate(batched(stop_gradient(left)), batched(stop_gradient(right)))
    assert found.solution is not None
    inverse = formed(found.inverse, left.static_shape)
    x = formed(found.solution, right.static_shape) + matmul(inverse, change(right))
    d = change(left)

    def f(y: Op) -> Op:
        return matmul(inverse, matmul(d, y))

    x = x - f(x - f(x - f(x)))
    return node("Squeeze", [x, x.graph.integers([-1])]) if vector else x


@operator
def det(a: Operand) -> Op:
    """The determinant of a square matrix, or of each in (…, n, n): the product of the pivots of Gauss-Jordan elimination.

    The gradient is det(A) A⁻ᵀ (The Matrix Cookbook, 49), NaN for a singular matrix, whose determinant is 0; derivatives are
    exact up to the third.

    Example:
        >>> R.det([[1.0, 2.0], [3.0, 4.0]])
        -2.0
    """
    op = squares(a, "det")
    found = _eliminate(batched(stop_gradient(op)))
    singular = any(equal(found.pivots, 0), axis=0)
    p1, p2, p3 = _power_sums(op, found.inverse)
    # det(I + E) by its elementary symmetric polynomials, from the power sums by Newton's identities
    series = 1 + p1 + (p1 * p1 - p2) / 2 + (p1 * p1 * p1 - 3 * p1 * p2 + 2 * p3) / 6
    value = where(singular, scalar(op, 0), prod(found.pivots, axis=0) * found.sign * series)
    return formed(value, op.static_shape[:-2])


@operator
def slogdet(a: Operand) -> SlogdetResult:
    """(sign, log |det|) of a square matrix, or of each in (…, n, n): for determinants too large or too small for floats.

    A singular matrix gives (0, −inf). The gradient of the logarithm is A⁻ᵀ (The Matrix Cookbook, 57).

    Example:
        >>> R.slogdet([[0.0, 1.0], [1.0, 0.0]])[0]
        -1.0
    """
    op = squares(a, "slogdet")
    found = _eliminate(batched(stop_gradient(op)))
    singular = any(equal(found.pivots, 0), axis=0)
    p1, p2, p3 = _power_sums(op, found.inverse)
    logarithm = sum(log(abs(found.pivots)), axis=0) + p1 - p2 / 2 + p3 / 3
    signs = prod(sign(found.pivots), axis=0) * found.sign
    shape = op.static_shape[:-2]
    return SlogdetResult(
        formed(where(singular, scalar(op, 0), signs), shape),
        formed(where(singular, scalar(op, -np.inf), logarithm), shape),
    )


def _power_sums(a: Op, inverse: Op) -> tuple[Op, Op, Op]:
    """The traces of E, E² and E³ with E = (A − copy of A) A⁻¹, for each matrix of the batch: zeros with derivatives."""
    e = matmul(batched(change(a)), inverse)
    square = matmul(e, e)
    return sum(diagonal(e, 0, 1, 2), -1), sum(diagonal(square, 0, 1, 2), -1), sum(square * turned(e), (1, 2))


@operator
def cholesky(a: Operand) -> Op:
    """The lower triangular L with L Lᵀ = A of a symmetric positive definite matrix, or of each in (…, n, n).

    Column by column (Golub and Van Loan, Matrix Computations, 4.2.5), in a loop of n steps that gradients go through. Only
    the lower triangle of A is read, as in NumPy. A matrix that is not positive definite gives NaNs.

    Example:
        >>> R.cholesky([[4.0, 2.0], [2.0, 5.0]])
        [[2.0, 0.0], [1.0, 2.0]]
    """
    op = squares(a, "cholesky")
    n = op.static_shape[-1]
    rows = np.arange(n)

    def step(m: Op, i: Op) -> tuple[Op, Op]:
        column = at(m, i, 2)
        root = sqrt(at(column, i, 1))
        column = where(rows >= i, column / expand_dims(root, 1), scalar(m, 0))
        return m - expand_dims(column, 2) * expand_dims(column, 1), column

    _, columns = scan(step, batched(op), indices(op.graph, n))
    return formed(transpose(columns, (1, 2, 0)), op.static_shape)


@operator
def solve_triangular(a: Operand, b: Operand, lower: bool = False, unit_diagonal: bool = False) -> Op:
    """x with a x = b for triangular a (…, n, n), b (n,) or (…, n, k), by substitution, as SciPy's.

    A loop of n steps that gradients go through. Only the upper triangle of a is read, or the lower; with `unit_diagonal`
    its diagonal counts as ones.

    Example:
        >>> R.solve_triangular([[2.0, 1.0], [0.0, 4.0]], [4.0, 8.0])
        [1.0, 2.0]
    """
    left, right, vector = _system(a, b, "solve_triangular")
    left, rows = batched(left), np.arange(left.static_shape[-1])
    order = rows if lower else rows[::-1].copy()

    def step(x: Op, i: Op) -> tuple[Op, None]:
        row = at(left, i, 1)
        known = matmul(expand_dims(row, 1), x)[:, 0]  # zero for what is not solved yet
        value = at(folded, i, 1) - known
        if not unit_diagonal:
            value = value / expand_dims(at(row, i, 1), 1)
        return where(expand_dims(equal(rows, i), 1), expand_dims(value, 1), x), None

    folded = batched(right)
    x, _ = scan(step, folded * 0, left.graph.tensor(order))
    x = formed(x, right.static_shape)
    return node("Squeeze", [x, x.graph.integers([-1])]) if vector else x


@operator
def matrix_power(a: Operand, n: int) -> Op:
    """The product of n times a square matrix, or each in (…, m, m), by repeated squaring; of its inverse for n below 0.

    Example:
        >>> R.matrix_power([[1, 1], [0, 1]], 5)
        [[1, 5], [0, 1]]
    """
    exponent = whole(n, "n")
    op = inv(a) if exponent < 0 else common(a)[0]
    if op.ndim < 2 or op.shape[-1] != op.shape[-2]:
        raise ShapeError("only square matrices have powers", expected="(…, n, n)", received=list(op.shape))
    left, power = (-exponent if exponent < 0 else exponent), op
    result: Op | None = None
    while left:
        if left % 2:
            result = power if result is None else matmul(result, power)
        left //= 2
        power = matmul(power, power) if left else power
    return result if result is not None else broadcast_to(unit(op, op.static_shape[-1]), op.static_shape)
