"""Predictions from the nearest samples: k-nearest-neighbours classification and regression."""

from __future__ import annotations

from typing import Any, NamedTuple

from ravop.errors import ArgumentError
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import whole
from ravop.ops.catalogue import node, operator
from ravop.ops.learning.data import Labels, labels, queries, samples, targets
from ravop.ops.linalg import matmul
from ravop.ops.reduction import argmax, mean, sum
from ravop.ops.shaping import expand_dims

__all__ = ["knn_classifier", "knn_regressor"]


def squared_distances(x: Op, y: Op) -> Op:
    """(n, m): |x_i − y_j|² for x (n, d) and y (m, d), from the middle of y, so that little is lost to rounding."""
    middle = mean(y, 0)
    x, y = x - middle, y - middle
    return expand_dims(sum(x * x, 1), 1) - 2 * matmul(x, y.T) + sum(y * y, 1)


def _nearest(x: Op, samples_: Op, k: int) -> Op:
    """(n, k): which samples are nearest to each row of x; of equally near ones the first."""
    count = x.graph.integers([k])
    return x.graph.apply("TopK", [squared_distances(x, samples_), count], {"axis": 1, "largest": 0})[1]


class NeighboursClassifier(NamedTuple):
    X: Op
    labels: Labels
    k: int

    def predict_proba(self, X: Operand) -> Op:  # noqa: N803 - the field's name
        """(n, classes): which part of the k nearest samples belongs to each class."""
        x, known = queries(X, self.X)
        votes = node("Gather", [self.labels.chosen(known), _nearest(x, known, self.k)], axis=0)
        return mean(votes, 1)

    def predict(self, X: Operand) -> Op:  # noqa: N803
        """(n,): the label that most of the k nearest samples have, int64; of equally many the smallest."""
        return self.labels.named(argmax(self.predict_proba(X), 1))


class NeighboursRegressor(NamedTuple):
    X: Op
    y: Op
    k: int

    def predict(self, X: Operand) -> Op:  # noqa: N803
        """(n,): the mean target of the k nearest samples."""
        x, known = queries(X, self.X)
        return mean(node("Gather", [self.y, _nearest(x, known, self.k)], axis=0), 1)


@operator
def knn_classifier(X: Operand, y: Any, k: int = 5, n_classes: int | None = None) -> NeighboursClassifier:  # noqa: N803
    """The k-nearest-neighbours classifier of samples X (n, d) with labels y (n,) (Cover and Hart 1967), by Euclidean distance.

    Nothing is learned: `predict(X)` compares with all samples. y and `n_classes` as in `logistic_regression`.
    Raises `ArgumentError` for a k that is not 1 … n.

    Example:
        >>> R.knn_classifier([[0.0], [1.0], [5.0], [6.0]], [0, 0, 1, 1], k=1).predict([[2.0], [4.0]])
        [0, 1]
    """
    x = samples(X)
    return NeighboursClassifier(x, labels(x, y, n_classes), _count(k, x))


@operator
def knn_regressor(X: Operand, y: Operand, k: int = 5) -> NeighboursRegressor:  # noqa: N803
    """The k-nearest-neighbours regressor of samples X (n, d) with targets y (n,), by Euclidean distance.

    Raises `ArgumentError` for a k that is not 1 … n.

    Example:
        >>> R.knn_regressor([[0.0], [1.0], [5.0]], [10.0, 20.0, 70.0], k=2).predict([[0.4], [4.0]])
        [15.0, 45.0]
    """
    x, t = targets(samples(X), y)
    return NeighboursRegressor(x, t, _count(k, x))


def _count(k: int, x: Op) -> int:
    count = whole(k, "k")
    if not 1 <= count <= x.static_shape[0]:
        raise ArgumentError("k is a number of samples", expected=f"1 to {x.static_shape[0]}", received=count)
    return count
