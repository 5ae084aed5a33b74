"""Products and diagonals against NumPy, on both engines."""

import numpy as np
import pytest

import ravop as R
from ravop.errors import ArgumentError, ShapeError

RNG = np.random.default_rng(3)
A, B = RNG.normal(size=(2, 3, 4)).astype(np.float32), RNG.normal(size=(4, 3, 5)).astype(np.float32)
M, N = RNG.integers(-5, 5, (3, 4)), RNG.integers(-5, 5, (4, 2))
V, W = RNG.normal(size=(2, 5, 3)).astype(np.float32), RNG.normal(size=3).astype(np.float32)
CHAIN = [RNG.normal(size=size).astype(np.float32) for size in ((4, 9), (9, 2), (2, 7), (7, 3))]

CASES = [
    ("vdot", lambda m: m.vdot(A, A)), ("inner", lambda m: m.inner(A, A[0])), ("inner scalar", lambda m: m.inner(A, 2)),
    ("outer", lambda m: m.outer(M, W)), ("outer of integers", lambda m: m.outer(M, N)),
    ("tensordot", lambda m: m.tensordot(A, B, ([1, 2], [1, 0]))), ("tensordot 0", lambda m: m.tensordot(M, N, 0)),
    ("tensordot 1", lambda m: m.tensordot(A, B, 1)), ("tensordot 2", lambda m: m.tensordot(M, M, 2)),
    ("tensordot one axis", lambda m: m.tensordot(A, B, axes=(-1, 0))),
    ("kron", lambda m: m.kron(M, N)), ("kron of ranks", lambda m: m.kron(A, W)), ("kron scalar", lambda m: m.kron(M, 3)),
    ("cross", lambda m: m.cross(V, W)), ("cross along", lambda m: m.cross(V.swapaxes(1, 2), V.swapaxes(1, 2) + 1, axis=1)),
    ("multi_dot", lambda m: getattr(m, "linalg", m).multi_dot(CHAIN)),
    ("multi_dot of vectors", lambda m: getattr(m, "linalg", m).multi_dot([W, V[0].T.copy(), V[0], W])),
    ("diagonal", lambda m: m.diagonal(A, 1, -2, -1)), ("diagonal below", lambda m: m.diagonal(A, -1, 2, 0)),
    ("no diagonal", lambda m: m.diagonal(M, 9)), ("trace", lambda m: m.trace(A, 0, 1, 2)),
    ("trace of one", lambda m: m.trace(M, -1)),
    ("diag of a matrix", lambda m: m.diag(M, 2)), ("diag", lambda m: m.diag(W)), ("diag above", lambda m: m.diag(W, 2)),
    ("diag below", lambda m: m.diag(M[0], -1)), ("diag of booleans", lambda m: m.diag(M[0] > 0)),
    ("diagflat", lambda m: m.diagflat(N, 1)), ("diag of one", lambda m: m.diag(W[:1])),
    ("einsum", lambda m: m.einsum("bij,jkl->bil", A, B)),
    ("dot", lambda m: m.dot(A, A.swapaxes(1, 2))), ("dot of vectors", lambda m: m.dot(W, W)),
]  # fmt: skip


def test_products_and_diagonals_are_those_of_numpy(evaluate):
    R.Graph()
    for (name, made), got in zip(CASES, evaluate(*(made(R) for _, made in CASES)), strict=True):
        wanted = np.asarray(made(np))
        assert got.shape == wanted.shape, name
        assert (got.dtype.kind == "f") == (wanted.dtype.kind == "f"), name
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-5, err_msg=name)


def test_a_chain_is_multiplied_in_the_cheapest_order():
    graph = R.Graph()
    R.multi_dot(R.zeros((1000, 2)), R.zeros((2, 1000)), R.zeros((1000, 1)))
    sizes = [node.outputs[0].shape.numpy() for node in graph.main.ir if node.op_type == "MatMul"]
    assert sizes == [(2, 1), (1000, 1)]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda: R.tensordot(A, B, 3), ShapeError), (lambda: R.tensordot(A, B, 4), ArgumentError),
        (lambda: R.tensordot(A, B, ([0], [0, 1])), ArgumentError), (lambda: R.tensordot(A, B, ([0, 0], [0, 1])), ArgumentError),
        (lambda: R.tensordot(A, B, ([0],)), ArgumentError), (lambda: R.tensordot(A, B, ([7], [0])), ArgumentError),
        (lambda: R.cross([1, 2], [3, 4]), ShapeError), (lambda: R.cross(1, 2), ShapeError),
        (lambda: R.multi_dot(M), ArgumentError), (lambda: R.multi_dot(M, A, N), ShapeError),
        (lambda: R.multi_dot(M, M), ShapeError),
        (lambda: R.diagonal(W), ShapeError), (lambda: R.diagonal(A, 0, 1, 1), ArgumentError),
        (lambda: R.diagonal(A, 0, 0, 3), ArgumentError), (lambda: R.diag(A), ShapeError),
    ],
)  # fmt: skip
def test_wrong_use(wrong, error):
    R.Graph()
    with pytest.raises(error, match=r"test_linalg_products\.py:"):
        wrong()
