"""Products of matrices and vectors, and the inverse."""

from __future__ import annotations

import numpy as np

from ravop.errors import ShapeError
from ravop.graph.control import indices, scan
from ravop.graph.op import Op, Operand
from ravop.ops.arithmetic import abs
from ravop.ops.catalogue import common, exact, floats, node, numbers, operator
from ravop.ops.compare import equal, where
from ravop.ops.indexing import gather, index
from ravop.ops.reduction import argmax
from ravop.ops.shaping import concat, expand_dims, reshape

__all__ = ["dot", "einsum", "inv", "matmul", "outer"]


@operator
def matmul(a: Operand, b: Operand) -> Op:
    """The matrix product of (…, n, k) and (…, k, m), batches broadcast, as NumPy's `@`; vectors as well."""
    x, y = (numbers(op) for op in common(a, b))
    if not x.ndim or not y.ndim:
        raise ShapeError("matmul needs matrices or vectors", expected="at least 1 axis",
            received=f"{list(x.shape)} and {list(y.shape)}",
                         hint="multiply by a scalar with *")  # fmt: skip
    return exact("MatMul", [x, y])


@operator
def dot(a: Operand, b: Operand) -> Op:
    """NumPy's dot: the sum over the last axis of a and the last but one of b; a product where one is a scalar."""
    x, y = (numbers(op) for op in common(a, b))
    if not x.ndim or not y.ndim:
        return node("Mul", [x, y])
    if (x.ndim <= 2 and y.ndim <= 2) or y.ndim == 1:
        return exact("MatMul", [x, y])
    letters = "abcdefghijklmnopqrstuvwxyz"
    left, right = letters[: x.ndim - 1], letters[x.ndim - 1 : x.ndim + y.ndim - 2]
    return exact("Einsum", [x, y], equation=f"{left}z,{right[:-1]}z{right[-1]}->{left}{right}")


@operator
def outer(a: Operand, b: Operand) -> Op:
    """All products of an element of vector a, (n,), with one of vector b, (m,): (n, m)."""
    x, y = common(a, b)
    if x.ndim != 1 or y.ndim != 1:
        raise ShapeError(
            "outer needs two vectors", expected="1 axis each", received=f"{list(x.shape)} and {list(y.shape)}"
        )
    return einsum("i,j->ij", x, y)


@operator
def einsum(equation: str, *operands: Operand) -> Op:
    """Einstein's summation, as `numpy.einsum` with an explicit or implicit output."""
    return exact("Einsum", [numbers(op) for op in common(*operands)], equation=equation)


@operator
def inv(a: Operand) -> Op:
    """The inverse of a square matrix, or of each in (…, n, n), by Gauss-Jordan elimination with partial pivoting.

    A loop of n steps, as ONNX has no operator for it. A singular matrix gives infinities or NaNs.
    """
    op = floats(a)
    if op.ndim < 2 or op.shape[-1] != op.shape[-2]:
        raise ShapeError(
            "only square matrices have an inverse", expected="(…, n, n)", received=list(op.shape)
        )
    if op.ndim == 2:
        return _inverse(op)
    _, inverses = scan(
        lambda _, matrix: (None, _inverse(matrix)), None, reshape(op, (-1, *op.static_shape[-2:]))
    )
    return reshape(inverses, op.static_shape)


def _inverse(matrix: Op) -> Op:
    n = matrix.static_shape[0]
    rows = np.arange(n)

    def eliminate(m: Op, i: Op) -> tuple[Op, None]:
        pivot = argmax(where(rows >= i, abs(gather(m, i, axis=1)), -1.0))
        top = gather(m, pivot)
        is_i, is_pivot = (expand_dims(equal(rows, which), 1) for which in (i, pivot))
        m = where(is_pivot, gather(m, i), m)  # where both are the same row, it is replaced below
        top = top / gather(top, i)
        return where(is_i, top, m - expand_dims(gather(m, i, axis=1), 1) * top), None

    together, _ = scan(eliminate, concat(matrix, node("EyeLike", [matrix]), axis=1), indices(matrix.graph, n))
    return index(together, np.s_[:, n:])
