"""Gradients of matrix products."""

from __future__ import annotations

import math
import string

import numpy as np

from ravop.autodiff.rules import Grads, NodeView, expand, permute, reshape, rule, sum_to
from ravop.graph.op import CATALOGUE, Op
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


@rule("Det")
def det(n: NodeView, g: Op) -> Grads:
    """det(A) · A⁻ᵀ (Petersen and Pedersen, The Matrix Cookbook, 49); NaN where the matrix is singular."""
    scale = reshape(g * n.y, (*n.y.static_shape, 1, 1))
    return [scale * _transposed(CATALOGUE["inv"](n.x))]


@rule("Einsum")
def einsum(n: NodeView, g: Op) -> Grads:
    """Swap an operand with the output: Σ over what neither the output nor the other operands have is a broadcast back."""
    terms, out = _letters(n)
    sizes: dict[str, int] = {}
    for i, term in enumerate(terms):
        for letter, dim in zip(term, n.input(i).static_shape, strict=True):
            sizes[letter] = dim if dim != 1 else sizes.get(letter, 1)
    return [_einsum_back(n, g, terms, out, i, sizes) if n.wanted(i) else None for i in range(len(terms))]


def _letters(n: NodeView) -> tuple[list[str], str]:
    """The equation's terms and output, with letters of their own for the axes behind an ellipsis."""
    equation = n.attribute("equation").replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    spare = [letter for letter in string.ascii_letters if letter not in equation]
    hidden = [n.input(i).ndim - len(term) + 3 for i, term in enumerate(terms) if "..." in term]
    behind = "".join(spare[: max(hidden, default=0)])
    if not arrow:
        out = "".join(sorted(c for c in set(left) - {",", "."} if left.count(c) == 1))
        out = ("..." if hidden else "") + out
    for i, term in enumerate(terms):
        if "..." in term:
            count = n.input(i).ndim - len(term) + 3
            terms[i] = term.replace("...", behind[len(behind) - count :])
    return terms, out.replace("...", behind)


def _einsum_back(n: NodeView, g: Op, terms: list[str], out: str, position: int, sizes: dict[str, int]) -> Op:
    operand, term = n.input(position), terms[position]
    others = [n.input(i) for i in range(len(terms)) if i != position]
    letters = [terms[i] for i in range(len(terms)) if i != position]
    stretched = {c for c, dim in zip(term, operand.static_shape, strict=True) if dim != sizes[c]}
    single = "".join(dict.fromkeys(term))
    known = {*out, *(c for other, op in zip(letters, others, strict=True)
                     for c, dim in zip(other, op.static_shape, strict=True) if dim == sizes[c])}  # fmt: skip
    there = "".join(c for c in single if c not in stretched and c in known)
    back = node("Einsum", [g, *others], equation=f"{','.join([out, *letters])}->{there}")
    shape = tuple(sizes[c] if c in there else 1 for c in single)
    full = tuple(1 if c in stretched else sizes[c] for c in single)
    back = expand(reshape(back, shape), full)
    return back if len(single) == len(term) else _on_diagonal(back, single, term, sizes)


def _on_diagonal(back: Op, single: str, term: str, sizes: dict[str, int]) -> Op:
    """A gradient with one axis a letter, put on the diagonal of the axes that share a letter."""
    place = {c: term.index(c) for c in single}
    order = sorted(range(len(single)), key=lambda i: place[single[i]])
    shape = tuple(sizes[c] if place[c] == i else 1 for i, c in enumerate(term))
    spread = reshape(permute(back, order), shape)
    for i, c in enumerate(term):
        if place[c] != i:
            eye = np.eye(sizes[c], dtype=back.dtype)
            axes = tuple(sizes[c] if axis in (place[c], i) else 1 for axis in range(len(term)))
            spread = spread * back.graph.tensor(eye.reshape(axes), back.dtype)
    return spread
