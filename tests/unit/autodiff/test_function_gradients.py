"""Gradients of calls of functions: operands used twice, constants inside, gradients taken inside."""

import numpy as np

import ravop as R
from ravop.graph import Graph

VALUES = np.array([1.0, 2.0, 3.0], np.float32)


def gradient_of(function):
    graph = Graph()
    x = graph.variable(VALUES)
    R.grad(function(x).sum(), x).persist_op("gradient")
    return R.run_local(graph)["gradient"]


def test_an_operand_that_is_given_twice():
    @R.function
    def neighbours(a, b):
        return a[1:] * b[:-1]  # slices read constants that are nodes inside a function

    np.testing.assert_allclose(gradient_of(lambda x: neighbours(x, x)), [2, 4, 2])


def test_one_op_as_two_results():
    @R.function
    def twice(a):
        b = a * a
        return b, b

    np.testing.assert_allclose(gradient_of(lambda x: sum(twice(x))), 4 * VALUES)


def test_a_gradient_inside_a_function():
    @R.function
    def slope(a):
        return R.grad((a[1:] ** 3).sum(), a)

    np.testing.assert_allclose(gradient_of(slope), [0, 12, 18])
