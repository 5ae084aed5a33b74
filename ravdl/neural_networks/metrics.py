"""Metrics: what is measured beside the loss. One table, name → function of prediction and targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import ravop as R
from ravdl.neural_networks.forward import Prediction
from ravop.errors import ArgumentError
from ravop.graph import Op


def accuracy(prediction: Prediction, y: Op) -> Op:
    """The share of right answers, a float32 scalar.

    After a sigmoid an answer is right on the same side of one half as y; else the largest output must be that
    of the true class (y as integer labels or as rows of probabilities).
    """
    if prediction.activation == "sigmoid":
        right = R.equal(prediction.raw > 0, y if y.dtype == np.bool_ else y > 0.5)
    else:
        truth = R.astype(y, np.int64) if y.ndim == 1 else R.argmax(y, axis=-1)
        right = R.equal(R.argmax(prediction.raw, axis=-1), truth)
    return R.mean(R.astype(right, np.float32))


METRICS: dict[str, Callable[[Prediction, Op], Op]] = {"accuracy": accuracy}


def metrics_named(names: Sequence[str]) -> tuple[str, ...]:
    """`names`, when there are such metrics. Raises `ArgumentError`."""
    unknown = [name for name in names if name not in METRICS]
    if unknown or isinstance(names, str):
        raise ArgumentError(
            "unknown metric", expected=f"a list of: {', '.join(METRICS)}", received=repr(names)
        )
    return tuple(names)
