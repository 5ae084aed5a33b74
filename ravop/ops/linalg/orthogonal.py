"""The QR decomposition, by Householder's reflections in a loop over columns that gradients go through."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ravop.errors import ArgumentError
from ravop.graph.control import indices, scan
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import node, operator, scalar
from ravop.ops.compare import equal, greater_equal, where
from ravop.ops.elementary import sqrt
from ravop.ops.linalg.matrices import at, batched, formed, matrices, unit
from ravop.ops.linalg.products import matmul
from ravop.ops.reduction import sum
from ravop.ops.shaping import broadcast_to, expand_dims

__all__ = ["qr"]


class QRResult(NamedTuple):
    Q: Op
    R: Op


@operator
def qr(a: Operand, mode: str = "reduced") -> QRResult | Op:
    """(Q, R) with Q R = a, orthonormal columns in Q and an upper triangular R, of (…, m, n), with LAPACK's signs.

    Householder's method (Golub and Van Loan, Matrix Computations, 5.2.1), in loops of min(m, n) steps.

    Args:
        mode: `"reduced"`: Q (…, m, k), R (…, k, n) with k = min(m, n); `"complete"`: Q (…, m, m), R (…, m, n); `"r"`: R alone.
    Raises `ArgumentError` for another mode.

    Example:
        >>> R.qr([[3.0, 1.0], [4.0, 2.0]], mode="r")
        [[-5.0, -2.2], [0.0, 0.4]]
    """
    if mode not in ("reduced", "complete", "r"):
        raise ArgumentError(
            "qr has no such mode", expected="'reduced', 'complete' or 'r'", received=repr(mode)
        )
    op = matrices(a, "qr")
    *batch, m, n = op.static_shape
    k = min(m, n)
    reflections, triangle = reflect(batched(op))
    upper = triangle if mode == "complete" else triangle[:, :k]
    r = formed(upper, (*batch, upper.static_shape[1], n))
    if mode == "r":
        return r
    columns = m if mode == "complete" else k
    return QRResult(formed(orthonormal(reflections, columns), (*batch, m, columns)), r)


def reflect(a: Op) -> tuple[tuple[Op, Op], Op]:
    """Householder's reflections of a batch (B, m, n): their vectors (k, B, m) and factors (k, B), and the triangle left.

    A column that is zero below its diagonal element is left as it is.
    """
    _, m, n = a.static_shape
    rows = np.arange(m)
    zero, one = scalar(a, 0), scalar(a, 1)

    def step(r: Op, i: Op) -> tuple[Op, tuple[Op, Op]]:
        column = at(r, i, 2)
        head = at(column, i, 1)
        below = where(rows > i, column, zero)
        rest = sum(below * below, 1)
        idle = equal(rest, 0)
        length = sqrt(where(idle, one, rest + head * head))
        first = head + where(greater_equal(head, 0), length, -length)
        v = where(equal(rows, i), expand_dims(first, 1), below)
        factor = where(idle, zero, 2 / where(idle, one, rest + first * first))
        along = matmul(expand_dims(v, 1), r)  # (B, 1, n)
        return r - expand_dims(v, 2) * (expand_dims(factor, (1, 2)) * along), (v, factor)

    triangle, (vectors, factors) = scan(step, a, indices(a.graph, min(m, n)))
    below = np.arange(m)[:, None] > np.arange(n)
    return (vectors, factors), where(below, zero, triangle)


def orthonormal(reflections: tuple[Op, Op], columns: int) -> Op:
    """The first columns of the product of the reflections: (B, m, columns)."""
    vectors, factors = reflections
    _, count, m = vectors.static_shape

    def step(q: Op, x: tuple[Op, Op]) -> tuple[Op, None]:
        v, factor = x
        along = matmul(expand_dims(v, 1), q)
        return q - expand_dims(v, 2) * (expand_dims(factor, (1, 2)) * along), None

    start = broadcast_to(unit(vectors, m, columns), (count, m, columns))
    return scan(step, start, (_reversed(vectors), _reversed(factors)))[0]  # type: ignore[no-any-return]


def _reversed(op: Op) -> Op:
    order = np.arange(op.static_shape[0])[::-1].copy()
    return node("Gather", [op, op.graph.tensor(order)], axis=0)
