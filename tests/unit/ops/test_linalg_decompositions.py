"""Solvers and decompositions against numpy.linalg and SciPy, well and badly conditioned, in float32 and float64.

Tolerances are in units of the dtype's epsilon, times the condition number where the problem itself has it.
"""

import numpy as np
import pytest
import scipy.linalg

import ravop as R
from ravop.errors import ArgumentError, DTypeError, ShapeError
from ravop.graph.graph import current_graph

DTYPES = ["float32", "float64"]


def hilbert(n, dtype):
    """Badly conditioned: 5e5 for n = 5, 2e13 for n = 10."""
    return (1 / (np.arange(n)[:, None] + np.arange(n) + 1)).astype(dtype)


def given(array):
    """An input, so that engines cannot compute with it beforehand."""
    return current_graph().input(array)


def matrices(dtype):
    rng = np.random.default_rng(8)
    low = rng.normal(size=(6, 2)) @ rng.normal(size=(2, 4))
    made = {
        "batch": rng.normal(size=(2, 3, 4, 4)), "one": np.array([[2.5]]), "odd": rng.normal(size=(7, 7)),
        "large": rng.normal(size=(16, 16)), "tall": rng.normal(size=(2, 9, 4)), "wide": rng.normal(size=(3, 8)),
        "low rank": low, "zeros": np.zeros((3, 3)), "graded": rng.normal(size=(6, 6)) * 10.0 ** -np.arange(6),
        "column": rng.normal(size=(5, 1)), "row": rng.normal(size=(1, 5)), "equal values": np.eye(4)[[2, 0, 3, 1]] * 3,
        "hilbert": hilbert(5 if dtype == "float32" else 10, dtype),
    }  # fmt: skip
    return {name: a.astype(dtype) for name, a in made.items()}


def square(dtype):
    regular = ("batch", "one", "odd", "large", "graded", "equal values", "hilbert")
    return {name: a for name, a in matrices(dtype).items() if name in regular}


def compute(ops):
    for name, op in ops.items():
        op.persist_op(name)
    results = R.run_local()
    return {name: results[name] for name in ops}


def close(got, wanted, units, name):
    """Within `units` epsilons of the largest element of each matrix."""
    assert got.shape == wanted.shape, name
    assert got.dtype == wanted.dtype, name
    size = max(1e-30, float(np.abs(wanted).max()))
    assert np.abs(got - wanted).max() <= units * np.finfo(got.dtype).eps * size, name


@pytest.mark.parametrize("dtype", DTYPES)
def test_solvers(dtype):
    R.Graph()
    rng = np.random.default_rng(2)
    ops, wanted, units = {}, {}, {}

    def add(name, op, value, unit):
        ops[name], wanted[name], units[name] = op, np.asarray(value, dtype=dtype), unit

    for name, a in square(dtype).items():
        x, n = given(a), a.shape[-1]
        b = rng.normal(size=(n, 2)).astype(dtype)
        right = given(b)
        condition = float(np.linalg.cond(a.astype(np.float64)).max())
        add(f"{name}: inv", R.inv(x), np.linalg.inv(a.astype(np.float64)), 20 * condition)
        add(f"{name}: solve", R.solve(x, right), np.linalg.solve(a.astype(np.float64), b), 20 * condition)
        add(f"{name}: det", R.det(x), np.linalg.det(a.astype(np.float64)), 20 * condition)
        sign, logarithm = np.linalg.slogdet(a.astype(np.float64))
        add(f"{name}: sign", R.slogdet(x)[0], sign, 0)
        add(f"{name}: log", R.slogdet(x).logabsdet, logarithm, 20 * condition)
        positive = a @ a.swapaxes(-1, -2) + np.eye(n, dtype=dtype)
        add(
            f"{name}: cholesky",
            R.cholesky(given(np.tril(positive))),
            np.linalg.cholesky(positive),
            40 * n,
        )
        upper = np.triu(a) + 3 * np.eye(n, dtype=dtype)
        spread = float(np.linalg.cond(upper).max())
        add(
            f"{name}: upper",
            R.solve_triangular(x + 3 * R.eye(n, dtype=dtype), right),
            np.linalg.solve(upper, b),
            20 * spread,
        )
    a = matrices(dtype)["odd"]
    x, v = given(a), rng.normal(size=7).astype(dtype)
    vector, columns = given(v), R.ones((2, 7, 1), dtype=dtype)
    lower = scipy.linalg.solve_triangular(a, v, lower=True, unit_diagonal=True)
    add("lower", R.solve_triangular(x, vector, lower=True, unit_diagonal=True), lower, 1e4)
    add("vector", R.solve(x, vector), np.linalg.solve(a, v), 1e4)
    add("broadcast", R.solve(x, columns), np.linalg.solve(a, np.ones((2, 7, 1), dtype)), 1e4)
    for power in (-2, 0, 1, 5):
        add(f"power {power}", R.matrix_power(x, power), np.linalg.matrix_power(a, power), 1e4)
    for name, value in compute(ops).items():
        close(value, wanted[name], units[name], name)


