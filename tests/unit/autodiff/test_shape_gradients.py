"""Rules of operators that move, pick and place elements, against finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, basic_indices, mutually_broadcastable_shapes

from ravop.ops.catalogue import integers, node

few = settings(max_examples=15, deadline=None)


def values(shape):
    return np.random.default_rng(5).normal(size=shape)


@given(array_shapes(max_dims=4, max_side=3), st.randoms(use_true_random=False))
@few
def test_reshape_and_transpose(check_gradients, shape, random):
    order = list(range(len(shape)))
    random.shuffle(order)
    check_gradients(lambda x: (x.transpose(order) ** 2).reshape((-1,)) ** 2, values(shape))


@given(mutually_broadcastable_shapes(num_shapes=1, base_shape=(2, 3, 2)))
@few
def test_expand(check_gradients, shapes):
    check_gradients(lambda x: node("Expand", [x, integers(x, (2, 3, 2))]), values(shapes.input_shapes[0]))


def test_squeeze_and_unsqueeze(check_gradients):
    check_gradients(lambda x: x.squeeze().expand_dims(0) ** 2, values((1, 3, 1)))
    check_gradients(lambda x: node("Flatten", [x], axis=2) ** 2, values((2, 1, 3)))


@given(array_shapes(max_dims=3, max_side=3), st.data())
@few
def test_tile(check_gradients, shape, data):
    repeats = data.draw(st.tuples(*(st.integers(1, 3) for _ in shape)))
    check_gradients(lambda x: x.tile(repeats), values(shape))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat_and_split(check_gradients, axis):
    def halves(x, y):
        both = node("Concat", [x, y * y], axis=axis)
        first, second = x.graph.apply("Split", [both], {"axis": axis, "num_outputs": 2})
        return first * (second if axis else second * 2)

    check_gradients(halves, values((2, 2)), values((2, 2)), times=2)
    check_gradients(lambda x: node("Concat", [x, x[:1]], axis=0) ** 2, values((3, 2)))


def test_a_part_of_a_split_that_nobody_uses(check_gradients):
    check_gradients(
        lambda x: x.graph.apply("Split", [x, integers(x, [1, 3])], {"axis": 0})[1] ** 2, values((4, 2))
    )


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_slices(check_gradients, data):
    shape = data.draw(array_shapes(max_dims=3, max_side=5))
    index = data.draw(
        basic_indices(shape, allow_ellipsis=True, allow_newaxis=True).filter(lambda i: values(shape)[i].size)
    )
    check_gradients(lambda x: x[index] * 2, values(shape))


@pytest.mark.parametrize("step", [2, 3, -1, -2])
def test_steps(check_gradients, step):
    check_gradients(lambda x: x[::step] ** 2, values((7, 2)), times=2)


@pytest.mark.parametrize("pads", [[1, 0, 0, 2], [0, 1, 1, 0], [-1, 0, 2, -1]])
def test_padding(check_gradients, pads):
    check_gradients(lambda x, v: node("Pad", [x, integers(x, pads), v]) ** 2, values((3, 3)), np.array(0.7))


@pytest.mark.parametrize(("axis", "indices"), [(0, [1, 0, 1, -1]), (1, [[0, 2], [2, 2]]), (2, 1), (1, [-1])])
def test_gather(check_gradients, axis, indices):
    check_gradients(
        lambda x: node("Gather", [x, x.graph.constant(np.array(indices))], axis=axis) ** 2, values((3, 4, 2))
    )


def test_gather_elements(check_gradients):
    indices = np.array([[0, 1, 0], [2, 2, 0]])
    check_gradients(
        lambda x: node("GatherElements", [x, x.graph.constant(indices)], axis=0) ** 2, values((3, 3)), times=2
    )


def test_gather_nd(check_gradients):
    indices = np.array([[0, 1], [2, 2], [0, 1]])
    check_gradients(
        lambda x: node("GatherND", [x, x.graph.constant(indices)]) ** 2, values((3, 3, 2)), times=2
    )


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_scatter(check_gradients, reduction):
    rows, places = np.array([[2, 0, 1]]), np.array([[1], [2]])

    def elements(x, u):
        return node("ScatterElements", [x, x.graph.constant(rows), u], axis=0, reduction=reduction) ** 2

    def nd(x, u):
        return node("ScatterND", [x, x.graph.constant(places), u], reduction=reduction) ** 2

    check_gradients(elements, values((3, 3)), values((1, 3)))
    check_gradients(nd, values((3, 4)), values((2, 4)))


def test_triangles_and_blocks(check_gradients):
    check_gradients(lambda x: node("Trilu", [x], upper=0) ** 2, values((3, 3)))
    check_gradients(lambda x: node("DepthToSpace", [x], blocksize=2) ** 2, values((1, 4, 1, 2)))
    check_gradients(lambda x: node("SpaceToDepth", [x], blocksize=2) ** 2, values((1, 1, 2, 4)))


def test_repeat_and_stack(check_gradients):
    check_gradients(lambda x: x.repeat(2, axis=1) ** 2, values((2, 3)))
