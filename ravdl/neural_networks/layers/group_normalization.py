"""Normalizations within each example: over groups of its channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ravdl.neural_networks.layers.arguments import Shape, above_zero, positive
from ravdl.neural_networks.layers.layer import Layer, WeightSpec
from ravdl.neural_networks.layers.options import spec
from ravdl.neural_networks.layers.windows import apply, channels_back, channels_first, spatial
from ravop.errors import ShapeError
from ravop.graph import Op


class GroupNormalization(Layer):
    """y = gamma (x - mean) / √(variance + epsilon) + beta, with mean and biased variance over each group of channels of
    each example, gamma and beta for each channel (Wu & He 2018).

    Args:
        groups: into how many the channels are split.
        epsilon: above 0.

    Of series (steps, features), whose features are the channels, images (channels, height, width) and volumes.
    Weights: `gamma` and `beta` of shape (channels,).
    """

    def __init__(self, groups: int = 32, epsilon: float = 1e-5, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.groups = positive(groups, "groups")
        self.epsilon = above_zero(epsilon, "epsilon")

    def shape_after(self, input_shape: Shape) -> Shape:
        channels = channels_of(input_shape, "GroupNormalization")
        if channels % self.groups:
            raise ShapeError(
                "the channels cannot be split into equal groups",
                expected=f"a multiple of {self.groups}",
                received=channels,
                hint="choose groups that divide the channels",
            )
        return input_shape

    def weights(self) -> tuple[WeightSpec, ...]:
        return per_channel(channels_of(self.input_shape, "GroupNormalization"))

    def parameters(self) -> dict[str, Any]:
        return {"groups": self.groups, "epsilon": self.epsilon}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        x = channels_first(x)
        attributes = {"num_groups": self.groups, "epsilon": self.epsilon}
        (output,) = x.graph.apply(
            "GroupNormalization",
            [x, weights["gamma"], weights["beta"]],
            attributes,
            outputs=[(x.dtype, x.shape)],
        )
        return channels_back(output)


class InstanceNormalization(Layer):
    """y = gamma (x - mean) / √(variance + epsilon) + beta, with mean and biased variance over each channel of each
    example (Ulyanov et al. 2016). Of series (steps, features), images (channels, height, width) and volumes.

    Weights: `gamma` and `beta` of shape (channels,).
    """

    def __init__(self, epsilon: float = 1e-5, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.epsilon = above_zero(epsilon, "epsilon")

    def shape_after(self, input_shape: Shape) -> Shape:
        channels_of(input_shape, "InstanceNormalization")
        return input_shape

    def weights(self) -> tuple[WeightSpec, ...]:
        return per_channel(channels_of(self.input_shape, "InstanceNormalization"))

    def parameters(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        inputs = [x, weights["gamma"], weights["beta"]]
        return apply("InstanceNormalization", inputs, {"epsilon": self.epsilon})


def channels_of(shape: Shape, layer: str) -> int:
    """Channels of a series, an image or a volume. Raises `ShapeError` for another shape."""
    if not 2 <= len(shape) <= 4:
        raise ShapeError(
            f"{layer} takes series, images or volumes",
            expected="(steps, features), (channels, height, width) or (channels, depth, height, width)",
            received=shape,
        )
    return spatial(shape, layer, len(shape) - 1)[0]


def per_channel(channels: int) -> tuple[WeightSpec, ...]:
    return spec("gamma", (channels,), "ones"), spec("beta", (channels,), "zeros")
