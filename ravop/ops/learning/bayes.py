"""Naive Bayes classifiers: features count as independent of each other within a class."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ravop.errors import ArgumentError
from ravop.graph.branches import map as over_classes
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import operator
from ravop.ops.elementary import exp, log
from ravop.ops.learning.data import Labels, labels, queries, samples
from ravop.ops.linalg import matmul
from ravop.ops.reduction import argmax, logsumexp, max, sum, variance
from ravop.ops.shaping import expand_dims

__all__ = ["naive_bayes"]


class GaussianBayes(NamedTuple):
    """Within class c, feature i is normal: `means` and `variances` (classes, d), and the `log_prior` (classes,)."""

    means: Op
    variances: Op
    log_prior: Op
    labels: Labels

    def predict_log_proba(self, X: Operand) -> Op:  # noqa: N803 - the field's name
        """(n, classes): the logarithm of each class's probability."""
        x, means = queries(X, self.means)

        def likelihood(mean: Op, spread: Op) -> Op:
            return -0.5 * sum((x - mean) ** 2 / spread + log(spread * (2 * math.pi)), 1)

        return _normalised(over_classes(likelihood, means, self.variances).T + self.log_prior)

    def predict_proba(self, X: Operand) -> Op:  # noqa: N803
        """(n, classes): each class's probability."""
        return exp(self.predict_log_proba(X))

    def predict(self, X: Operand) -> Op:  # noqa: N803
        """(n,): the most probable label for each row of X (n, d), int64."""
        return self.labels.named(argmax(self.predict_log_proba(X), 1))


class MultinomialBayes(NamedTuple):
    """Within a class, counts are drawn with `feature_log_prob` (classes, d); and the `log_prior` (classes,)."""

    feature_log_prob: Op
    log_prior: Op
    labels: Labels

    def predict_log_proba(self, X: Operand) -> Op:  # noqa: N803
        """(n, classes): the logarithm of each class's probability."""
        x, weights = queries(X, self.feature_log_prob)
        return _normalised(matmul(x, weights.T) + self.log_prior)

    def predict_proba(self, X: Operand) -> Op:  # noqa: N803
        """(n, classes): each class's probability."""
        return exp(self.predict_log_proba(X))

    def predict(self, X: Operand) -> Op:  # noqa: N803
        """(n,): the most probable label for each row of X (n, d), int64."""
        return self.labels.named(argmax(self.predict_log_proba(X), 1))


def _normalised(joint: Op) -> Op:
    return joint - logsumexp(joint, 1, keepdims=True)


@operator
def naive_bayes(
    X: Operand,  # noqa: N803
    y: Any,
    kind: str = "gaussian",
    alpha: float = 1.0,
    var_smoothing: float = 1e-9,
    n_classes: int | None = None,
) -> GaussianBayes | MultinomialBayes:
    """The naive Bayes classifier of samples X (n, d) with labels y (n,) (Manning et al. 2008, 13).

    Args:
        kind: `"gaussian"`: each feature is normal within a class; `"multinomial"`: features are counts.
        alpha: added to every count.
        var_smoothing: this part of the largest variance of a feature is added to all variances.
        y, n_classes: as in `logistic_regression`.
    Returns: `predict(X)`, `predict_proba(X)`, `predict_log_proba(X)`. Raises `ArgumentError` for another kind.

    Example:
        >>> R.naive_bayes([[0.0], [1.0], [5.0], [6.0]], [0, 0, 1, 1]).predict([[2.0], [4.0]])
        [0, 1]
    """
    x = samples(X)
    given = labels(x, y, n_classes)
    member = given.chosen(x)
    sizes = sum(member, 0)
    prior = log(sizes / x.static_shape[0])
    totals = matmul(member.T, x)
    if kind == "gaussian":
        means = totals / expand_dims(sizes, 1)
        spread = matmul(member.T, (x - matmul(member, means)) ** 2) / expand_dims(sizes, 1)
        return GaussianBayes(means, spread + max(variance(x, 0)) * var_smoothing, prior, given)
    if kind == "multinomial":
        counts = totals + alpha
        return MultinomialBayes(log(counts) - log(sum(counts, 1, keepdims=True)), prior, given)
    raise ArgumentError(
        "naive_bayes knows no such features", expected="'gaussian' or 'multinomial'", received=repr(kind)
    )
