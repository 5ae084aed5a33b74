"""Operators that NumPy has no namesake of, and what Python's syntax does: against PyTorch, Python and formulas."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import ravop as R
from ravop.errors import ArgumentError, DTypeError, RavenError, ShapeError

RNG = np.random.default_rng(5)
X = np.concatenate([RNG.normal(size=20) * 3, [0, -0.5, 0.5, 6, -6]]).astype(np.float32).reshape(5, 5)

ACTIVATIONS = {
    "celu": (F.celu, (0.7,)), "elu": (F.elu, (0.7,)), "selu": (F.selu, ()), "mish": (F.mish, ()), "relu6": (F.relu6, ()),
    "log_sigmoid": (F.logsigmoid, ()), "softmin": (lambda x: F.softmin(x, -1), ()), "hard_tanh": (F.hardtanh, ()),
    "tanh_shrink": (F.tanhshrink, ()), "soft_shrink": (F.softshrink, (0.7,)), "hard_shrink": (F.hardshrink, (0.7,)),
    "threshold": (F.threshold, (0.5, 2.0)), "hard_silu": (F.hardswish, ()), "hard_sigmoid": (F.hardsigmoid, ()),
    "gelu": (F.gelu, ()), "silu": (F.silu, ()), "softplus": (F.softplus, ()), "softsign": (F.softsign, ()),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_as_pytorch(evaluate, dtype):
    x = X.astype(dtype)
    R.Graph()
    op, other = R.t(x, dtype), torch.from_numpy(x)
    got = evaluate(
        *(getattr(R, name)(op, *more) for name, (_, more) in ACTIVATIONS.items()),
        R.gelu(op, approximate=True), R.prelu(op, [0.1, 0.2, 0.3, 0.4, 0.5]), R.glu(op[:4], axis=0), R.squareplus(op),
        engines=("onnxruntime",),
    )  # fmt: skip
    slopes = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=other.dtype)
    expected = [theirs(other, *more) for theirs, more in ACTIVATIONS.values()]
    expected += [
        F.gelu(other, approximate="tanh"),
        F.prelu(other, slopes),
        F.glu(other[:4], 0),
        (other + (other**2 + 4).sqrt()) / 2,
    ]
    for value, wanted, name in zip(
        got, expected, [*ACTIVATIONS, "gelu", "prelu", "glu", "squareplus"], strict=True
    ):
        np.testing.assert_allclose(value, wanted.numpy(), rtol=2e-5, atol=2e-6, err_msg=name)


def test_functions_keep_the_precision_of_float64(evaluate):
    x = np.array([-0.9, -1e-7, 0.0, 1e-3, 0.3, 0.99])
    y = np.array([1.0, 1.5, 40.0])
    names = (
        "arcsin",
        "arccos",
        "arctan",
        "arctanh",
        "arcsinh",
        "sinh",
        "cosh",
        "tan",
        "expm1",
        "log1p",
        "exp2",
        "sinc",
    )
    R.Graph()
    op = R.t(x, "float64")
    ours = [getattr(R, name)(op) for name in names]
    got = evaluate(
        *ours, R.arccosh(R.t(y, "float64")), R.arctan(R.t([1e20, -1e20, 1e8], "float64")),
        R.arctan2(R.t(x, "float64"), R.t(x[::-1], "float64")), rtol=1e-12, atol=1e-15, engines=("onnxruntime",),
    )  # fmt: skip
    expected = [getattr(np, name)(x) for name in names]
    expected += [np.arccosh(y), np.arctan([1e20, -1e20, 1e8]), np.arctan2(x, x[::-1])]
    for value, wanted, name in zip(got, expected, [*names, "arccosh", "arctan", "arctan2"], strict=True):
        np.testing.assert_allclose(value, wanted, rtol=3e-14, atol=1e-16, err_msg=name)


def test_python_syntax(evaluate):
    i, j, b = np.array([7, -7, 12]), np.array([2, 3, 1]), np.array([True, False, True])
    x = np.array([1.26, -2.5, 0.5], np.float32)
    R.Graph()
    p, q, t, f = R.t(i), R.t(j), R.t(b), R.t(x)
    pairs = [
        (p & q, i & j), (p | 5, i | 5), (6 ^ p, 6 ^ i), (t & b, b), (t | False, b), (t ^ True, ~b), (p << 2, i << 2),
        (p >> q, i >> j),
        (1 << q, 1 << j), (100 >> q, 100 >> j), (divmod(p, q)[0], i // j), (divmod(p, q)[1], i % j),
        (divmod(9, q)[1], 9 % j),
        (round(f), np.round(x)), (round(f, 1), np.round(x, 1)), (abs(p), abs(i)), (-f, -x), (+f, x), (~t, ~b), (2**q, 2**j),
        (9 // q, 9 // j), (9 % q, 9 % j), (np.bitwise_and(i, q), i & j), (i << q, i << j),
    ]  # fmt: skip
    for value, (_, expected) in zip(evaluate(*(ours for ours, _ in pairs)), pairs, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_pooled_statistics_are_those_of_all_elements(evaluate):
    clients = [RNG.normal(size=(n, 3)).astype(np.float32) + n for n in (4, 9, 2)]
    means, variances = ([getattr(c, of)(0) for c in clients] for of in ("mean", "var"))
    together = np.concatenate(clients)
    R.Graph()
    got = evaluate(
        R.federated_mean([R.t(m) for m in means], counts=[4, 9, 2]),
        R.federated_variance(variances, means, [4, 9, 2]),
        R.federated_standard_deviation(variances, means, [4, 9, 2]),
        R.federated_mean(R.t(np.stack(means))),
        R.federated_variance([1.0, 3.0]),
        rtol=1e-4,
    )
    for value, expected in zip(
        got, (together.mean(0), together.var(0), together.std(0), np.mean(means, 0), 2.0), strict=True
    ):
        np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_windows_of_images_as_columns_and_back(evaluate):
    x = RNG.normal(size=(2, 2, 4, 4)).astype(np.float32)
    k, i, j = (
        np.array([[0], [1], [1]]),
        np.array([[0, 1], [1, 2], [0, 0]]),
        np.array([[2, 2], [0, 1], [3, 3]]),
    )
    columns = x[:, k, i, j]
    added = np.zeros_like(x)
    np.add.at(added, (slice(None), k, i, j), columns)
    R.Graph()
    op = R.t(x)
    got = evaluate(
        R.cnn_index(op, k, i, j), R.cnn_add_at(R.zeros(x.shape), R.t(columns), R.t(k), R.t(i), R.t(j)),
        op.cnn_index_2(1, 3, 0, 2),
    )  # fmt: skip
    for value, expected in zip(got, (columns, added, x[:, :, 1:3, 0:2]), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6)


WRONG = {
    "bits of floats": (lambda x: x & 1, DTypeError), "shift of floats": (lambda x: x << 1, DTypeError),
    "where with one value": (lambda x: R.where(x, 1), ArgumentError),
    "scalar's places": (lambda _: R.nonzero(3), ShapeError),
    "sums of text": (lambda x: R.cumprod("x"), DTypeError),
    "logarithms of zero": (lambda _: R.geomspace(0, 1), ArgumentError),
    "grids of matrices": (lambda x: R.meshgrid(x), ShapeError),
    "indexing": (lambda _: R.meshgrid([1], indexing="z"), ArgumentError),
    "too many parts": (lambda x: R.array_split(x, 10**30), ArgumentError),
    "no such position": (lambda x: R.delete(x, 9, 0), ArgumentError),
    "insert beyond": (lambda x: R.insert(x, 9, 0, 0), ArgumentError),
    "one axis for two": (lambda x: R.moveaxis(x, [0, 1], 0), ArgumentError),
    "plane of one axis": (lambda x: R.rot90(x, axes=(0, 0)), ArgumentError),
    "triangle of a scalar": (lambda _: R.tril(3), ShapeError),
    "mode": (lambda x: R.pad(x, 1, "mirror"), ArgumentError),
    "shapes": (lambda x: R.broadcast_arrays(x, [1, 2]), ShapeError),
    "side": (lambda x: R.searchsorted([1], x, "middle"), ArgumentError),
    "matrix of edges": (lambda x: R.digitize(x, x), ShapeError),
    "no bins": (lambda x: R.histogram(x, 0), ArgumentError),
    "empty range": (lambda x: R.histogram(x, 3, (1, 0)), ArgumentError),
    "indices of floats": (lambda x: R.take_along_axis(x, x), DTypeError),
    "indices out of range": (lambda x: R.take_along_axis(x, [[9]], 1), ArgumentError),
    "conditions": (lambda x: R.select([x > 0], [x, x]), ArgumentError),
    "convolved matrices": (lambda x: R.convolve(x, x), ShapeError),
    "convolution's mode": (lambda x: R.convolve([1], [1], "half"), ArgumentError),
    "points": (lambda x: R.interp(x, [1, 2], [1]), ShapeError),
    "halves of three": (lambda x: R.glu(x), ShapeError),
    "no clients": (lambda x: R.federated_mean(np.zeros(0)), ArgumentError),
    "counts": (lambda x: R.federated_mean([1.0, 2.0], [1]), ShapeError),
    "covariance of one": (lambda _: R.cov([1.0]), ArgumentError),
    "differences": (lambda x: R.diff(x, -1), ArgumentError),
    "mask of another shape": (lambda x: x[np.array([True, False, True])], RavenError),
    "op mask of another shape": (lambda x: x[R.t([True, False, True])], RavenError),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_told_with_its_line(case):
    wrong, kind = WRONG[case]
    R.Graph()
    with pytest.raises(kind) as caught:
        wrong(R.t([[1.0, 2, 3], [4, 5, 6]]))
    assert "test_operator_families.py:" in caught.value.problem.source
