"""Learners that are no arithmetic over dense tensors: their names exist, and tell the way around."""

from __future__ import annotations

from typing import Any, NoReturn

from ravop.errors import ArgumentError
from ravop.graph.source import located

__all__ = [
    "decision_tree_classifier", "decision_tree_regressor", "random_forest_classifier", "random_forest_regressor",
]  # fmt: skip


def decision_tree_classifier(X: Any, y: Any, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: N803 - the field's name
    """Refused: raises `ArgumentError` that tells the way around."""
    raise _refused("decision_tree_classifier", "knn_classifier or logistic_regression")


def decision_tree_regressor(X: Any, y: Any, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: N803
    """Refused, as `decision_tree_classifier`."""
    raise _refused("decision_tree_regressor", "knn_regressor or ridge")


def random_forest_classifier(X: Any, y: Any, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: N803
    """Refused, as `decision_tree_classifier`."""
    raise _refused("random_forest_classifier", "knn_classifier or logistic_regression")


def random_forest_regressor(X: Any, y: Any, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: N803
    """Refused, as `decision_tree_classifier`."""
    raise _refused("random_forest_regressor", "knn_regressor or ridge")


def _refused(name: str, instead: str) -> ArgumentError:
    error = ArgumentError(
        f"{name} cannot be written as a graph: how a tree branches depends on the data, and graphs are fixed before it is seen",
        expected="a learner that is arithmetic",
        received=name,
        hint=f"use {instead}, a small network of ravdl, or train the tree with scikit-learn on one machine",
    )
    return located(error, name)  # type: ignore[return-value]
