"""Attention, as models write it out of products and Softmax, against PyTorch."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from ravop.autodiff import grad
from ravop.ops.catalogue import node

SHAPE = (2, 3, 5, 4)
"""(batch, heads, tokens, width)"""


def values(seed, scale=1.0):
    return np.random.default_rng(seed).normal(size=SHAPE) * scale


def attention(q, k, v):
    """Causal: what comes later weighs nothing."""
    later = np.triu(np.ones((SHAPE[2], SHAPE[2]), bool), 1)
    scores = node("MatMul", [q, node("Transpose", [k], perm=[0, 1, 3, 2])]) * (1 / math.sqrt(SHAPE[3]))
    forbidden = q.graph.tensor(np.float32(-np.inf))
    scores = node("Where", [q.graph.tensor(later), forbidden, scores])
    return node("MatMul", [node("Softmax", [scores], axis=-1), v])


def theirs(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def test_causal_attention_with_large_scores(check_torch):
    check_torch(attention, theirs, values(0, 20.0), values(1, 5.0), values(2), rtol=1e-3, atol=1e-3)


def test_second_derivatives(check_torch):
    def ours_twice(q, k, v):
        y = attention(q, k, v)
        found = grad((y * y * y).sum(), [q, k, v])
        return sum(((g * g).sum() for g in found[1:]), start=(found[0] * found[0]).sum())

    def theirs_twice(q, k, v):
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            y = theirs(q, k, v)
        found = torch.autograd.grad((y * y * y).sum(), [q, k, v], create_graph=True)
        return sum((g * g).sum() for g in found)

    check_torch(ours_twice, theirs_twice, values(0), values(1), values(2), rtol=1e-2, atol=1e-2)
