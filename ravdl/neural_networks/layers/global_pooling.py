"""Pooling over whole series, images and volumes: one number for each channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import ravop as R
from ravdl.neural_networks.layers.arguments import Shape, flag
from ravdl.neural_networks.layers.layer import Layer
from ravdl.neural_networks.layers.windows import formed, spatial
from ravop.graph import Op


class GlobalPooling(Layer):
    """What all global poolings have in common.

    Args:
        keepdims: keep the spatial axes, with size 1.
    """

    rank: ClassVar[int]

    def __init__(self, keepdims: bool = False, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.keepdims = flag(keepdims, "keepdims")

    def shape_after(self, input_shape: Shape) -> Shape:
        channels, _ = spatial(input_shape, type(self).__name__, self.rank)
        return formed(channels, (1,) * self.rank) if self.keepdims else (channels,)

    def parameters(self) -> dict[str, Any]:
        return {"keepdims": self.keepdims}

    @property
    def axes(self) -> tuple[int, ...]:
        return (1,) if self.rank == 1 else tuple(range(2, self.rank + 2))


class GlobalAveragePooling(GlobalPooling):
    """The mean of each channel."""

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return R.mean(x, axis=self.axes, keepdims=self.keepdims)


class GlobalMaxPooling(GlobalPooling):
    """The maximum of each channel."""

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return R.max(x, axis=self.axes, keepdims=self.keepdims)


class GlobalAveragePooling1D(GlobalAveragePooling):
    """The mean over the steps of a series: (steps, features) → (features,)."""

    rank = 1


class GlobalAveragePooling2D(GlobalAveragePooling):
    """The mean over each channel of an image: (channels, height, width) → (channels,)."""

    rank = 2


class GlobalAveragePooling3D(GlobalAveragePooling):
    """The mean over each channel of a volume: (channels, depth, height, width) → (channels,)."""

    rank = 3


class GlobalMaxPooling1D(GlobalMaxPooling):
    """The maximum over the steps of a series: (steps, features) → (features,)."""

    rank = 1


class GlobalMaxPooling2D(GlobalMaxPooling):
    """The maximum over each channel of an image: (channels, height, width) → (channels,)."""

    rank = 2


class GlobalMaxPooling3D(GlobalMaxPooling):
    """The maximum over each channel of a volume: (channels, depth, height, width) → (channels,)."""

    rank = 3
