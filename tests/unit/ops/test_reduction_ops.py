"""Reductions, order statistics and products against NumPy (and SciPy's definition of the mode), on both engines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import ravop as R
from ravop.errors import ArgumentError, ShapeError

EXAMPLES = settings(max_examples=5, deadline=None)
NUMBERS = {
    "float32": st.floats(-10, 10, width=32),
    "int64": st.integers(-9, 9),
    "bool": st.booleans(),
    "uint8": st.integers(0, 9),
}
FLOATS = {"float32": st.floats(-10, 10, width=32), "int64": st.integers(-9, 9)}
SMALL = {"float32": st.floats(-2, 2, width=32), "int64": st.integers(-2, 2)}


def log_sum_exp(x, axis, keepdims):
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


REDUCTIONS = [
    (R.sum, np.sum, NUMBERS), (R.mean, np.mean, NUMBERS), (R.prod, np.prod, SMALL), (R.max, np.max, NUMBERS),
    (R.min, np.min, NUMBERS),
    (R.variance, np.var, FLOATS), (R.std, np.std, FLOATS), (R.median, np.median, FLOATS), (R.all, np.all, NUMBERS),
    (R.any, np.any, NUMBERS), (R.logsumexp, log_sum_exp, FLOATS),
]  # fmt: skip


def draw(data, dtypes, max_dims=3):
    dtype = data.draw(st.sampled_from(sorted(dtypes)))
    shape = data.draw(array_shapes(min_dims=0, max_dims=max_dims, min_side=1, max_side=4))
    return data.draw(arrays(dtype, shape, elements=dtypes[dtype]))


def draw_axis(data, ndim, several=True):
    one = st.integers(-ndim, ndim - 1) if ndim else st.none()
    many = (
        st.lists(st.integers(0, ndim - 1), min_size=1, max_size=ndim, unique=True).map(tuple)
        if ndim and several
        else st.none()
    )
    return data.draw(st.one_of(st.none(), one, many))


@pytest.mark.parametrize(
    ("ours", "numpys", "dtypes"), REDUCTIONS, ids=lambda case: getattr(case, "__name__", "")
)
@EXAMPLES
@given(data=st.data())
def test_reductions(evaluate, ours, numpys, dtypes, data):
    x = draw(data, dtypes)
    axis, keepdims = draw_axis(data, x.ndim), data.draw(st.booleans())
    R.Graph()
    (got,) = evaluate(ours(R.t(x, x.dtype), axis=axis, keepdims=keepdims))
    expected = np.asarray(
        numpys(x.astype(np.float64) if got.dtype.kind == "f" else x, axis=axis, keepdims=keepdims)
    )
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected.astype(got.dtype), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("ours", "numpys"), [(R.argmax, np.argmax), (R.argmin, np.argmin)])
@EXAMPLES
@given(data=st.data())
def test_positions_of_extremes(evaluate, ours, numpys, data):
    x = draw(data, NUMBERS)
    axis, keepdims = draw_axis(data, x.ndim, several=False), data.draw(st.booleans())
    R.Graph()
    (got,) = evaluate(ours(R.t(x, x.dtype), axis=axis, keepdims=keepdims))
    np.testing.assert_array_equal(got, numpys(x, axis=axis, keepdims=keepdims))


@EXAMPLES
@given(data=st.data(), q=st.one_of(st.floats(0, 100), st.lists(st.floats(0, 100), min_size=1, max_size=3)))
def test_percentile(evaluate, data, q):
    x = draw(data, FLOATS)
    axis, keepdims = draw_axis(data, x.ndim), data.draw(st.booleans())
    R.Graph()
    (got,) = evaluate(R.percentile(R.t(x, x.dtype), q, axis=axis, keepdims=keepdims))
    expected = np.percentile(x.astype(np.float64), q, axis=axis, keepdims=keepdims)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def numpy_mode(x):
    values, counts = np.unique(x, return_counts=True)
    return values[np.argmax(counts)]


@EXAMPLES
@given(data=st.data())
def test_mode(evaluate, data):
    x = draw(data, {"int64": st.integers(0, 3), "float32": st.sampled_from([0.5, 1.5, -2.0])})
    axis = draw_axis(data, x.ndim, several=False)
    R.Graph()
    (got,) = evaluate(R.mode(R.t(x, x.dtype), axis=axis))
    expected = numpy_mode(x) if axis is None else np.apply_along_axis(numpy_mode, axis, x)
    np.testing.assert_array_equal(got, expected)


@EXAMPLES
@given(data=st.data())
def test_cumsum(evaluate, data):
    x = draw(data, FLOATS)
    axis = draw_axis(data, x.ndim, several=False)
    R.Graph()
    (got,) = evaluate(R.cumsum(R.t(x, x.dtype), axis=axis))
    np.testing.assert_allclose(
        got, np.cumsum(x.astype(np.float64), axis=axis).astype(got.dtype), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("ddof", [0, 1])
def test_variance_with_ddof(evaluate, ddof):
    x = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    R.Graph()
    got = evaluate(R.variance(R.t(x), axis=1, ddof=ddof), R.std(R.t(x), ddof=ddof))
    np.testing.assert_allclose(got[0], x.var(axis=1, ddof=ddof), rtol=1e-5)
    np.testing.assert_allclose(got[1], x.std(ddof=ddof), rtol=1e-5)
    with pytest.raises(ArgumentError, match="too few"):
        R.variance([1.0], ddof=1)


@pytest.mark.parametrize(("axis", "weights"), [(None, None), (1, None), (1, np.array([1.0, 2, 3])), (0, np.array([1, 3])),
                                               (None, np.arange(6.0).reshape(2, 3)),
                                               (-1, np.arange(6.0).reshape(2, 3) + 1)])  # fmt: skip
def test_average(evaluate, axis, weights):
    x = np.arange(6, dtype=np.float32).reshape(2, 3) ** 2
    R.Graph()
    (got,) = evaluate(R.average(R.t(x), axis=axis, weights=weights))
    np.testing.assert_allclose(got, np.average(x, axis=axis, weights=weights), rtol=1e-5)


PRODUCT_SHAPES = [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)),
                  ((1, 2, 3), (5, 3, 4)), ((5, 2, 3), (3,))]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shapes", PRODUCT_SHAPES, ids=str)
def test_products(evaluate, shapes, dtype):
    rng = np.random.default_rng(2)
    a, b = (rng.integers(0, 4, shape).astype(dtype) for shape in shapes)
    R.Graph()
    x, y = R.t(a, dtype), R.t(b, dtype)
    matmul, dot, operator = evaluate(R.matmul(x, y), R.dot(x, y), x @ b)
    np.testing.assert_array_equal(matmul, a @ b)
    np.testing.assert_array_equal(operator, a @ b)
    np.testing.assert_array_equal(dot, np.dot(a, b))


def test_outer_and_einsum(evaluate):
    a, b = np.arange(3.0, dtype=np.float32), np.arange(4.0, dtype=np.float32)
    R.Graph()
    got = evaluate(
        R.outer(R.t(a), R.t(b)), R.einsum("i,ij->j", a, R.t(np.ones((3, 2)))), R.dot(R.t(3.0), R.t(b))
    )
    np.testing.assert_array_equal(got[0], np.outer(a, b))
    np.testing.assert_array_equal(got[1], [3, 3])
    np.testing.assert_array_equal(got[2], 3 * b)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (5, 5), (3, 2, 4, 4)], ids=str)
def test_inverse(evaluate, shape):
    a = np.random.default_rng(6).normal(size=shape).astype(np.float32)
    R.Graph()
    got, not_one = evaluate(~R.t(a), ~R.equal(R.t(a), a), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(got, np.linalg.inv(a), rtol=1e-3, atol=1e-3)
    assert not not_one.any()


def test_inverse_exchanges_rows_and_shows_singular_matrices(evaluate):
    rotated = np.array([[0, 2, 0], [0, 0, 4], [8, 0, 0]])
    R.Graph()
    (got,) = evaluate(R.inv(R.t(rotated)))
    np.testing.assert_array_equal(got, np.linalg.inv(rotated))
    R.Graph()
    with np.errstate(all="ignore"):
        (singular,) = evaluate(~R.t([[1.0, 2.0], [2.0, 4.0]]))
    assert not np.isfinite(singular).all()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda x: x.sum(axis=2), ArgumentError), (lambda x: x.sum(axis=(0, 0)), ArgumentError),
        (lambda x: x @ R.t(2.0), ShapeError), (lambda x: x @ x, ShapeError), (lambda x: x.max(axis=-3), ArgumentError),
        (lambda x: R.average(x, axis=0, weights=[1.0, 2, 3]), ShapeError), (lambda x: R.percentile(x, 101), ArgumentError),
        (lambda x: R.max(R.zeros((0, 3))), ShapeError),
        (lambda x: R.argmin(R.zeros((3, 0)), axis=1), ShapeError),
    ],
)  # fmt: skip
def test_wrong_use(wrong, error):
    R.Graph()
    with pytest.raises(error, match=r"test_reduction_ops\.py:"):
        wrong(R.t([[1.0, 2, 3], [4, 5, 6]]))
