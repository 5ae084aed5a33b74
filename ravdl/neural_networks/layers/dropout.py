"""Dropout: random inputs are silenced while training."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import ravop as R
from ravdl.neural_networks.layers.arguments import fraction
from ravdl.neural_networks.layers.layer import Layer, Moment
from ravop.graph import Op


class Dropout(Layer):
    """Set each input to zero with probability `p`, and divide the others by 1 - p, so that the mean stays.
    Idle in inference.

    The mask depends on the model's seed, the layer's name and the training step alone: no two steps share
    one, and a step that is computed a second time, on whatever machine, has the same. Neither does an example's mask
    change when its batch is cut into shards.
    """

    mixes_examples = False

    def __init__(self, p: float = 0.2, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.p = fraction(p, "p")

    def parameters(self) -> dict[str, Any]:
        return {"p": self.p}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return x

    def train(self, x: Op, weights: Mapping[str, Op], moment: Moment) -> tuple[Op, dict[str, Op]]:
        if self.p == 0:
            return x, {}
        key = R.random_key(moment.seed, zlib.crc32(self.name.encode()), moment.step)
        kept = R.bernoulli(1 - self.p, x.static_shape, key=key, part=moment.part(x))
        return R.dropout(x, kept, self.p), {}
