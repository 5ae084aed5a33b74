"""Metrics: what is measured beside the loss, by name, as an object, or as a function of ops.

A metric is computed for each batch; over an epoch or a data set the batches' values are averaged, weighted by their sizes.
That is the metric of all samples for means over samples (accuracy, mse, mae, cosine_similarity). For the others (precision,
recall, f1, auc, rmse, r2) it is the mean of the batches' values, which differs from that of all samples; for those, fetch
`predict` and compute them at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import ravop as R
from ravdl.neural_networks.forward import Prediction
from ravdl.neural_networks.layers.arguments import positive
from ravdl.neural_networks.loss_regression import cosine
from ravdl.neural_networks.symbols import proper_name
from ravop.errors import ArgumentError
from ravop.graph import Op


def accuracy(prediction: Prediction, y: Op) -> Op:
    """The share of right answers, a float32 scalar.

    After a sigmoid an answer is right on the same side of one half as y; else the largest output must be that
    of the true class (y as integer labels or as rows of probabilities). Classes are along the last axis, or along axis 1
    where labels of that shape are given.
    """
    if prediction.activation == "sigmoid":
        return _share(R.equal(prediction.raw > 0, y if y.dtype == np.bool_ else y > 0.5))
    raw = prediction.raw
    if y.ndim == raw.ndim:
        return _share(R.equal(R.argmax(raw, axis=-1), R.argmax(y, axis=-1)))
    axis = -1 if raw.shape[:-1] == y.shape else 1
    return _share(R.equal(R.argmax(raw, axis=axis), R.astype(y, np.int64)))


def _share(right: Op) -> Op:
    return R.mean(R.astype(right, np.float32))


def _difference(prediction: Prediction, y: Op) -> Op:
    return prediction.value - R.astype(y, np.float32)


def mean_absolute_error(prediction: Prediction, y: Op) -> Op:
    """mean |prediction - y|."""
    return R.mean(R.abs(_difference(prediction, y)))


def mean_squared_error(prediction: Prediction, y: Op) -> Op:
    """mean (prediction - y)²."""
    return R.mean(R.square(_difference(prediction, y)))


def root_mean_squared_error(prediction: Prediction, y: Op) -> Op:
    """√ mean (prediction - y)²."""
    return R.sqrt(mean_squared_error(prediction, y))


def r2(prediction: Prediction, y: Op) -> Op:
    """1 - Σ (y - prediction)² / Σ (y - mean y)² over the batch, the mean over outputs, as `sklearn.metrics.r2_score`."""
    truth = R.astype(y, np.float32)
    rest = R.sum(R.square(_difference(prediction, y)), axis=0)
    all_of_it = R.sum(R.square(truth - R.mean(truth, axis=0, keepdims=True)), axis=0)
    return R.mean(1.0 - rest / R.maximum(all_of_it, 1e-12))


def cosine_similarity(prediction: Prediction, y: Op) -> Op:
    """mean over samples of the cosine between prediction and y along the last axis."""
    return R.mean(cosine(prediction.value, R.astype(y, np.float32)))


def auc(prediction: Prediction, y: Op) -> Op:
    """Area under the ROC curve of the batch: the share of pairs of a positive and a negative element in which the positive
    one is rated higher, equal ones counting half (Mann & Whitney 1947). 0 where there is no such pair.
    """
    rated = R.reshape(prediction.raw, (-1,))
    yes = R.reshape(R.astype(R.astype(y, np.float32) > 0.5, np.float32), (-1,))
    high, low = R.expand_dims(rated, 1), R.expand_dims(rated, 0)
    won = R.astype(high > low, np.float32) + R.astype(R.equal(high, low), np.float32) * 0.5
    pairs = R.expand_dims(yes, 1) * (1.0 - R.expand_dims(yes, 0))
    return R.sum(won * pairs) / R.maximum(R.sum(pairs), 1.0)


class Metric:
    """Base of the metrics with arguments."""

    name = ""

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(vars(self))

    def call(self, prediction: Prediction, y: Op) -> Op:
        """A float32 scalar."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.config().items())})"


class NamedMetric(Metric):
    """One of the functions above, by its name in `FUNCTIONS`."""

    def __init__(self, name: str) -> None:
        if name not in FUNCTIONS:
            raise _unknown(name)
        self.name = name

    def call(self, prediction: Prediction, y: Op) -> Op:
        return FUNCTIONS[self.name](prediction, y)