def test_singular_matrices_show():
    R.Graph()
    a = R.t([[[1.0, 2.0], [2.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    results = compute({
        "det": R.det(a), "sign": R.slogdet(a)[0], "log": R.slogdet(a)[1], "inv": R.inv(a), "solve": R.solve(a, R.ones((2, 1))),
        "cholesky": R.cholesky(R.t([[1.0, 2.0], [2.0, 1.0]])), "gradient": R.grad(R.sum(R.det(a)), a),
        "power": R.matrix_power(R.t([[1, 1], [0, 1]]), 3),
    })  # fmt: skip
    np.testing.assert_array_equal(results["det"], [0, 0])
    np.testing.assert_array_equal(results["sign"], [0, 0])
    np.testing.assert_array_equal(results["log"], [-np.inf, -np.inf])
    for name in ("inv", "solve", "cholesky", "gradient"):
        assert not np.isfinite(results[name]).all(), name
    np.testing.assert_array_equal(results["power"], [[1, 3], [0, 1]])
    assert results["power"].dtype == np.int64


@pytest.mark.parametrize("dtype", DTYPES)
def test_qr(dtype):
    R.Graph()
    ops = {}
    for name, a in matrices(dtype).items():
        for mode in ("reduced", "complete"):
            ops[f"{name} {mode} q"], ops[f"{name} {mode} r"] = R.qr(given(a), mode=mode)
        ops[f"{name} r"] = R.qr(given(a), "r")
    got = compute(ops)
    for name, a in matrices(dtype).items():
        for mode in ("reduced", "complete"):
            q, r = got[f"{name} {mode} q"], got[f"{name} {mode} r"]
            wanted = np.linalg.qr(a, mode=mode)
            assert (q.shape, r.shape) == (wanted.Q.shape, wanted.R.shape)
            close(q @ r, a, 100, name)
            close(
                q.swapaxes(-1, -2) @ q,
                np.broadcast_to(np.eye(q.shape[-1], dtype=dtype), (*q.shape[:-2], *q.shape[-1:] * 2)),
                100,
                name,
            )
            np.testing.assert_array_equal(np.tril(r, -1), 0)
            if name not in ("low rank", "hilbert", "graded"):
                close(r, wanted.R, 100, name)
                close(q[..., : min(a.shape[-2:])], wanted.Q[..., : min(a.shape[-2:])], 1000, name)
        np.testing.assert_array_equal(got[f"{name} r"], got[f"{name} reduced r"])


def bases(a):
    """`full_matrices`: both where it makes a difference."""
    return (True, False) if a.shape[-2] != a.shape[-1] else (True,)


@pytest.mark.parametrize("dtype", DTYPES)
def test_singular_values_and_what_is_made_of_them(dtype):
    R.Graph()
    few = ("tall", "wide", "low rank", "hilbert", "row")
    chosen = {name: a for name, a in matrices(dtype).items() if dtype == "float32" or name in few}
    ops = {}
    for name, a in chosen.items():
        x = given(a)
        for full in bases(a):
            for part, op in zip("usv", R.svd(x, full_matrices=full), strict=True):
                ops[f"{name} {full} {part}"] = op
        ops |= {
            f"{name} pinv": R.pinv(x),
            f"{name} rank": R.matrix_rank(x),
        }
    got = compute(ops)
    for name, a in chosen.items():
        limit = max(a.shape[-2:]) * np.finfo(dtype).eps
        for full in bases(a):
            u, s, v = (got[f"{name} {full} {part}"] for part in "usv")
            wanted = np.linalg.svd(a, full_matrices=full)
            assert (u.shape, v.shape) == (wanted.U.shape, wanted.Vh.shape), name
            close(s, wanted.S, 100, name)
            k = s.shape[-1]
            close((u[..., :k] * s[..., None, :]) @ v[..., :k, :], a, 100, name)
            for basis in (u.swapaxes(-1, -2) @ u, v @ v.swapaxes(-1, -2)):
                close(basis, np.broadcast_to(np.eye(basis.shape[-1], dtype=dtype), basis.shape), 100, name)
        values = np.linalg.svd(a.astype(np.float64), compute_uv=False)
        kept = np.where(values > values.max(-1, keepdims=True) * limit, values, np.inf).min()
        condition = 1 if np.isinf(kept) else values.max() / kept
        close(
            got[f"{name} pinv"],
            np.linalg.pinv(a.astype(np.float64), rcond=limit).astype(dtype),
            40 * condition,
            name,
        )
        np.testing.assert_array_equal(got[f"{name} rank"], np.linalg.matrix_rank(a), err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_eigenvalues_of_symmetric_matrices(dtype):
    R.Graph()
    symmetric = {name: a + a.swapaxes(-1, -2) for name, a in square(dtype).items()} | {
        "zeros": np.zeros((3, 3), dtype)
    }
    ops = {}
    for name, a in symmetric.items():
        ops[f"{name} w"], ops[f"{name} v"] = R.eigh(given(np.tril(a)))  # the rest is not read
        ops[f"{name} only"] = R.eigvalsh(given(a))
    got = compute(ops)
    for name, a in symmetric.items():
        w, v = got[f"{name} w"], got[f"{name} v"]
        close(w, np.linalg.eigvalsh(a), 100, name)
        close(got[f"{name} only"], w, 100, name)
        close((v * w[..., None, :]) @ v.swapaxes(-1, -2), a, 100, name)
        close(v.swapaxes(-1, -2) @ v, np.broadcast_to(np.eye(a.shape[-1], dtype=dtype), a.shape), 100, name)


def test_least_squares_and_norms():
    R.Graph()
    rng = np.random.default_rng(5)
    ops, wanted = {}, {}
    for name, a in {
        name: matrices("float64")[name] for name in ("column", "wide", "low rank", "odd")
    }.items():
        for shape in ((a.shape[0],), (a.shape[0], 3)):
            b = rng.normal(size=shape)
            found, right = R.lstsq(given(a), given(b)), np.linalg.lstsq(a, b)
            rest = np.atleast_2d((a @ right[0] - b).T)
            for part, op, value in zip(("x", "residuals", "rank", "s"), found, right, strict=True):
                ops[f"{name} {part} {len(shape)}"] = op
                wanted[f"{name} {part} {len(shape)}"] = (rest * rest).sum(1) if part == "residuals" else value
    batch = rng.normal(size=(2, 3, 4))
    x = given(batch)
    for ord in (None, 0, 1, 2, 3, -2.5, np.inf, -np.inf):
        for axis in (0, -1):
            ops[f"vector {ord} {axis}"] = R.norm(x, ord, axis=axis)
            wanted[f"vector {ord} {axis}"] = np.linalg.norm(batch, ord, axis=axis)
    for ord in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        for axis, keepdims in (((1, 2), False), ((2, 0), True)):
            ops[f"matrix {ord} {axis}"] = R.norm(x, ord, axis=axis, keepdims=keepdims)
            wanted[f"matrix {ord} {axis}"] = np.linalg.norm(batch, ord, axis=axis, keepdims=keepdims)
    ops |= {
        "all": R.norm(x),
        "all kept": x.norm(keepdims=True),
        "scalar": R.norm(R.t(-3.0, "float64")),
        "vector": R.norm(x[0, 0], 1),
    }
    wanted |= {
        "all": np.linalg.norm(batch),
        "all kept": np.linalg.norm(batch, keepdims=True),
        "scalar": 3,
        "vector": np.abs(batch[0, 0]).sum(),
    }
    for name, value in compute(ops).items():
        assert value.shape == np.shape(wanted[name]), name
        np.testing.assert_allclose(value, wanted[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_both_engines_agree(evaluate):
    R.Graph()
    a = np.array([[2.0, -1.0, 0.5], [1.0, 3.0, 0.0], [0.0, 1.0, 4.0]], dtype=np.float32)
    x = R.t(a)
    inverse, determinant, lower, q, values, s = evaluate(
        R.inv(x), R.det(x), R.cholesky(x @ x.T), R.qr(x)[0], R.eigvalsh(x + x.T), R.svd(x, compute_uv=False)
    )
    np.testing.assert_allclose(inverse @ a, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(determinant, np.linalg.det(a), rtol=1e-5)
    np.testing.assert_allclose(lower, np.linalg.cholesky(a @ a.T), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(q, np.linalg.qr(a).Q, atol=1e-5)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(a + a.T), rtol=1e-5)
    np.testing.assert_allclose(s, np.linalg.svd(a)[1], rtol=1e-5)


A, V = np.ones((2, 3), np.float32), np.ones(3, np.float32)
WRONG = [
    (lambda: R.inv(A), ShapeError), (lambda: R.inv(V), ShapeError), (lambda: R.inv(np.zeros((0, 0))), ShapeError),
    (lambda: R.inv(R.t(np.eye(2), "float16")), DTypeError), (lambda: R.det(A), ShapeError), (lambda: R.slogdet(A), ShapeError),
    (lambda: R.cholesky(A), ShapeError), (lambda: R.solve(np.eye(3), np.ones(2)), ShapeError),
    (lambda: R.solve(np.ones((2, 3, 3)), np.ones((4, 3, 1))), ShapeError), (lambda: R.solve(np.eye(3), 1.0), ShapeError),
    (lambda: R.solve_triangular(np.eye(3), np.ones((2, 1))), ShapeError), (lambda: R.qr(A, mode="raw"), ArgumentError),
    (lambda: R.qr(V), ShapeError), (lambda: R.svd(V), ShapeError), (lambda: R.eigh(A), ShapeError),
    (lambda: R.eig(A), DTypeError),
    (lambda: R.eigvals(np.eye(2)), DTypeError), (lambda: R.matrix_power(A, 2), ShapeError),
    (lambda: R.matrix_power(np.eye(2), 0.5), DTypeError), (lambda: R.lstsq(A, V), ShapeError),
    (lambda: R.lstsq(np.ones((2, 3, 3)), np.ones((2, 3))), ShapeError), (lambda: R.norm(np.ones((2, 2, 2)), 2), ArgumentError),
    (lambda: R.norm(A, 3), ArgumentError), (lambda: R.norm(V, "fro"), ArgumentError), (lambda: R.norm(A, "max"), ArgumentError),
    (lambda: R.norm(A, axis=(0, 0)), ArgumentError),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "error"), WRONG)
def test_wrong_use(wrong, error):
    R.Graph()
    with pytest.raises(error, match=r"test_linalg_decompositions\.py:"):
        wrong()


def test_everything_stays_in_the_graph_of_its_operands():
    graph = R.Graph()
    x = R.t(np.eye(3, dtype=np.float32) * 2 + 1)
    R.Graph("another")
    made = [
        R.inv(x), R.solve(x, x), R.det(x), R.cholesky(x), R.qr(x).Q, R.svd(x).S, R.eigvalsh(x), R.pinv(x), R.matrix_power(x, 0),
        R.norm(x, "nuc"), R.kron(x, x), R.diag(x[0]), R.linear_regression(x, x[0]).coef, R.ridge(x, x[0]).coef,
        R.logistic_regression(x, np.array([0, 1, 2])).coef, R.svm_svr(x, x[0]).coef, R.kmeans(x, 2).centers,
        R.naive_bayes(x, np.array([0, 0, 1])).predict(x), R.knn_regressor(x, x[0], 1).predict(x),
    ]  # fmt: skip
    assert all(op.graph is graph for op in made)
