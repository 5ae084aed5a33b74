"""Activation functions by name: the one table that the layer `Activation` and the losses look into."""

from __future__ import annotations

from collections.abc import Callable

import ravop as R
from ravop.errors import ArgumentError
from ravop.graph import Op


def linear(x: Op) -> Op:
    """x, unchanged."""
    return x


ACTIVATIONS: dict[str, Callable[[Op], Op]] = {
    "relu": R.relu,
    "sigmoid": R.sigmoid,
    "softmax": R.softmax,
    "tanh": R.tanh,
    "linear": linear,
}
"""Each takes an op of shape (batch, …) and gives one of the same shape; softmax is over the last axis."""


def activation_named(name: str) -> str:
    """`name`, when there is such an activation. Raises `ArgumentError`."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ArgumentError("unknown activation", expected=", ".join(ACTIVATIONS), received=repr(name))
    return name
