"""Matrix products against finite differences; hypothesis draws the shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from ravop.ops.catalogue import node

few = settings(max_examples=20, deadline=None)


def values(shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


@given(mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, max_side=3))
@few
def test_matmul(check_gradients, shapes):
    a, b = shapes.input_shapes
    check_gradients(lambda a, b: a @ b, values(a, 1), values(b, 2))


def test_second_derivatives(check_gradients):
    check_gradients(lambda a, b: (a @ b) ** 2, values((2, 3), 1), values((3, 2), 2), times=2)


@given(st.booleans(), st.booleans(), st.sampled_from([None, (), (1,), (3,), (2, 1), (2, 3)]))
@few
def test_gemm(check_gradients, trans_a, trans_b, bias):
    a, b = values((4, 2) if trans_a else (2, 4), 1), values((3, 4) if trans_b else (4, 3), 2)

    def product(*ops):
        return node("Gemm", list(ops), transA=int(trans_a), transB=int(trans_b), alpha=0.5, beta=1.5)

    check_gradients(product, a, b, *([] if bias is None else [values(bias, 3)]))


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("ij,jk->ik", [(2, 3), (3, 2)]), ("ij,ij->", [(2, 3), (2, 3)]), ("ij->j", [(2, 3)]),
     ("bij,bjk,k->bi", [(2, 2, 3), (2, 3, 2), (2,)]), ("i,j", [(2,), (3,)])],
)  # fmt: skip
def test_einsum(check_gradients, equation, shapes):
    check_gradients(
        lambda *ops: node("Einsum", list(ops), equation=equation) * 2,
        *(values(s, i) for i, s in enumerate(shapes)),
    )
