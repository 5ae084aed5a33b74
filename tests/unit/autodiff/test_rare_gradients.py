"""Rules of operators that the language itself does not emit."""

import numpy as np
import pytest

import ravop as R
from ravop.graph import Graph
from ravop.ops.catalogue import node

X = np.array([[-2.0, -0.4, 0.3], [1.7, 0.2, -1.1]])


def clipped(low, high):
    return lambda x: node(
        "Clip",
        [x, *(None if bound is None else x.graph.tensor(bound, x.dtype) for bound in (low, high))],
    )


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (None, 0.25), (-0.5, None), (None, None)])
def test_clip(check_gradients, low, high):
    check_gradients(clipped(low, high), X)


def test_clip_passes_on_the_limits():
    graph = Graph()
    x = graph.variable(np.array([-1.0, 0.0, 1.0, 1.5], np.float32))
    R.grad(clipped(-1.0, 1.0)(x).sum(), x).persist_op("gradient")
    np.testing.assert_array_equal(R.run_local(graph)["gradient"], [1, 1, 1, 0])


def test_cast_like():
    def through_float32(x):
        narrow = node("CastLike", [x * x, x.graph.tensor(0.0, np.float32)])
        assert narrow.dtype == np.float32
        return node("CastLike", [narrow, x])

    graph = Graph()
    x = graph.variable(X, np.float64)
    gradient = R.grad(through_float32(x).sum(), x).persist_op("gradient")
    assert gradient.dtype == np.float64
    np.testing.assert_allclose(R.run_local(graph)["gradient"], 2 * X, rtol=1e-6)


def test_a_sum_over_a_selection():
    graph = Graph()
    x = graph.variable(np.array([[1.0, -2.0], [3.0, 4.0], [-5.0, 6.0]], np.float32))
    rows = graph.tensor(np.array([True, False, True]))
    R.grad((R.index(x, rows) ** 2).sum(), x).persist_op("rows")
    R.grad((x[x > 0] ** 2).sum(), x).persist_op("positive")
    found = R.run_local(graph)
    np.testing.assert_array_equal(found["rows"], [[2, -4], [0, 0], [-10, 12]])
    np.testing.assert_array_equal(found["positive"], [[2, 0], [6, 8], [0, 12]])
