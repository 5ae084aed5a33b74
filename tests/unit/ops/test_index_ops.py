"""Indexing and selection against NumPy, on both engines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, basic_indices, integer_array_indices

import ravop as R
from ravop.errors import ArgumentError, DTypeError, ShapeError

EXAMPLES = settings(max_examples=15, deadline=None)
A = np.arange(120, dtype=np.float32).reshape(4, 5, 6)
I, J = np.array([0, -2]), np.array([[1], [3]])  # noqa: E741
MASK = A[:, :, 0] > 50

KEYS = [
    np.s_[0], np.s_[-1], np.s_[1:3], np.s_[::-1], np.s_[::-2, 3:0:-1], np.s_[..., 0],
    np.s_[None, ..., None, 2], np.s_[()], np.s_[...],
    np.s_[1, 2, 3], np.s_[:, :0], np.s_[-3:-1, ..., -2:], np.s_[10:, 2:100], np.s_[:, ::3, None], np.s_[I],
    np.s_[:, I], np.s_[I, I],
    np.s_[:, I, I], np.s_[I, :, I], np.s_[0, :, I], np.s_[I, J], np.s_[:, [0, 1]], np.s_[None, I, None, J], np.s_[:, 0, I],
    np.s_[I, None, :, I], np.s_[MASK], np.s_[:, np.array([True, False, True, False, False])], np.s_[MASK, 0],
    np.s_[..., I], np.s_[J, ..., 1:3],
    np.s_[[]], np.s_[np.zeros((4, 5, 6), dtype=bool)], np.s_[np.int32(2)], np.s_[1:2, I, 1:5:2], np.s_[None, 1],
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_index_as_numpy(evaluate, key):
    R.Graph()
    op = R.t(A)[key]
    assert op.shape == A[key].shape
    if not A[key].size:  # engines may refuse outputs without elements
        return
    (got,) = evaluate(op)
    np.testing.assert_array_equal(got, A[key])


@EXAMPLES
@given(data=st.data(), shape=array_shapes(min_dims=1, max_dims=4, max_side=4))
def test_drawn_basic_indices(evaluate, data, shape):
    x = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    key = data.draw(basic_indices(shape, allow_newaxis=True, max_dims=6))
    R.Graph()
    op = R.t(x)[key]
    assert op.shape == np.shape(x[key])
    if x[key].size:
        (got,) = evaluate(op)
        np.testing.assert_array_equal(got, x[key])


@EXAMPLES
@given(data=st.data(), shape=array_shapes(min_dims=1, max_dims=3, max_side=4))
def test_drawn_array_indices(evaluate, data, shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    key = data.draw(integer_array_indices(shape))
    R.Graph()
    op = R.t(x)
    as_ops = tuple(R.t(k) for k in key)
    got = evaluate(op[key], op[as_ops])
    for value in got:
        np.testing.assert_array_equal(value, x[key])


def test_ops_as_indices(evaluate):
    R.Graph()
    x, i, mask = R.t(A), R.t(I), R.t(MASK)
    got = evaluate(x[i], x[:, i], x[i, :, 0], x[R.t(2)], x[mask], x[x > 100], x[mask, 1], x[i, R.t(J)])
    for value, expected in zip(
        got, [A[I], A[:, I], A[I, :, 0], A[2], A[MASK], A[A > 100], A[MASK, 1], A[I, J]], strict=True
    ):
        np.testing.assert_array_equal(value, expected)


def test_iterating_and_length(evaluate):
    R.Graph()
    rows = list(R.t(A))
    assert len(R.t(A)) == len(rows) == 4
    for value, expected in zip(evaluate(*rows), A, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_gather_slice_and_moving_window(evaluate):
    R.Graph()
    x, start = R.t(A), R.arange(3)[1] + 1
    moving = x.slice(R.stack(start - 1, start), (2, 1))
    got = evaluate(
        R.gather(x, [3, 0], axis=1), x.gather(J), R.slice(x, [1, 2], [2, 3]), x.slice(start, 2), moving
    )
    for value, expected in zip(
        got, [A.take([3, 0], 1), A.take(J, 0), A[1:3, 2:5], A[2:4], A[1:3, 2:3]], strict=True
    ):
        np.testing.assert_array_equal(value, expected)


SET_KEYS = [
    np.s_[0],
    np.s_[1:3],
    np.s_[::-1, 0],
    np.s_[..., -1],
    np.s_[I],
    np.s_[I, I],
    np.s_[MASK],
    np.s_[0, 0, 0],
    np.s_[:, :0],
]


@pytest.mark.parametrize("key", SET_KEYS, ids=range(len(SET_KEYS)))
@pytest.mark.parametrize("whole", [False, True])
def test_set_value(evaluate, key, whole):
    value = (
        np.float32(-1) if not whole else -np.arange(A[key].size, dtype=np.float32).reshape(A[key].shape) - 1
    )
    expected = A.copy()
    expected[key] = value
    R.Graph()
    (got,) = evaluate(R.set_value(R.t(A), key, value))
    np.testing.assert_array_equal(got, expected)


def test_set_value_with_ops(evaluate):
    R.Graph()
    x = R.t(A)
    rows, masked = A.copy(), A.copy()
    rows[[1, 3]] = 7
    masked[A > 50] = 0
    got = evaluate(x.set_value(R.t([1, 3]), 7), x.set_value(x > 50, 0))
    np.testing.assert_array_equal(got[0], rows)
    np.testing.assert_array_equal(got[1], masked)


MIXED = [np.s_[I, 1], np.s_[:, I], np.s_[I, :, J], np.s_[1:3, I], np.s_[MASK, 2], np.s_[..., I], np.s_[MASK]]


def test_set_value_with_ops_among_other_indices(evaluate):
    R.Graph()
    x, made, wanted = R.t(A), [], []
    for key in MIXED:
        ops = tuple(
            R.t(k) if isinstance(k, np.ndarray) else k for k in (key if isinstance(key, tuple) else (key,))
        )
        expected = A.copy()
        expected[key] = -1
        made.append(x.set_value(ops, -1))
        wanted.append(expected)
    for value, expected in zip(evaluate(*made), wanted, strict=True):
        np.testing.assert_array_equal(value, expected)


@EXAMPLES
@given(data=st.data(), shape=array_shapes(min_dims=1, max_dims=3, max_side=5))
def test_sorting(evaluate, data, shape):
    numbers = st.lists(st.integers(-3, 3), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    x = (
        np.array(data.draw(numbers))
        .reshape(shape)
        .astype(data.draw(st.sampled_from(["float32", "int64", "int8", "uint16"])))
    )
    axis = data.draw(st.one_of(st.none(), st.integers(-len(shape), len(shape) - 1)))
    R.Graph()
    op = R.t(x, x.dtype)
    got = evaluate(R.sort(op, axis), R.argsort(op, axis), R.sort(op, axis, descending=True))
    np.testing.assert_array_equal(got[0], np.sort(x, axis))
    np.testing.assert_array_equal(got[1], np.argsort(x, axis, kind="stable"))
    np.testing.assert_array_equal(got[2], np.flip(np.sort(x, axis), -1 if axis is None else axis))


def test_top_k(evaluate):
    x = np.array([[3, 1, 2], [5, 9, 5]], dtype=np.float32)
    R.Graph()
    got = evaluate(*R.top_k(R.t(x), 2), *R.top_k(R.t(x), 1, axis=0, largest=False))
    for value, expected in zip(
        got, [[[3, 2], [9, 5]], [[0, 2], [1, 0]], [[3, 1, 2]], [[0, 0, 0]]], strict=True
    ):
        np.testing.assert_array_equal(value, expected)


def test_unique_and_find_indices(evaluate):
    x = np.array([[3, 1, 3], [0, 1, 3]])
    R.Graph()
    got = evaluate(R.unique(R.t(x)), R.unique(R.t([2.5, 1.5, 2.5])), R.find_indices(R.t(x[0]), 3), R.find_indices(R.t(x), 3),
                   R.unique(R.t(x > 2)))  # fmt: skip
    for value, expected in zip(
        got, [[0, 1, 3], [1.5, 2.5], [0, 2], np.argwhere(x == 3), [False, True]], strict=True
    ):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("options", [{}, {"minlength": 8}, {"weights": np.array([0.5, 1, 2, 4, 8])}], ids=str)
def test_bincount(evaluate, options):
    x = np.array([1, 3, 1, 0, 3])
    R.Graph()
    got = evaluate(R.bincount(R.t(x), **options), R.bincount(R.t(x, "int32"), length=6))
    np.testing.assert_allclose(got[0], np.bincount(x, **options))
    np.testing.assert_array_equal(got[1], [1, 2, 0, 2, 0, 0])


def test_one_hot(evaluate):
    x = np.array([[0, 2], [1, 5]])
    R.Graph()
    got = evaluate(R.one_hot_encoding(R.t(x), depth=3), R.one_hot(R.t([1, 0], "uint8"), 2, dtype="int64"))
    np.testing.assert_array_equal(got[0], [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 0]]])
    np.testing.assert_array_equal(got[1], [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda x: x[4], ArgumentError), (lambda x: x[-5], ArgumentError), (lambda x: x[0, 0, 0, 0], ArgumentError),
        (lambda x: x[..., ...], ArgumentError), (lambda x: x[1.5], DTypeError),
        (lambda x: x["a"], DTypeError), (lambda x: x[True], DTypeError),
        (lambda x: x[[0, 9]], ArgumentError), (lambda x: x[np.array([0.5])], DTypeError), (lambda x: x[R.t(0.5)], DTypeError),
        (lambda x: x[::0], ArgumentError), (lambda x: x["a":], DTypeError), (lambda x: x[[0, 1], [0, 1, 2]], ArgumentError),
        (lambda x: R.gather(x, [0.5]), DTypeError), (lambda x: R.gather(x, [0], axis=3), ArgumentError),
        (lambda x: R.slice(x, [0, 0], [1]), ArgumentError),
        (lambda x: R.set_value(x, 9, 0), ArgumentError), (lambda x: R.set_value(x, 0, np.ones(5)),
            ShapeError), (lambda x: R.top_k(x, 7), ArgumentError),
        (lambda x: R.one_hot(x, 3), DTypeError), (lambda x: R.one_hot(R.t([1]), 0), ArgumentError),
        (lambda x: R.bincount(x), ShapeError),
        (lambda x: R.set_value(x, R.t([0.5]), 0), DTypeError),
    ],
)  # fmt: skip
def test_wrong_indices(wrong, error):
    R.Graph()
    with pytest.raises(error, match=r"test_index_ops\.py:"):
        wrong(R.t(A))
