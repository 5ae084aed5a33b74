"""Element-wise rules against finite differences; hypothesis draws shapes that broadcast."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from ravop.ops.catalogue import node

few = settings(max_examples=8, deadline=None)


def spread(shape, low=0.3, high=1.8, seed=0):
    """Values in no order, apart from each other and from the kinks of the operators."""
    count = int(np.prod(shape))
    values = np.linspace(low, high, count) if count > 1 else np.array([(low + high) / 2])
    return np.random.default_rng(seed).permutation(values).reshape(shape)


ANYWHERE = (
    "Abs", "Asinh", "Atan", "Cos", "Cosh", "Exp", "Identity", "Mish", "Neg", "Relu", "Sigmoid", "Sin", "Sinh", "Softplus",
    "Softsign", "Tan", "Tanh", "LeakyRelu", "Elu", "Selu", "HardSwish", "HardSigmoid", "ThresholdedRelu",
)  # fmt: skip
POSITIVE = ("Log", "Reciprocal", "Sqrt")
INSIDE = ("Acos", "Asin", "Atanh")


@pytest.mark.parametrize("op_type", ANYWHERE)
def test_of_one_operand(check_gradients, op_type):
    check_gradients(lambda x: node(op_type, [x]), spread((3, 4), -1.45, 1.4))


@pytest.mark.parametrize("op_type", POSITIVE)
def test_of_a_positive_operand(check_gradients, op_type):
    check_gradients(lambda x: node(op_type, [x]), spread((5,)), times=2)


@pytest.mark.parametrize("op_type", INSIDE)
def test_of_an_operand_below_one(check_gradients, op_type):
    check_gradients(lambda x: node(op_type, [x]), spread((5,), -0.8, 0.8))


def test_of_acosh(check_gradients):
    check_gradients(lambda x: node("Acosh", [x]), spread((5,), 1.2, 3))


def test_attributes_are_respected(check_gradients):
    x = spread((6,), -3.05, 3.1)
    check_gradients(lambda x: node("LeakyRelu", [x], alpha=0.3), x)
    check_gradients(lambda x: node("Elu", [x], alpha=0.7), x)
    check_gradients(lambda x: node("HardSigmoid", [x], alpha=0.3), x)


BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "mod": lambda a, b: node("Mod", [a, b], fmod=1),
    "max": lambda a, b: node("Max", [a, b]),
    "min": lambda a, b: node("Min", [a, b, b * 0.9]),
    "sum": lambda a, b: node("Sum", [a, b, a]),
    "where": lambda a, b: node("Where", [a > 1, a, b]),
    "prelu": lambda a, b: node("PRelu", [a - 1, b]),
}


@pytest.mark.parametrize("name", sorted(set(BINARY) - {"prelu"}))
def test_of_operands_that_broadcast(check_gradients, name):
    @given(mutually_broadcastable_shapes(num_shapes=2, min_dims=1, max_dims=3, max_side=3))
    @few
    def check(shapes):
        a, b = shapes.input_shapes
        check_gradients(BINARY[name], spread(a, seed=1), spread(b, 0.47, 1.66, seed=2))

    check()


def test_of_a_mean(check_gradients):
    check_gradients(lambda a, b: node("Mean", [a, b, a]), spread((2, 3)), spread((1, 3)))


def test_of_prelu(check_gradients):
    check_gradients(BINARY["prelu"], spread((2, 3, 2), 0.2, 1.9), spread((3, 1), 0.2, 0.6))


@pytest.mark.parametrize("name", ["mul", "div", "pow"])
def test_second_derivatives(check_gradients, name):
    check_gradients(BINARY[name], spread((2, 3)), spread((3,), 0.5, 1.5), times=2)


@given(st.lists(st.integers(1, 3), max_size=3))
@few
def test_constant_powers(check_gradients, shape):
    check_gradients(lambda x: x**2 + x**3 + x**-1.5, spread(tuple(shape)))


def test_a_power_of_zero_is_finite(check_gradients):
    check_gradients(lambda x: x**2, [0.0, 1.0, -2.0])


def test_clip_passes_inside_only(check_gradients):
    check_gradients(lambda x: x.clip(-0.5, 0.7), spread((7,), -1.5, 1.5))


def test_casts_keep_the_gradients_dtype(check_gradients):
    check_gradients(lambda x: x.astype("float32").astype("float64") * x, [1.0, 2.0], rtol=1e-2, atol=0.5)
