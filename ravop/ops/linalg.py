"""Products of matrices and vectors."""

from __future__ import annotations

from ravop.errors import ShapeError
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import common, exact, node, numbers, operator

__all__ = ["dot", "einsum", "matmul", "outer"]


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
