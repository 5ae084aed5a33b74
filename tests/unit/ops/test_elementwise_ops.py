"""Every element-wise operator against NumPy, on both engines, with shapes drawn by hypothesis."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, mutually_broadcastable_shapes

import ravop as R

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # divisions by zero, as the engines do them

EXAMPLES = settings(max_examples=5, deadline=None)

PLAIN = {"float32": st.floats(-100, 100, width=32), "int64": st.integers(-50, 50), "bool": st.booleans(),
         "int32": st.integers(-50, 50), "uint8": st.integers(0, 12), "float64": st.floats(-100, 100)}  # fmt: skip
POSITIVE = {
    "float32": st.floats(0.015625, 100, width=32),
    "int64": st.integers(1, 50),
    "int32": st.integers(1, 50),
}
SMALL = {"float32": st.floats(-4, 4, width=32), "int64": st.integers(-4, 4)}
UNIT = {"float32": st.floats(-1, 1, width=32)}
BASE = {"float32": st.floats(0.015625, 4, width=32), "int64": st.integers(0, 4), "int32": st.integers(0, 4)}

BINARY = [
    (R.add, np.add, PLAIN, PLAIN), (R.sub, np.subtract, PLAIN, PLAIN), (R.mul, np.multiply, PLAIN, PLAIN),
    (R.div, np.true_divide, PLAIN, POSITIVE), (R.floor_div, np.floor_divide, PLAIN, POSITIVE), (R.mod, np.mod, PLAIN, POSITIVE),
    (R.pow, np.power, BASE, BASE), (R.maximum, np.maximum, PLAIN, PLAIN), (R.minimum, np.minimum, PLAIN, PLAIN),
    (R.greater, np.greater, PLAIN, PLAIN), (R.greater_equal, np.greater_equal, PLAIN, PLAIN), (R.less, np.less, PLAIN, PLAIN),
    (R.less_equal, np.less_equal, PLAIN, PLAIN), (R.equal, np.equal, SMALL, SMALL), (R.not_equal, np.not_equal, SMALL, SMALL),
    (R.logical_and, np.logical_and, PLAIN, PLAIN), (R.logical_or, np.logical_or, PLAIN, PLAIN),
    (R.logical_xor, np.logical_xor, PLAIN, PLAIN),
]  # fmt: skip


def _erf(x):
    return np.vectorize(math.erf, otypes=[float])(x)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


UNARY = [
    (R.neg, np.negative, {k: v for k, v in PLAIN.items() if k != "bool"}), (R.pos, np.asarray, PLAIN), (R.abs, np.abs, PLAIN),
    (R.sign, lambda x: np.sign(x + 0), PLAIN), (R.square, lambda x: x * x, SMALL), (R.cube, lambda x: x * x * x, SMALL),
    (R.square_root, np.sqrt, POSITIVE), (R.cube_root, np.cbrt, PLAIN), (R.reciprocal, lambda x: 1 / x, POSITIVE),
    (R.exp, np.exp, SMALL), (R.expm1, np.expm1, SMALL), (R.natlog, np.log, POSITIVE), (R.log2, np.log2, POSITIVE),
    (R.log10, np.log10, POSITIVE), (R.log1p, np.log1p, POSITIVE), (R.sin, np.sin, SMALL), (R.cos, np.cos, SMALL),
    (R.tan, np.tan, UNIT), (R.arcsin, np.arcsin, UNIT), (R.arccos, np.arccos, UNIT), (R.arctan, np.arctan, SMALL),
    (R.sinh, np.sinh, SMALL), (R.cosh, np.cosh, SMALL), (R.erf, _erf, SMALL), (R.floor, np.floor, PLAIN),
    (R.ceil, np.ceil, PLAIN),
    (R.round, np.round, PLAIN), (R.logical_not, np.logical_not, PLAIN), (R.isnan, np.isnan, PLAIN), (R.isinf, np.isinf, PLAIN),
    (R.isfinite, np.isfinite, PLAIN), (R.relu, lambda x: np.maximum(x, 0), PLAIN), (R.sigmoid, _sigmoid, SMALL),
    (R.tanh, np.tanh, SMALL), (R.softplus, lambda x: np.log1p(np.exp(x)), SMALL),
    (R.softsign, lambda x: x / (1 + np.abs(x)), SMALL),
    (R.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x), SMALL), (R.elu, lambda x: np.where(x > 0, x, np.expm1(x)), SMALL),
    (R.selu, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)), SMALL),
    (R.gelu, lambda x: x / 2 * (1 + _erf(x / np.sqrt(2))), SMALL), (R.silu, lambda x: x * _sigmoid(x), SMALL),
    (R.hard_sigmoid, lambda x: np.clip(x / 6 + 0.5, 0, 1), SMALL),
]  # fmt: skip


def draw(data, dtypes, shape):
    dtype = data.draw(st.sampled_from(sorted(dtypes)))
    return data.draw(arrays(dtype, shape, elements=dtypes[dtype]))


def name(case):
    return case.__name__ if callable(case) else ""


@pytest.mark.parametrize(("ours", "numpys", "left", "right"), BINARY, ids=name)
@EXAMPLES
@given(data=st.data())
def test_binary(evaluate, ours, numpys, left, right, data):
    shapes = data.draw(
        mutually_broadcastable_shapes(num_shapes=2, min_dims=0, max_dims=3, max_side=4)
    ).input_shapes
    a, b = (draw(data, dtypes, shape) for dtypes, shape in zip((left, right), shapes, strict=True))
    if ours is R.sub and a.dtype == b.dtype == bool:
        a = a.astype(np.int64)  # NumPy refuses to subtract booleans
    if {a.dtype.name, b.dtype.name} == {"float32", "float64"}:
        b = b.astype(a.dtype)
    R.Graph()
    (got,) = evaluate(ours(R.t(a, a.dtype), R.t(b, b.dtype)))
    exact = [x if x.dtype.kind == "f" else x.astype(np.int64) if x.dtype == bool else x for x in (a, b)]
    wide = [x.astype(np.float64) if got.dtype.kind == "f" else x for x in exact]
    if ours in (R.floor_div, R.mod) and got.dtype == np.float32:
        wide = [x.astype(np.float32) for x in exact]
    expected = numpys(*((a, b) if got.dtype == a.dtype == bool else wide))
    assert (got.dtype.kind == "b") == (expected.dtype.kind == "b") or a.dtype == b.dtype == bool
    np.testing.assert_allclose(got, expected.astype(got.dtype), rtol=3e-5, atol=1e-4)


@pytest.mark.parametrize(("ours", "numpys", "dtypes"), UNARY, ids=name)
@EXAMPLES
@given(data=st.data())
def test_unary(evaluate, ours, numpys, dtypes, data):
    if ours in (R.erf, R.gelu, R.arcsin, R.arccos, R.arctan):
        dtypes = {k: v for k, v in dtypes.items() if k != "float64"}
    x = draw(data, dtypes, data.draw(array_shapes(min_dims=0, max_dims=3, max_side=4)))
    R.Graph()
    (got,) = evaluate(ours(R.t(x, x.dtype)))
    exact = x.astype(np.int64) if x.dtype == bool else x
    expected = numpys(exact.astype(np.float64) if got.dtype.kind == "f" else exact)
    np.testing.assert_allclose(got, np.asarray(expected).astype(got.dtype), rtol=3e-5, atol=2e-5)


OPERATORS = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b, lambda a, b: a // b, lambda a, b: a % b,
    lambda a, b: a**b, lambda a, b: a < b, lambda a, b: a <= b, lambda a, b: a > b, lambda a, b: a >= b,
    lambda a, b: a == b, lambda a, b: a != b,
]  # fmt: skip
OPERANDS = [
    3,
    2.5,
    True,
    [1, 2],
    np.array([1.5, 2.5]),
    np.float64(1.5),
    np.int32(2),
    np.array([2, 1], dtype=np.int32),
]


@pytest.mark.parametrize("dtype", ["float32", "int64", "float64", "int32"])
@pytest.mark.parametrize("other", OPERANDS, ids=str)
def test_python_operators_from_both_sides(evaluate, dtype, other):
    x = np.array([[1, 2], [3, 4]], dtype=dtype)
    R.Graph()
    op = R.t(x, dtype)
    pairs = [(f(op, other), f(x, other)) for f in OPERATORS] + [
        (f(other, op), f(other, x)) for f in OPERATORS
    ]
    for got, (_, expected) in zip(evaluate(*(ours for ours, _ in pairs)), pairs, strict=True):
        np.testing.assert_allclose(got, expected.astype(got.dtype), rtol=1e-5)


@pytest.mark.parametrize(
    ("made", "dtype"),
    [
        (lambda x: x["f4"] + 1, "float32"), (lambda x: x["f4"] + 1.5, "float32"), (lambda x: x["f8"] + 1.5, "float64"),
        (lambda x: x["i8"] + 1, "int64"), (lambda x: x["i4"] + 1, "int32"), (lambda x: x["i4"] + 1.5, "float32"),
        (lambda x: x["i8"] + x["f4"], "float32"), (lambda x: x["f4"] + x["f8"], "float64"),
        (lambda x: x["i4"] + x["i8"], "int64"),
        (lambda x: x["b"] + x["b"], "bool"), (lambda x: x["b"] // x["b"], "int8"),
        (lambda x: x["b"] + 1, "int64"), (lambda x: x["b"] + x["f4"], "float32"),
        (lambda x: x["i8"] / x["i8"], "float32"), (lambda x: x["f2"] * 2, "float16"), (lambda x: x["f2"] + x["f4"], "float32"),
        (lambda x: x["u1"] + x["i4"], "int32"), (lambda x: x["f4"] + np.ones(1, dtype=np.float64), "float32"),
        (lambda x: x["f8"] + np.ones(1), "float64"), (lambda x: R.mean(x["i8"]), "float32"),
        (lambda x: R.mean(x["f8"]), "float64"),
        (lambda x: R.exp(x["b"]), "float32"), (lambda x: R.sum(x["i4"]), "int64"), (lambda x: R.sum(x["b"]), "int64"),
        (lambda x: R.where(x["b"], 1, 2.5), "float32"), (lambda x: R.t(np.float64(3)), "float32"), (lambda x: R.t(3), "int64"),
        (lambda x: R.t([1, 2.5]), "float32"), (lambda x: R.t("[1, 2]"), "int64"), (lambda x: x["f4"] > 1, "bool"),
    ],
)  # fmt: skip
def test_dtypes(made, dtype):
    R.Graph()
    names = {
        "f2": "float16",
        "f4": "float32",
        "f8": "float64",
        "i4": "int32",
        "i8": "int64",
        "u1": "uint8",
        "b": "bool",
    }
    assert made({key: R.t([1], dtype=value) for key, value in names.items()}).get_dtype() == dtype


def test_precision_of_float64_is_kept(evaluate):
    R.Graph()
    (got,) = evaluate(R.t([0.0], "float64") + np.array([0.1]))
    assert got[0] == 0.1


def test_python_remainders_have_the_sign_of_the_divisor(evaluate):
    R.Graph()
    a = np.array([7, -7, 7, -7, 0, 5], dtype=np.float32)
    b = np.array([3, 3, -3, -3, 3, 0.5], dtype=np.float32)
    ints = a.astype(np.int64), np.array([3, 3, -3, -3, 3, 2])
    x, y, i, j = R.t(a), R.t(b), R.t(ints[0]), R.t(ints[1])
    got = evaluate(x % y, x // y, i % j, i // j, R.t(1.0) // 0.1, R.t(5.0) // 0)
    for value, expected in zip(got, (a % b, a // b, ints[0] % ints[1], ints[0] // ints[1],
        np.float32(1.0) // np.float32(0.1), np.inf),
                               strict=True):  # fmt: skip
        np.testing.assert_array_equal(value, expected)


def test_nan_and_infinity_pass(evaluate):
    R.Graph()
    x = np.array([np.nan, np.inf, -np.inf, 0, -1], dtype=np.float32)
    op = R.t(x)
    got = evaluate(
        R.isnan(op),
        R.isinf(op),
        R.isfinite(op),
        R.maximum(op, 0.0),
        op + 1,
        R.square_root(op),
        R.natlog(op),
        op == op,
    )
    expected = [
        np.isnan(x),
        np.isinf(x),
        np.isfinite(x),
        np.maximum(x, 0),
        x + 1,
        np.sqrt(x),
        np.log(x),
        x == x,
    ]
    for value, wanted in zip(got, expected, strict=True):
        np.testing.assert_array_equal(value, wanted)


def test_functions_exact_near_zero(evaluate):
    x = np.array([1e-7, -1e-7, 1e-4, 0.0, 3.0], dtype=np.float32)
    R.Graph()
    got = evaluate(R.log1p(R.t(x)), R.expm1(R.t(x)))
    np.testing.assert_allclose(got[0], np.log1p(x.astype(np.float64)), rtol=1e-6)
    np.testing.assert_allclose(got[1], np.expm1(x.astype(np.float64)), rtol=2e-6)


@pytest.mark.parametrize("limits", [(-1, 1), (None, 1), (-1, None), (np.array([-2, 0, 1]), 2.0)])
def test_clip(evaluate, limits):
    x = np.linspace(-3, 3, 12, dtype=np.float32).reshape(4, 3)
    R.Graph()
    (got,) = evaluate(R.clip(R.t(x), lower_limit=limits[0], upper_limit=limits[1]))
    np.testing.assert_array_equal(got, np.clip(x, *limits))


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "bool", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float16"]
)
def test_choosing_works_for_every_dtype(evaluate, dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype)
    y = x[::-1].copy()
    test = np.array([True, False, True])
    R.Graph()
    a, b = R.t(x, dtype), R.t(y, dtype)
    got = evaluate(
        R.where(test, a, b),
        R.maximum(a, b),
        R.minimum(a, b),
        a.max(axis=0),
        a.min(),
        a.pad(1),
        R.sort(a, axis=0),
    )
    wanted = [
        np.where(test, x, y),
        np.maximum(x, y),
        np.minimum(x, y),
        x.max(axis=0),
        x.min(),
        np.pad(x, 1),
        np.sort(x, axis=0),
    ]
    for value, expected in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(evaluate, axis):
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32) * 30
    shifted = x - x.max(axis, keepdims=True)
    expected = np.exp(shifted) / np.exp(shifted).sum(axis, keepdims=True)
    R.Graph()
    got = evaluate(R.softmax(R.t(x), axis), R.log_softmax(R.t(x), axis), R.softplus(R.t([1000.0, -1000.0])))
    np.testing.assert_allclose(got[0], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(got[1], shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)), rtol=1e-5)
    np.testing.assert_array_equal(got[2], [1000, 0])


@pytest.mark.parametrize("decimals", [0, 1, 2])
def test_round_to_decimals(evaluate, decimals):
    x = np.array([0.5, 1.5, 2.5, -0.126, 3.14159], dtype=np.float32)
    R.Graph()
    (got,) = evaluate(R.round(R.t(x), decimals))
    np.testing.assert_allclose(got, np.round(x, decimals), rtol=1e-6)
