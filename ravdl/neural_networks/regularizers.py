"""Regularizers: from a weight to what is added to the loss for it. Layers take these, or any function of an op.

Their gradient is that of the loss, so they suit plain gradient descent; with Adam and its kin weight decay is
`AdamW(weight_decay=…)`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

import ravop as R
from ravdl.neural_networks.layers.arguments import not_negative
from ravop.errors import ArgumentError, ShapeError
from ravop.graph import Op


class Regularizer:
    """Base of those here, which are frozen dataclasses: their fields are their `config()`."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.name != "mode":
                object.__setattr__(self, field.name, not_negative(value, field.name))
            elif value not in ("rows", "columns"):
                raise ArgumentError("unknown mode", expected="'rows' or 'columns'", received=repr(value))

    def __call__(self, weight: Op) -> Op:
        """A float32 scalar."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class L1(Regularizer):
    """l1 Σ |w|, as Keras' L1."""

    l1: float = 0.01

    def __call__(self, weight: Op) -> Op:
        return R.sum(R.abs(weight)) * self.l1


@dataclass(frozen=True)
class L2(Regularizer):
    """l2 Σ w², as Keras' L2."""

    l2: float = 0.01

    def __call__(self, weight: Op) -> Op:
        return R.sum(weight * weight) * self.l2


@dataclass(frozen=True)
class L1L2(Regularizer):
    """l1 Σ |w| + l2 Σ w², as Keras' L1L2."""

    l1: float = 0.0
    l2: float = 0.0

    def __call__(self, weight: Op) -> Op:
        return R.sum(R.abs(weight)) * self.l1 + R.sum(weight * weight) * self.l2


@dataclass(frozen=True)
class OrthogonalRegularizer(Regularizer):
    """factor times the mean magnitude of the cosine between two rows (or columns) of a matrix, as Keras'
    OrthogonalRegularizer.
    """

    factor: float = 0.01
    mode: str = "rows"

    def __call__(self, weight: Op) -> Op:
        if weight.ndim != 2 or weight.static_shape[self.mode == "columns"] < 2:
            raise ShapeError(
                f"there are no two {self.mode} to compare", expected="a matrix", received=weight.shape
            )
        rows = weight if self.mode == "rows" else R.transpose(weight)
        length = R.sqrt(R.maximum(R.sum(rows * rows, axis=1, keepdims=True), 1e-12))
        unit = rows / length
        count = rows.static_shape[0]
        others = R.abs(unit @ R.transpose(unit)) * (1 - np.eye(count, dtype=np.float32))
        return R.sum(others) * (self.factor / (count * (count - 1)))


REGULARIZERS: dict[str, type[Regularizer]] = {
    kind.__name__: kind for kind in (L1, L1L2, L2, OrthogonalRegularizer)
}
"""By class name, as saved models name them."""