class FunctionMetric(Metric):
    """A function `metric(y_true, y_pred)` of ops, averaged where it gives no scalar."""

    def __init__(self, function: Callable[[Op, Op], Op], name: str | None = None) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", "metric").strip("<>")

    def call(self, prediction: Prediction, y: Op) -> Op:
        found = self.function(y, prediction.value)
        if not isinstance(found, Op):
            raise ArgumentError(
                "a metric gives an op", expected="metric(y_true, y_pred) → Op", received=repr(found)
            )
        found = found if found.dtype == np.float32 else R.astype(found, np.float32)
        return R.mean(found) if found.ndim else found


class TopKAccuracy(Metric):
    """The share of samples whose true class is among the k largest outputs; the metric `top_{k}_accuracy`."""

    def __init__(self, k: int = 5) -> None:
        self.k = positive(k, "k")

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"top_{self.k}_accuracy"

    def call(self, prediction: Prediction, y: Op) -> Op:
        raw = prediction.raw
        truth = R.astype(y, np.int64) if y.ndim < raw.ndim else R.argmax(y, axis=-1)
        _, best = R.top_k(raw, min(self.k, raw.static_shape[-1]), axis=-1)
        hits = R.astype(R.equal(best, R.expand_dims(truth, -1)), np.float32)
        return R.mean(R.sum(hits, axis=-1))


class _Threshold(Metric):
    """What is yes or no: outputs and targets above a threshold."""

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = float(threshold)

    def _counts(self, prediction: Prediction, y: Op) -> tuple[Op, Op, Op]:
        """True positives, predicted ones, and those there are."""
        said = R.astype(prediction.value > self.threshold, np.float32)
        yes = R.astype(R.astype(y, np.float32) > 0.5, np.float32)
        return R.sum(said * yes), R.sum(said), R.sum(yes)


class BinaryAccuracy(_Threshold):
    """The share of elements on the same side of the threshold as y of one half."""

    name = "binary_accuracy"

    def call(self, prediction: Prediction, y: Op) -> Op:
        return _share(R.equal(prediction.value > self.threshold, R.astype(y, np.float32) > 0.5))


class Precision(_Threshold):
    """The share of true ones among the elements said to be yes; 0 without any."""

    name = "precision"

    def call(self, prediction: Prediction, y: Op) -> Op:
        right, said, _ = self._counts(prediction, y)
        return right / R.maximum(said, 1.0)


class Recall(_Threshold):
    """The share of the elements that are yes which are said to be; 0 without any."""

    name = "recall"

    def call(self, prediction: Prediction, y: Op) -> Op:
        right, _, yes = self._counts(prediction, y)
        return right / R.maximum(yes, 1.0)


class F1(_Threshold):
    """The harmonic mean of precision and recall."""

    name = "f1"

    def call(self, prediction: Prediction, y: Op) -> Op:
        right, said, yes = self._counts(prediction, y)
        return right * 2.0 / R.maximum(said + yes, 1.0)


FUNCTIONS: dict[str, Callable[[Prediction, Op], Op]] = {
    "accuracy": accuracy,
    "auc": auc,
    "cosine_similarity": cosine_similarity,
    "mae": mean_absolute_error,
    "mse": mean_squared_error,
    "r2": r2,
    "rmse": root_mean_squared_error,
}
METRICS: dict[str, Callable[[], Metric]] = {
    **{name: functools.partial(NamedMetric, name) for name in FUNCTIONS},
    "binary_accuracy": BinaryAccuracy,
    "f1": F1,
    "precision": Precision,
    "recall": Recall,
    "top_k_accuracy": TopKAccuracy,
}
"""What a script may name."""
METRIC_CLASSES: dict[str, type[Metric]] = {
    kind.__name__: kind
    for kind in (BinaryAccuracy, F1, FunctionMetric, NamedMetric, Precision, Recall, TopKAccuracy)
}


def made_metrics(given: Sequence[object]) -> tuple[Metric, ...]:
    """Metrics from names, objects or functions. Raises `ArgumentError`."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise _unknown(given)
    found = tuple(_made(each) for each in given)
    names = [proper_name(metric.name, "a metric") for metric in found]
    if len(set(names)) != len(names) or "loss" in names:
        raise ArgumentError("metrics need a name each", expected="different names", received=", ".join(names))
    return found


def _made(metric: object) -> Metric:
    if isinstance(metric, str) and metric in METRICS:
        return METRICS[metric]()
    if isinstance(metric, type) and issubclass(metric, Metric):
        return metric()
    if isinstance(metric, Metric):
        return metric
    if callable(metric):
        return FunctionMetric(metric)
    raise _unknown(metric)


def _unknown(given: object) -> ArgumentError:
    return ArgumentError(
        "unknown metric",
        expected=f"a list of: {', '.join(METRICS)}, or functions metric(y_true, y_pred)",
        received=repr(given),
    )
