"""Layers that disturb training with random numbers and are idle in inference.

What is drawn depends on the model's seed, the layer's name and the training step alone: no two steps share a draw, and a
step that is computed a second time, on whatever machine, has the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

import ravop as R
from ravdl.neural_networks.layers.arguments import Shape, fraction, not_negative
from ravdl.neural_networks.layers.layer import Layer, Moment
from ravdl.neural_networks.layers.windows import channels_back, channels_first, spatial
from ravop.graph import Op


class Noise(Layer):
    """What all layers here have in common: one number that tells how strong, and nothing to do where it is 0."""

    mixes_examples = False

    @property
    def strength(self) -> float:
        raise NotImplementedError

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return x

    def train(self, x: Op, weights: Mapping[str, Op], moment: Moment) -> tuple[Op, dict[str, Op]]:
        return (self.disturbed(x, moment) if self.strength else x), {}

    def disturbed(self, x: Op, moment: Moment) -> Op:
        """x in training."""
        raise NotImplementedError

    def normal(self, x: Op, moment: Moment) -> Op:
        """Normal numbers of mean 0 and deviation 1, in the shape of x: those of its examples in a whole batch."""
        shape = x.static_shape
        if moment.batch is None:
            return R.random_normal(size=shape, key=moment.key(self.name))
        drawn = R.random_normal(size=(moment.batch, *shape[1:]), key=moment.key(self.name))
        return drawn[moment.first : moment.first + shape[0]]


class RandomDropping(Noise):
    """What the dropouts have in common: the probability `p` of an input to be dropped."""

    def __init__(self, p: float = 0.2, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.p = fraction(p, "p")

    @property
    def strength(self) -> float:
        return self.p

    def parameters(self) -> dict[str, Any]:
        return {"p": self.p}


class Dropout(RandomDropping):
    """Set each input to zero with probability `p`, and divide the others by 1 - p, so that the mean stays
    (Srivastava et al. 2014). Idle in inference.

    The mask depends on the model's seed, the layer's name and the training step alone: no two steps share
    one, and a step that is computed a second time, on whatever machine, has the same. Neither does an example's mask
    change when its batch is cut into shards.
    """

    def disturbed(self, x: Op, moment: Moment) -> Op:
        return dropped(x, self.p, moment, self.name)


def dropped(x: Op, p: float, moment: Moment, name: str) -> Op:
    """x after a dropout that draws by `name`."""
    kept = R.bernoulli(1 - p, x.static_shape, key=moment.key(name), part=moment.part(x))
    return R.dropout(x, kept, p)


class SpatialDropout(Dropout):
    """Dropout of whole channels: one draw for all places."""

    rank: ClassVar[int]

    def shape_after(self, input_shape: Shape) -> Shape:
        spatial(input_shape, type(self).__name__, self.rank)
        return input_shape

    def disturbed(self, x: Op, moment: Moment) -> Op:
        first = channels_back(channels_first(x)[(np.s_[:], np.s_[:], *[np.s_[:1]] * self.rank)])
        return x * dropped(R.ones_like(first), self.p, moment, self.name)


class SpatialDropout1D(SpatialDropout):
    """Dropout of whole features of a series (steps, features): one draw for all steps (Tompson et al. 2015)."""

    rank = 1


class SpatialDropout2D(SpatialDropout):
    """Dropout of whole channels of an image (channels, height, width) (Tompson et al. 2015)."""

    rank = 2


class SpatialDropout3D(SpatialDropout):
    """Dropout of whole channels of a volume (channels, depth, height, width) (Tompson et al. 2015)."""

    rank = 3


class GaussianNoise(Noise):
    """Normal noise of mean 0 and this standard deviation is added."""

    def __init__(self, stddev: float, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.stddev = not_negative(stddev, "stddev")

    @property
    def strength(self) -> float:
        return self.stddev

    def parameters(self) -> dict[str, Any]:
        return {"stddev": self.stddev}

    def disturbed(self, x: Op, moment: Moment) -> Op:
        return x + self.normal(x, moment) * self.stddev


class GaussianDropout(RandomDropping):
    """Each input times a normal number of mean 1 and variance p / (1 - p), as dropout has (Srivastava et al. 2014)."""

    def disturbed(self, x: Op, moment: Moment) -> Op:
        return x * (self.normal(x, moment) * math.sqrt(self.p / (1 - self.p)) + 1.0)


_LIMIT = -1.7580993408473766
"""What selu tends to for small x: −scale · alpha (Klambauer et al. 2017)."""


class AlphaDropout(RandomDropping):
    """Dropout that keeps mean 0 and variance 1, for networks of `selu` (Klambauer et al. 2017): what is dropped becomes
    selu's lower limit a', and all is then scaled and shifted by a = ((1 - p)(1 + p a'²))^(-1/2) and b = -a p a'.
    """

    def disturbed(self, x: Op, moment: Moment) -> Op:
        drawn = R.bernoulli(1 - self.p, x.static_shape, key=moment.key(self.name), part=moment.part(x))
        kept = R.astype(drawn, x.dtype)
        scale = 1 / math.sqrt((1 - self.p) * (1 + self.p * _LIMIT**2))
        return (x * kept + (1.0 - kept) * _LIMIT) * scale - scale * self.p * _LIMIT
