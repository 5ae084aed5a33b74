"""Activation functions by name: the one table that the layer `Activation`, `activation=` and the losses look into.

Names and formulas are Keras's where Keras has them; each is computed by an operator of `ravop`, with its defaults.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import ravop as R
from ravop.errors import ArgumentError, ShapeError
from ravop.graph import Op


def linear(x: Op) -> Op:
    """x, unchanged."""
    return x


def gelu_tanh(x: Op) -> Op:
    """The approximation x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))) of gelu (Hendrycks, Gimpel 2016)."""
    return R.gelu(x, approximate=True)


def thresholded_relu(x: Op) -> Op:
    """x, and 0 where x is at most 1."""
    return R.threshold(x, 1.0)


def sparse_plus(x: Op) -> Op:
    """0 up to −1, x from 1 on, between them (x + 1)² / 4 (Keras)."""
    return R.square(R.clip(x, -1.0, 1.0) + 1.0) * 0.25 + R.relu(x - 1.0)


def sparse_sigmoid(x: Op) -> Op:
    """(x + 1) / 2, kept between 0 and 1 (Keras)."""
    return R.clip((x + 1.0) * 0.5, 0.0, 1.0)


def sparsemax(x: Op) -> Op:
    """The probabilities nearest to x along the last axis, many of them 0 (Martins & Astudillo 2016).

    max(x − τ, 0), where τ makes the sum 1: (Σ x over the k largest − 1) / k, for the largest k at which the k-th is above
    the τ of k.
    """
    size = x.shape[-1]
    assert isinstance(size, int)
    ranks = x.graph.constant(np.arange(1, size + 1, dtype=x.dtype))
    fixed = R.stop_gradient(x)
    largest, _ = x.graph.apply("TopK", [fixed, x.graph.integers([size])])  # R.top_k needs to know the batch
    above = largest * ranks + 1.0 > R.cumsum(largest, axis=-1)
    kept = R.astype(above, x.dtype)
    count = R.sum(kept, axis=-1, keepdims=True)
    threshold = (R.sum(largest * kept, axis=-1, keepdims=True) - 1.0) / count
    support = R.astype(fixed > threshold, x.dtype)
    # as threshold, and with a gradient
    moving = (R.sum(x * support, axis=-1, keepdims=True) - 1.0) / count
    return (x - moving) * support


ACTIVATIONS: dict[str, Callable[[Op], Op]] = {
    "relu": R.relu,
    "sigmoid": R.sigmoid,
    "softmax": R.softmax,
    "tanh": R.tanh,
    "linear": linear,
    "celu": R.celu,
    "elu": R.elu,
    "exponential": R.exp,
    "gelu": R.gelu,
    "gelu_tanh": gelu_tanh,
    "hard_shrink": R.hard_shrink,
    "hard_sigmoid": R.hard_sigmoid,
    "hard_silu": R.hard_silu,
    "hard_swish": R.hard_swish,
    "hard_tanh": R.hard_tanh,
    "leaky_relu": R.leaky_relu,
    "log_sigmoid": R.log_sigmoid,
    "log_softmax": R.log_softmax,
    "mish": R.mish,
    "relu6": R.relu6,
    "selu": R.selu,
    "silu": R.silu,
    "soft_shrink": R.soft_shrink,
    "softplus": R.softplus,
    "softsign": R.softsign,
    "sparse_plus": sparse_plus,
    "sparse_sigmoid": sparse_sigmoid,
    "sparsemax": sparsemax,
    "squareplus": R.squareplus,
    "swish": R.silu,
    "tanh_shrink": R.tanh_shrink,
    "thresholded_relu": thresholded_relu,
}
"""Each takes an op of shape (batch, …) and gives one of the same shape; softmax, log_softmax and sparsemax are over the last
axis, all others work element by element."""

OVER_LAST_AXIS = ("softmax", "log_softmax", "sparsemax")
"""Those that mix the elements of the last axis."""


def activation_named(name: object) -> str:
    """`name`, when there is such an activation. Raises `ArgumentError`."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ArgumentError("unknown activation", expected=", ".join(ACTIVATIONS), received=repr(name))
    return name


def of_channels_first(name: object, layer: str) -> str:
    """As `activation_named`, for a layer whose output has its channels before its other axes.

    Raises `ShapeError` for one over the last axis, which would be a row of pixels.
    """
    known = activation_named(name)
    if known in OVER_LAST_AXIS:
        raise ShapeError(
            f"{known} is over the last axis, and {layer}'s channels are the first",
            expected="an activation that works element by element",
            received=known,
            hint="add Softmax(axis=1) after it for the probabilities of each pixel",
        )
    return known
