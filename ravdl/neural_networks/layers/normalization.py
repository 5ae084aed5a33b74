"""BatchNormalization: each channel is brought to mean 0 and variance 1, then scaled and shifted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import ravop as R
from ravdl.neural_networks.initializers import INITIALIZERS
from ravdl.neural_networks.layers.arguments import Shape, above_zero, fraction
from ravdl.neural_networks.layers.layer import Layer, Moment, WeightSpec
from ravdl.neural_networks.layers.windows import channels_back, channels_first
from ravdl.neural_networks.means import shares, weighted
from ravop.errors import ShapeError
from ravop.graph import Op


class BatchNormalization(Layer):
    """y = gamma (x - mean) / √(variance + epsilon) + beta, for each feature of rows (features,) and series
    (steps, features), or channel of images and volumes (channels, …) (Ioffe & Szegedy 2015).

    In training, mean and variance are the batch's; the variance that normalises is the biased one (divided by
    n), as in the paper, in Keras and in PyTorch. In inference they are the running ones, which each step
    moves as Keras does: running = momentum * running + (1 - momentum) * batch (PyTorch's momentum is 1 - this
    one). The variance that enters `running_var` is the unbiased one (divided by n - 1), as in PyTorch,
    because it estimates that of all data; for a single value, where that is undefined, the biased one.

    Args:
        momentum: from 0 to below 1.
        epsilon: above 0.

    Weights, each of shape (channels,): `gamma` and `beta`, moved by the optimizer; `running_mean` and
    `running_var`.
    """

    mixes_examples = True

    def __init__(self, momentum: float = 0.99, epsilon: float = 1e-5, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.momentum = fraction(momentum, "momentum")
        self.epsilon = above_zero(epsilon, "epsilon")

    def shape_after(self, input_shape: Shape) -> Shape:
        if not 1 <= len(input_shape) <= 4:
            raise ShapeError(
                "BatchNormalization takes rows, series, images or volumes",
                expected="(features,), (steps, features), (channels, height, width) or one size more",
                received=input_shape,
            )
        return input_shape

    @property
    def channels(self) -> int:
        return self.input_shape[-1 if len(self.input_shape) == 2 else 0]

    def weights(self) -> tuple[WeightSpec, ...]:
        shape = (self.channels,)
        return (
            WeightSpec("gamma", shape, INITIALIZERS["ones"]),
            WeightSpec("beta", shape, INITIALIZERS["zeros"]),
            WeightSpec("running_mean", shape, INITIALIZERS["zeros"], trainable=False),
            WeightSpec("running_var", shape, INITIALIZERS["ones"], trainable=False),
        )

    def parameters(self) -> dict[str, Any]:
        return {"momentum": self.momentum, "epsilon": self.epsilon}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        gamma, beta, mean, variance = (weights[spec.name] for spec in self.weights())
        x = channels_first(x)
        return channels_back(R.batch_normalization(x, gamma, beta, mean, variance, self.epsilon))

    def train(self, x: Op, weights: Mapping[str, Op], moment: Moment) -> tuple[Op, dict[str, Op]]:
        x = channels_first(x)
        y, mean, variance = R.batch_normalization_training(x, weights["gamma"], weights["beta"], self.epsilon)
        return channels_back(y), self._moved(weights, mean, variance, self._values(x))

    def train_shards(
        self, xs: Sequence[Op], weights: Sequence[Mapping[str, Op]], moments: Sequence[Moment]
    ) -> tuple[list[Op], dict[str, Op]]:
        """Statistics of the whole batch, put together from means and variances of the shards, which are what machines
        exchange (as PyTorch's `SyncBatchNorm`); by the formula of Chan, Golub & LeVeque (1979), which subtracts no large
        sums from each other.
        """
        xs = [channels_first(x) for x in xs]
        counts = [self._values(x) for x in xs]
        parts = shares(counts)
        found = [_statistics(x) for x in xs]
        mean = weighted([own for own, _ in found], parts)
        # the weighted sum of own - mean is 0, so that the mean's own gradient through the squares is too.
        fixed = R.stop_gradient(mean)
        variance = weighted([own + R.square(centre - fixed) for centre, own in found], parts)
        ys = [
            channels_back(R.batch_normalization(x, w["gamma"], w["beta"], mean, variance, self.epsilon))
            for x, w in zip(xs, weights, strict=True)
        ]
        return ys, self._moved(weights[0], mean, variance, sum(counts))

    def _values(self, x: Op) -> int:
        """Elements in a channel."""
        return math.prod(x.static_shape) // self.channels

    def _moved(self, weights: Mapping[str, Op], mean: Op, variance: Op, values: int) -> dict[str, Op]:
        """The running statistics after a batch with these, of so many values a channel."""
        bessel = values / max(values - 1, 1)
        keep, take = self.momentum, 1 - self.momentum
        return {
            "running_mean": weights["running_mean"] * keep + mean * take,
            "running_var": weights["running_var"] * keep + variance * (take * bessel),
        }


def _statistics(x: Op) -> tuple[Op, Op]:
    """Mean and biased variance of each channel of (N, C, …), each (C,)."""
    axes = (0, *range(2, x.ndim))
    mean = R.mean(x, axis=axes)
    # the sum of x - mean is 0, so that the mean's own gradient through the squares is too
    centred = x - R.reshape(R.stop_gradient(mean), (-1, *(1,) * (x.ndim - 2)))
    return mean, R.mean(R.square(centred), axis=axes)
