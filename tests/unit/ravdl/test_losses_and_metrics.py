"""Losses, their gradients and accuracy against PyTorch and NumPy, at the edges too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import ravop as R
from ravdl.neural_networks.forward import Prediction
from ravdl.neural_networks.loss_functions import CrossEntropy, Loss, SquareLoss
from ravdl.neural_networks.metrics import accuracy

ROWS = np.array([[0.2, 0.5, 0.3], [1, 0, 0], [0, 0, 1], [0.1, 0.9, 0]], np.float32)
YES = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 0.25]], np.float32)
LABELS = np.array([1, 0, 2, 1])

CASES: dict[str, tuple[Loss, str, np.ndarray, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "labels": (CrossEntropy(), "softmax", LABELS, F.cross_entropy),
    "labels of logits": (CrossEntropy(), "linear", LABELS, F.cross_entropy),
    "rows": (CrossEntropy(), "softmax", ROWS, F.cross_entropy),
    "yes or no": (CrossEntropy(), "sigmoid", YES, F.binary_cross_entropy_with_logits),
    "square": (SquareLoss(), "linear", ROWS, F.mse_loss),
    "square of tanh": (SquareLoss(), "tanh", ROWS, lambda z, y: F.mse_loss(torch.tanh(z), y)),
}


@pytest.mark.parametrize("size", [1.0, 100.0], ids=["usual", "extreme"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_pytorchs(
    name: str, size: float, graph: R.Graph, rng: np.random.Generator
) -> None:
    loss, activation, y, theirs = CASES[name]
    z = (size * rng.standard_normal((4, 3))).astype(np.float32)
    op = R.t(z)
    targets = loss.targets(y, (3,), activation)
    value = loss.call(Prediction(op, activation), R.t(targets))
    assert (value.shape, value.dtype) == ((), np.float32)
    value.persist_op("loss")
    R.grad(value, op).persist_op("gradient")
    results = R.run_local()

    tz = torch.tensor(z, requires_grad=True)
    expected = theirs(tz, torch.tensor(y))
    expected.backward()
    np.testing.assert_allclose(results["loss"], expected.item(), rtol=1e-5)
    np.testing.assert_allclose(results["gradient"], tz.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("output", [(1,), (3,)])
def test_a_column_of_targets_may_be_flat(output: tuple[int, ...]) -> None:
    flat = np.arange(4)
    if output == (1,):
        assert SquareLoss().targets(flat, output, "linear").shape == (4, 1)
        assert CrossEntropy().targets(flat % 2 == 1, output, "sigmoid").shape == (4, 1)
    else:
        np.testing.assert_array_equal(CrossEntropy().targets(LABELS[:, None], output, "softmax"), LABELS)


def test_accuracy_is_the_share_of_right_answers(graph: R.Graph, rng: np.random.Generator) -> None:
    z = rng.standard_normal((200, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 200)
    yes = rng.integers(0, 2, (200, 3))
    accuracy(Prediction(R.t(z), "softmax"), R.t(labels)).persist_op("labels")
    accuracy(Prediction(R.t(z), "softmax"), R.t(np.eye(3)[labels])).persist_op("rows")
    accuracy(Prediction(R.t(z), "sigmoid"), R.t(yes)).persist_op("yes")
    accuracy(Prediction(R.t(z), "sigmoid"), R.t(yes == 1)).persist_op("true")
    results = R.run_local()
    right = (z.argmax(axis=1) == labels).mean()
    np.testing.assert_allclose([results["labels"], results["rows"]], right, rtol=1e-6)
    np.testing.assert_allclose([results["yes"], results["true"]], ((z > 0) == (yes == 1)).mean(), rtol=1e-6)
