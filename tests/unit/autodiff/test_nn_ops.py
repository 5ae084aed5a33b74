"""The operators of `ravop.ops.nn`, values and gradients, against PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import ravop as R
from ravop.engine import Session
from ravop.errors import ShapeError
from ravop.graph import Graph
from ravop.graph.serde import to_bytes
from ravop.ops.catalogue import node


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4, 4)])
def test_batch_normalization_in_training(check_torch, shape):
    check_torch(
        lambda x, g, b: R.batch_normalization_training(x, g, b, 1e-3)[0],
        lambda x, g, b: F.batch_norm(x, None, None, g, b, True, eps=1e-3), values(*shape), values(3, seed=1), values(3, seed=2),
    )  # fmt: skip


def test_the_statistics_of_a_batch():
    Graph()
    x = values(4, 3, 5).astype(np.float32)
    _, mean, variance = R.batch_normalization_training(x, np.ones(3), np.zeros(3))
    mean.persist_op("mean")
    variance.persist_op("variance")
    got = R.run_local()
    np.testing.assert_allclose(got["mean"], x.mean((0, 2)), atol=1e-6)
    np.testing.assert_allclose(got["variance"], x.var((0, 2)), rtol=1e-5)


def test_batch_normalization_in_inference(check_torch):
    check_torch(
        lambda *ops: R.batch_normalization(*ops, epsilon=1e-2),
        lambda x, g, b, m, v: (x - m) / torch.sqrt(v + 1e-2) * g + b,
        values(4, 3), values(3, seed=1), values(3, seed=2), values(3, seed=3), np.abs(values(3, seed=4)) + 0.5,
    )  # fmt: skip


def test_shapes_that_do_not_fit_are_refused():
    Graph()
    with pytest.raises(ShapeError, match="one number for each channel"):
        R.batch_normalization_training(np.ones((2, 3)), np.ones(2), np.ones(2))
    with pytest.raises(ShapeError, match="targets do not fit"):
        R.softmax_cross_entropy(np.ones((2, 3)), np.array([0, 1, 2]))


def test_dropout(check_torch):
    kept = np.array([[True, False, True], [False, True, True]])
    check_torch(lambda x: R.dropout(x, kept, 0.4), lambda x: x * torch.tensor(kept) / 0.6, values(2, 3))


def test_softmax_cross_entropy_of_classes(check_torch):
    classes = np.array([2, 0, 1, 2])
    check_torch(
        lambda z: R.softmax_cross_entropy(z, classes),
        lambda z: F.cross_entropy(z, torch.tensor(classes)),
        values(4, 3) * 50,
    )


def test_softmax_cross_entropy_of_probabilities(check_torch):
    truth = np.abs(values(4, 3)).astype(np.float32)
    check_torch(
        lambda z: R.softmax_cross_entropy(z, truth),
        lambda z: F.cross_entropy(z, torch.tensor(truth)),
        values(4, 3),
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_loss_operator_of_onnx(check_torch, reduction):
    classes = np.array([[2, 0], [1, 1]])
    check_torch(
        lambda z: node("SoftmaxCrossEntropyLoss", [z, z.graph.tensor(classes)], reduction=reduction),
        lambda z: F.cross_entropy(z, torch.tensor(classes), reduction=reduction), values(2, 3, 2),
    )  # fmt: skip


def test_statistics_pass_gradients_on(check_torch):
    def theirs(x):
        return (x.mean(0) * x.var(0, unbiased=False)).sum()

    def ours(x):
        _, mean, variance = R.batch_normalization_training(x, np.ones(3), np.zeros(3))
        return (mean * variance).sum()

    check_torch(ours, theirs, values(4, 3))


def test_statistics_are_the_same_when_a_session_runs_again():
    """ONNX Runtime's kernel overwrites the statistics it is given."""
    graph = Graph()
    x = graph.placeholder(np.dtype(np.float32), (4, 3))
    y, mean, variance = R.batch_normalization_training(x, np.ones(3), np.zeros(3))
    (mean * 1.0 + variance).persist_op("both")
    y.persist_op("y")
    session = Session(to_bytes(graph.model()))
    data = values(4, 3).astype(np.float32)
    given = data.copy()
    first, second = (session.run({x.name: given}) for _ in range(2))
    np.testing.assert_array_equal(given, data)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
    np.testing.assert_allclose(first[graph.persisted["both"].value], data.mean(0) + data.var(0), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4), (300, 300)])
def test_affine(check_torch, shape):
    check_torch(
        lambda x, a, b: R.affine(x, a, b),
        lambda x, a, b: x * a + b,
        values(*shape),
        1.7,
        -0.3,
        rtol=1e-3,
        atol=1e-3,
    )


def test_affine_takes_scalars():
    Graph()
    with pytest.raises(ShapeError, match="takes scalars"):
        R.affine(np.ones((2, 2)), np.ones(2), 1.0)
