"""Layers that add, take away or repeat what is at the edges or between: padding, cropping, enlarging."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

import ravop as R
from ravdl.neural_networks.layers.arguments import Shape, choice, each, positive, sides
from ravdl.neural_networks.layers.layer import Layer
from ravdl.neural_networks.layers.windows import channels_back, channels_first, formed, spatial
from ravop.errors import ShapeError
from ravop.graph import Op


class Margins(Layer):
    """What padding and cropping have in common: (before, after) for each spatial axis."""

    rank: ClassVar[int]
    argument: ClassVar[str]

    def __init__(self, margins: object, input_shape: object) -> None:
        super().__init__(input_shape)
        self.margins = sides(margins, self.argument, self.rank)

    def parameters(self) -> dict[str, Any]:
        return {self.argument: self.margins}

    def per_axis(self) -> list[tuple[int, int]]:
        """As `margins`, with pairs of zeros for the batch and the channels."""
        none = (0, 0)
        return [none, *self.margins, none] if self.rank == 1 else [none, none, *self.margins]


class ZeroPadding(Margins):
    """Zeros around series, images or volumes."""

    argument = "padding"

    def __init__(self, padding: object = 1, input_shape: object = None) -> None:
        super().__init__(padding, input_shape)

    def shape_after(self, input_shape: Shape) -> Shape:
        channels, lengths = spatial(input_shape, type(self).__name__, self.rank)
        return formed(channels, tuple(n + sum(m) for n, m in zip(lengths, self.margins, strict=True)))

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return R.pad(x, self.per_axis())


class Cropping(Margins):
    """Elements are cut off at the edges."""

    argument = "cropping"

    def __init__(self, cropping: object = 1, input_shape: object = None) -> None:
        super().__init__(cropping, input_shape)

    def shape_after(self, input_shape: Shape) -> Shape:
        kind = type(self).__name__
        channels, lengths = spatial(input_shape, kind, self.rank)
        left = tuple(n - sum(m) for n, m in zip(lengths, self.margins, strict=True))
        if min(left) < 1:
            raise ShapeError(
                f"{kind} leaves nothing",
                expected=f"sizes above {tuple(map(sum, self.margins))}",
                received=lengths,
            )
        return formed(channels, left)

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        pairs = self.per_axis()
        index = tuple(slice(before or None, -after or None) for before, after in pairs)
        return x[index] if any(map(any, pairs)) else x


class ZeroPadding1D(ZeroPadding):
    """Zeros before and after a series (steps, features). `padding`: one number, or (before, after)."""

    rank = 1


class ZeroPadding2D(ZeroPadding):
    """Zeros around an image (channels, height, width). `padding`: one number, (height, width) or
    ((top, bottom), (left, right)).
    """

    rank = 2


class ZeroPadding3D(ZeroPadding):
    """Zeros around a volume (channels, depth, height, width). `padding` as `ZeroPadding2D`'s, with three sizes."""

    rank = 3


class Cropping1D(Cropping):
    """Steps of a series (steps, features) are cut off. `cropping`: one number, or (before, after)."""

    rank = 1


class Cropping2D(Cropping):
    """Rows and columns of an image (channels, height, width) are cut off. `cropping`: one number, (height, width) or
    ((top, bottom), (left, right)).
    """

    rank = 2


class Cropping3D(Cropping):
    """The faces of a volume (channels, depth, height, width) are cut off. `cropping` as `Cropping2D`'s, with three sizes."""

    rank = 3


class UpSampling1D(Layer):
    """Each step of a series (steps, features) `size` times."""

    def __init__(self, size: int = 2, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.size = positive(size, "size")

    def shape_after(self, input_shape: Shape) -> Shape:
        features, (steps,) = spatial(input_shape, "UpSampling1D", 1)
        return steps * self.size, features

    def parameters(self) -> dict[str, Any]:
        return {"size": self.size}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return channels_back(enlarged(channels_first(x), (self.size,), "nearest"))


class UpSampling2D(Layer):
    """An image (channels, height, width) made larger by whole factors.

    Args:
        size: factor, or (factor of the height, factor of the width).
        interpolation: `"nearest"` repeats pixels; `"bilinear"` mixes neighbours, with pixels as areas (PyTorch's
            `align_corners=False`).
    """

    def __init__(self, size: object = 2, interpolation: str = "nearest", input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.size = each(size, "size", 2)
        self.interpolation = choice(interpolation, "interpolation", _MODES)

    def shape_after(self, input_shape: Shape) -> Shape:
        channels, lengths = spatial(input_shape, "UpSampling2D", 2)
        return formed(channels, tuple(n * factor for n, factor in zip(lengths, self.size, strict=True)))

    def parameters(self) -> dict[str, Any]:
        return {"size": self.size, "interpolation": self.interpolation}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return enlarged(x, self.size, self.interpolation)


class UpSampling3D(Layer):
    """A volume (channels, depth, height, width) made larger by whole factors: one, or one for each axis."""

    def __init__(self, size: object = 2, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.size = each(size, "size", 3)

    def shape_after(self, input_shape: Shape) -> Shape:
        channels, lengths = spatial(input_shape, "UpSampling3D", 3)
        return formed(channels, tuple(n * factor for n, factor in zip(lengths, self.size, strict=True)))

    def parameters(self) -> dict[str, Any]:
        return {"size": self.size}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return enlarged(x, self.size, "nearest")


_MODES: dict[str, dict[str, str]] = {
    "nearest": {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    },
    "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
}
"""ONNX's attributes of Resize."""


def enlarged(x: Op, factors: Shape, interpolation: str) -> Op:
    """(batch, channels, …) with its spatial axes larger by these factors."""
    scales = x.graph.constant(np.array([1, 1, *factors], dtype=np.float32))
    shape = (*x.shape[:2], *(n * f for n, f in zip(x.shape[2:], factors, strict=True)))  # type: ignore[operator]
    (output,) = x.graph.apply("Resize", [x, None, scales], _MODES[interpolation], outputs=[(x.dtype, shape)])
    return output
