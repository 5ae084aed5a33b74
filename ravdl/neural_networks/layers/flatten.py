"""Flatten: an image becomes a row of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import ravop as R
from ravdl.neural_networks.layers.arguments import Shape
from ravdl.neural_networks.layers.layer import Layer
from ravop.graph import Op


class Flatten(Layer):
    """(batch, a, b, …) → (batch, a * b * …), in C order."""

    def shape_after(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return R.reshape(x, (-1, *self.output_shape))
