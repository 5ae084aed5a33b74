"""Metrics against scikit-learn, over one batch; and what a history makes of them over several."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as theirs

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.forward import Prediction
from ravdl.neural_networks.layers import Dense
from ravdl.neural_networks.loss_functions import CrossEntropy, SquareLoss
from ravdl.neural_networks.metrics import METRICS, Precision, TopKAccuracy, made_metrics
from ravdl.neural_networks.optimizers import Adam
from ravop.errors import ArgumentError

RNG = np.random.default_rng(9)
N, C = 60, 7
NUMBERS = RNG.standard_normal((N, 2)).astype(np.float32)
CLOSE = (NUMBERS + 0.3 * RNG.standard_normal((N, 2))).astype(np.float32)
LOGITS = RNG.standard_normal((N, C)).astype(np.float32)
LABELS = RNG.integers(0, C, N)
YES = RNG.integers(0, 2, (N, 1))
RATED = np.round(RNG.standard_normal((N, 1)) + YES, 1).astype(np.float32)  # with ties
SAID = (RATED > 0).astype(int)

CASES: list[tuple[Any, str, Any, Any, float]] = [
    ("accuracy", "softmax", LOGITS, LABELS, theirs.accuracy_score(LABELS, LOGITS.argmax(1))),
    ("accuracy", "linear", LOGITS.reshape(12, 5, C), LABELS.reshape(12, 5), theirs.accuracy_score(LABELS, LOGITS.argmax(1))),
    ("accuracy", "linear", LOGITS.reshape(12, 5, C).swapaxes(1, 2).copy(), LABELS.reshape(12, 5),
     theirs.accuracy_score(LABELS, LOGITS.argmax(1))),
    ("accuracy", "softmax", LOGITS, np.eye(C)[LABELS], theirs.accuracy_score(LABELS, LOGITS.argmax(1))),
    ("top_k_accuracy", "softmax", LOGITS, LABELS, theirs.top_k_accuracy_score(LABELS, LOGITS, k=5)),
    (TopKAccuracy(2), "softmax", LOGITS, np.eye(C)[LABELS], theirs.top_k_accuracy_score(LABELS, LOGITS, k=2)),
    ("binary_accuracy", "sigmoid", RATED, YES, theirs.accuracy_score(YES, SAID)),
    ("precision", "sigmoid", RATED, YES, theirs.precision_score(YES, SAID)),
    (Precision(0.8), "linear", RATED, YES, theirs.precision_score(YES, RATED > 0.8)),
    ("recall", "sigmoid", RATED, YES, theirs.recall_score(YES, SAID)),
    ("f1", "sigmoid", RATED, YES, theirs.f1_score(YES, SAID)),
    ("precision", "sigmoid", -abs(RATED) - 1, YES, 0.0),
    ("auc", "sigmoid", RATED, YES, theirs.roc_auc_score(YES, RATED)),
    ("auc", "sigmoid", RATED, np.ones_like(YES), 0.0),
    ("mae", "linear", CLOSE, NUMBERS, theirs.mean_absolute_error(NUMBERS, CLOSE)),
    ("mse", "linear", CLOSE, NUMBERS, theirs.mean_squared_error(NUMBERS, CLOSE)),
    ("rmse", "linear", CLOSE, NUMBERS, theirs.mean_squared_error(NUMBERS, CLOSE) ** 0.5),
    ("r2", "linear", CLOSE, NUMBERS, theirs.r2_score(NUMBERS, CLOSE)),
    ("cosine_similarity", "linear", CLOSE, NUMBERS,
     float(np.mean([theirs.pairwise.cosine_similarity(a[None], b[None])[0, 0] for a, b in zip(CLOSE, NUMBERS, strict=True)]))),
    (lambda y, p: R.abs(y - p), "linear", CLOSE, NUMBERS, theirs.mean_absolute_error(NUMBERS, CLOSE)),
]  # fmt: skip


def test_values_are_those_of_scikit_learn(graph: R.Graph) -> None:
    assert {case[0] for case in CASES if isinstance(case[0], str)} == set(METRICS)
    for number, (metric, activation, raw, y, _) in enumerate(CASES):
        (made,) = made_metrics([metric])
        value = made.call(Prediction(R.t(raw), activation), R.t(y))
        assert (value.shape, value.dtype) == ((), np.float32)
        value.persist_op(f"value {number}")
    results = R.run_local()
    for number, case in enumerate(CASES):
        np.testing.assert_allclose(
            results[f"value {number}"], case[-1], rtol=1e-4, atol=1e-6, err_msg=str(case[0])
        )


def test_an_epochs_value_is_the_mean_over_its_batches(graph: R.Graph) -> None:
    x = RNG.standard_normal((14, 3)).astype(np.float32)
    model = NeuralNetwork(
        Adam(), SquareLoss, metrics=["mae", "rmse", lambda y, p: R.max(y - p)], validation_data=(x, x)
    )
    model.add(Dense(3, input_shape=(3,)))
    assert model.metrics == ("mae", "rmse", "lambda")
    history = model.fit(x, x, 2, 5, save_model=True)
    model.predict(x).persist_op("p")
    results = R.run_local()
    history.read_from(results.__getitem__)
    for key in model.metrics:
        by_batch = history.by_batch(key)
        np.testing.assert_allclose(history[key], by_batch @ [5 / 14, 5 / 14, 4 / 14], rtol=1e-5)
    np.testing.assert_allclose(history["val_mae"][-1], abs(results["p"] - x).mean(), rtol=1e-5)
    np.testing.assert_allclose(history["val_lambda"][-1], (x - results["p"]).max(), rtol=1e-5)


def gives_no_op(y: R.Op, p: R.Op) -> float:
    return 1.0


@pytest.mark.parametrize(
    "wrong", ["accuracy", ["speed"], [3], ["mae", "mae"], [lambda y, p: y, lambda y, p: p], 5]
)
def test_metrics_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="metric"):
        NeuralNetwork(Adam(), CrossEntropy, metrics=wrong)


def test_a_metric_must_give_an_op(graph: R.Graph) -> None:
    model = NeuralNetwork(Adam(), SquareLoss, metrics=[gives_no_op])
    model.add(Dense(3, input_shape=(3,)))
    with pytest.raises(ArgumentError, match="gives an op"):
        model.evaluate(np.ones((4, 3)), np.ones((4, 3)))
