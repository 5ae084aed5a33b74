"""Gradients of matrix products."""

from __future__ import annotations

import math

from ravop.autodiff.rules import Grads, NodeView, expand, permute, reshape, rule, sum_to
from ravop.graph.op import Op
from ravop.ops.catalogue import node


@rule("MatMul")
def matmul(n: NodeView, g: Op) -> Grads:
    """With Y = A·B: dA = dY·Bᵀ and dB = Aᵀ·dY; vectors count as matrices of one row or column, as in NumPy."""
    first, second = n.x, n.input(1)
    a = reshape(first, (1, *first.shape)) if first.ndim == 1 else first
    b = reshape(second, (*second.shape, 1)) if second.ndim == 1 else second
    g = reshape(g, (*_batch(a, b), a.shape[-2], b.shape[-1]))
    return [
        reshape(sum_to(_times_transposed(g, b), a), first.shape) if n.wanted(0) else None,
        reshape(_transposed_times(a, g, b), second.shape) if n.wanted(1) else None,
    ]


def _batch(a: Op, b: Op) -> tuple[int, ...]:
    longer, shorter = sorted((a.static_shape[:-2], b.static_shape[:-2]), key=len, reverse=True)
    filled = (1,) * (len(longer) - len(shorter)) + shorter
    return tuple(max(p, q) if min(p, q) else 0 for p, q in zip(longer, filled, strict=True))


def _times_transposed(g: Op, b: Op) -> Op:
    """g·bᵀ. Gemm reads its operands transposed, so where it can be used nothing is copied."""
    if b.ndim > 2:
        return node("MatMul", [g, _transposed(b)])
    flat = reshape(g, (math.prod(g.static_shape[:-1]), g.shape[-1]))
    return reshape(node("Gemm", [flat, b], transB=1), (*g.shape[:-1], b.shape[0]))


def _transposed_times(a: Op, g: Op, b: Op) -> Op:
    """aᵀ·g in the shape of b; with a single b the batch is one more axis to sum over, and it is one product."""
    if b.ndim > 2:
        return sum_to(node("MatMul", [_transposed(a), g]), b)
    if a.shape[:-2] != g.shape[:-2]:
        return sum_to(node("MatMul", [_transposed(a), g]), b)
    rows = math.prod(a.static_shape[:-1])
    return node("Gemm", [reshape(a, (rows, a.shape[-1])), reshape(g, (rows, g.shape[-1]))], transA=1)


def _transposed(op: Op) -> Op:
    last = op.ndim - 1
    return permute(op, [*range(last - 1), last, last - 1])


@rule("Gemm")
def gemm(n: NodeView, g: Op) -> Grads:
    """With Y = α·A'·B' + β·C, where ' transposes if the flag says so."""
    a, b, bias = n.x, n.input(1), n.optional(2)
    alpha, beta = n.attribute("alpha", 1.0), n.attribute("beta", 1.0)
    trans_a, trans_b = n.attribute("transA", 0), n.attribute("transB", 0)
    by_a = by_b = by_bias = None
    if n.wanted(0):
        by_a = _gemm(b, g, trans_b, 1, alpha) if trans_a else _gemm(g, b, 0, 1 - trans_b, alpha)
    if n.wanted(1):
        by_b = _gemm(g, a, 1, trans_a, alpha) if trans_b else _gemm(a, g, 1 - trans_a, 0, alpha)
    if bias is not None and n.wanted(2):
        by_bias = sum_to(g if beta == 1.0 else g * beta, bias)
    return [by_a, by_b, by_bias]


def _gemm(a: Op, b: Op, trans_a: int, trans_b: int, alpha: float) -> Op:
    return node("Gemm", [a, b], transA=trans_a, transB=trans_b, alpha=float(alpha))


@rule("Einsum")
def einsum(n: NodeView, g: Op) -> Grads:
    """Swap an operand with the output: Σ over what neither the output nor the other operands have is a broadcast back."""
    equation = n.attribute("equation").replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        out = "".join(sorted(letter for letter in set(left) - {","} if left.count(letter) == 1))
    if "." in equation or any(len(set(term)) != len(term) for term in (*terms, out)):
        raise n.error("ellipses and repeated indices are not supported")
    return [_einsum_back(n, g, terms, out, i) if n.wanted(i) else None for i in range(len(terms))]


def _einsum_back(n: NodeView, g: Op, terms: list[str], out: str, position: int) -> Op:
    operand, term = n.input(position), terms[position]
    others = [n.input(i) for i in range(len(terms)) if i != position]
    letters = [terms[i] for i in range(len(terms)) if i != position]
    there = "".join(letter for letter in term if letter in out or any(letter in other for other in letters))
    back = node("Einsum", [g, *others], equation=f"{','.join([out, *letters])}->{there}")
    dims = [dim if letter in there else 1 for letter, dim in zip(term, operand.static_shape, strict=True)]
    return expand(reshape(back, tuple(dims)), operand.static_shape)
