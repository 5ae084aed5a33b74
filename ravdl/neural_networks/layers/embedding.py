"""Tables of learned vectors: of tokens, and of positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import ravop as R
from ravdl.neural_networks.initializers import InitializerLike, initializer_named
from ravdl.neural_networks.layers.arguments import Shape, positive
from ravdl.neural_networks.layers.layer import Layer, WeightSpec
from ravdl.neural_networks.layers.options import Regularizer, checked_regularizer, spec
from ravdl.neural_networks.layers.windows import spatial
from ravop.errors import ShapeError
from ravop.graph import Op
from ravop.graph.dtypes import is_float


class Embedding(Layer):
    """A vector for each index: (steps,) of integers from 0 to n_tokens - 1 → (steps, n_units); of any input shape.

    An index out of range fails where it is computed. Floats, as another layer may give them, lose their fraction.

    Args:
        n_tokens: rows of the table.
        n_units: size of each vector.
        initializer: a name in `initializers.INITIALIZERS`.
        regularizer: from the table to what is added to the loss.

    Weights: `W` of shape (n_tokens, n_units).
    """

    takes_integers = True

    def __init__(
        self,
        n_tokens: int,
        n_units: int,
        initializer: InitializerLike = "random_uniform",
        regularizer: Regularizer | None = None,
        input_shape: object = None,
    ) -> None:
        super().__init__(input_shape)
        self.n_tokens = self.index_limit = positive(n_tokens, "n_tokens")
        self.n_units = positive(n_units, "n_units")
        self.initializer = initializer_named(initializer)
        self.regularizer = checked_regularizer(regularizer)

    def shape_after(self, input_shape: Shape) -> Shape:
        return (*input_shape, self.n_units)

    def weights(self) -> tuple[WeightSpec, ...]:
        return (spec("W", (self.n_tokens, self.n_units), self.initializer, self.regularizer),)

    def parameters(self) -> dict[str, Any]:
        return {
            "n_tokens": self.n_tokens,
            "n_units": self.n_units,
            "initializer": self.initializer,
            "regularizer": self.regularizer,
        }

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        indices = R.astype(x, np.int64) if is_float(x.dtype) else x
        return R.gather(weights["W"], indices, axis=0)


class PositionalEmbedding(Layer):
    """A learned vector for each step is added to a series (steps, features).

    Args:
        max_length: rows of the table; None for as many as the series has steps.
        initializer: a name in `initializers.INITIALIZERS`.

    Weights: `W` of shape (max_length, features).
    """

    def __init__(
        self,
        max_length: int | None = None,
        initializer: InitializerLike = "random_uniform",
        input_shape: object = None,
    ) -> None:
        super().__init__(input_shape)
        self.max_length = None if max_length is None else positive(max_length, "max_length")
        self.initializer = initializer_named(initializer)

    def shape_after(self, input_shape: Shape) -> Shape:
        _, (steps,) = spatial(input_shape, "PositionalEmbedding", 1)
        if self.max_length is not None and steps > self.max_length:
            raise ShapeError(
                "the series is longer than the table of positions",
                expected=f"at most {self.max_length} steps",
                received=steps,
            )
        return input_shape

    def weights(self) -> tuple[WeightSpec, ...]:
        steps, features = self.input_shape
        return (spec("W", (self.max_length or steps, features), self.initializer),)

    def parameters(self) -> dict[str, Any]:
        return {"max_length": self.max_length, "initializer": self.initializer}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        steps, table = self.input_shape[0], weights["W"]
        return x + (table if table.static_shape[0] == steps else table[:steps])


class SinusoidalEmbedding(Layer):
    """Fixed waves of each step's position are added to a series (steps, features) (Vaswani et al. 2017): at even
    features 2i the sine of position / max_wavelength^(2i / features), at odd ones 2i + 1 its cosine.
    """

    def __init__(self, max_wavelength: int = 10_000, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.max_wavelength = positive(max_wavelength, "max_wavelength")

    def shape_after(self, input_shape: Shape) -> Shape:
        spatial(input_shape, "SinusoidalEmbedding", 1)
        return input_shape

    def parameters(self) -> dict[str, Any]:
        return {"max_wavelength": self.max_wavelength}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        steps, features = self.input_shape
        feature = np.arange(features)
        positions = np.arange(steps, dtype=np.float32)[:, None]
        rates = self.max_wavelength ** (-2 * (feature // 2) / features)
        quarters = (feature % 2) * (np.pi / 2)
        # Computed, so that the graph does not grow with the table; a cosine is a sine a quarter of a turn later.
        row, rate, turn = (x.graph.constant(v.astype(x.dtype)) for v in (positions, rates, quarters))
        return x + R.sin(row * rate + turn)
