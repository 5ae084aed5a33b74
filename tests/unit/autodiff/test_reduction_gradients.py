"""Reductions, cumulative sums, softmax and top-k against finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, valid_tuple_axes

from ravop.ops.catalogue import integers, node

few = settings(max_examples=6, deadline=None)
REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
              "ReduceLogSum", "ReduceLogSumExp")  # fmt: skip


def values(shape, low=0.4, high=2.0):
    count = int(np.prod(shape))
    return np.random.default_rng(3).permutation(np.linspace(low, high, count)).reshape(shape)


@pytest.mark.parametrize("op_type", REDUCTIONS)
def test_reductions(check_gradients, op_type):
    @given(st.data())
    @few
    def check(data):
        shape = data.draw(array_shapes(max_dims=3, max_side=3))
        axes = data.draw(valid_tuple_axes(len(shape), min_size=1))
        keepdims = data.draw(st.integers(0, 1))
        check_gradients(
            lambda x: node(op_type, [x, integers(x, axes)], keepdims=keepdims) * 1.5, values(shape)
        )

    check()


@pytest.mark.parametrize(
    "op_type", ["ReduceSum", "ReduceMean", "ReduceProd", "ReduceSumSquare", "ReduceLogSumExp"]
)
def test_second_derivatives(check_gradients, op_type):
    check_gradients(lambda x: node(op_type, [x * x, integers(x, [1])], keepdims=0), values((2, 3)), times=2)


@pytest.mark.parametrize("zeros", [1, 2])
def test_products_with_zeros(check_gradients, zeros):
    x = values((2, 4))
    x[0, :zeros] = 0
    check_gradients(lambda x: x.prod(axis=1), x)


def test_the_norm_of_zeros_has_no_slope(check_torch):
    import torch

    check_torch(
        lambda x: node("ReduceL2", [x, integers(x, [1])], keepdims=0), lambda x: torch.linalg.vector_norm(x, dim=1),
        [[0.0, 0.0], [3.0, 4.0]],
    )  # fmt: skip


def test_statistics(check_gradients):
    x = values((3, 4))
    check_gradients(lambda x: x.std(axis=0) + x.variance(), x)
    check_gradients(lambda x: x.average(axis=1, weights=[1.0, 2.0, 3.0, 4.0]), x)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumulative_sums(check_gradients, exclusive, reverse):
    axis = np.array(1)
    check_gradients(
        lambda x: node("CumSum", [x, x.graph.constant(axis)], exclusive=exclusive, reverse=reverse) ** 2,
        values((2, 3)),
        times=2,
    )


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(check_gradients, op_type, axis):
    check_gradients(lambda x: node(op_type, [x], axis=axis), values((2, 3, 2), -2, 2))
    check_gradients(lambda x: node(op_type, [x], axis=axis), values((2, 2), -2, 2), times=2)


@pytest.mark.parametrize("largest", [0, 1])
def test_top_k(check_gradients, largest):
    def top(x):
        kept, _ = x.graph.apply("TopK", [x, integers(x, [2])], {"axis": 0, "largest": largest})
        return kept * kept

    check_gradients(top, values((4, 3)))
