"""Pooling under a sliding window: the largest value, or the mean.

By default the window moves by one and the input is padded, so that pooling does not shrink it; `stride=None` lays the
windows side by side, which with `padding="valid"` is Keras's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ravdl.neural_networks.layers.arguments import Shape, flag
from ravdl.neural_networks.layers.layer import Layer
from ravdl.neural_networks.layers.windows import Padding, apply, formed, spatial, window
from ravop.errors import ArgumentError
from ravop.graph import Op


class Pooling(Layer):
    """What all poolings under windows have in common; `pool_shape` is one size, or one for each axis."""

    rank: ClassVar[int]

    def __init__(
        self,
        pool_shape: object = 2,
        stride: object = 1,
        padding: Padding = "same",
        input_shape: object = None,
    ) -> None:
        super().__init__(input_shape)
        self.window = window(
            pool_shape, pool_shape if stride is None else stride, padding, "pool_shape", self.rank
        )
        if self.window.padding == "causal":
            raise ArgumentError(
                "pooling cannot be causal", expected="'same', 'valid' or sizes", received=padding
            )
        if not isinstance(self.window.padding, str):
            for size, sides in zip(self.window.size, self.window.padding, strict=True):
                if max(sides) >= size:
                    raise ArgumentError(
                        "the padding is as large as the window, so some windows would be over nothing",
                        expected=f"less than pool_shape {self.window.size}",
                        received=repr(padding),
                    )

    def shape_after(self, input_shape: Shape) -> Shape:
        channels, lengths = spatial(input_shape, type(self).__name__, self.rank)
        return formed(channels, self.window.positions(*lengths))

    def parameters(self) -> dict[str, Any]:
        return {"pool_shape": self.window.size, "stride": self.window.stride, "padding": self.window.padding}

    def pooled(self, op_type: str, x: Op, **more: int) -> Op:
        _, lengths = spatial(self.input_shape, type(self).__name__, self.rank)
        return apply(op_type, [x], {**self.window.attributes(*lengths), **more})


class MaxPooling(Pooling):
    """The maximum over windows."""

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return self.pooled("MaxPool", x)


class AveragePooling(Pooling):
    """The mean over windows."""

    def __init__(
        self,
        pool_shape: object = 2,
        stride: object = 1,
        padding: Padding = "same",
        count_padding: bool = False,
        input_shape: object = None,
    ) -> None:
        super().__init__(pool_shape, stride, padding, input_shape)
        self.count_padding = flag(count_padding, "count_padding")

    def parameters(self) -> dict[str, Any]:
        return {**super().parameters(), "count_padding": self.count_padding}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return self.pooled("AveragePool", x, count_include_pad=int(self.count_padding))


class MaxPooling1D(MaxPooling):
    """The maximum over windows of a series (steps, features). Arguments as `MaxPooling2D`'s, with one size."""

    rank = 1


class MaxPooling2D(MaxPooling):
    """The maximum over windows of an image (channels, height, width). Padding counts as −∞, so it is never
    the maximum.

    Args:
        pool_shape: (height, width) of the window, or one size for both.
        stride: how far the window moves; the default 1 does not shrink the image, None is the window's size.
        padding: `"same"`, `"valid"` or sizes, see `windows.Window`; smaller than the window.
    """

    rank = 2


class MaxPooling3D(MaxPooling):
    """The maximum over windows of a volume (channels, depth, height, width). Arguments as `MaxPooling2D`'s, with three
    sizes.
    """

    rank = 3


class AveragePooling1D(AveragePooling):
    """The mean over windows of a series (steps, features). Arguments as `AveragePooling2D`'s, with one size."""

    rank = 1


class AveragePooling2D(AveragePooling):
    """The mean over windows of an image (channels, height, width).

    Args:
        pool_shape, stride, padding: as for `MaxPooling2D`.
        count_padding: whether padding counts, as zeros (PyTorch's default); else the mean is over what is inside of the
            image (Keras).
    """

    rank = 2


class AveragePooling3D(AveragePooling):
    """The mean over windows of a volume (channels, depth, height, width). Arguments as `AveragePooling2D`'s, with three
    sizes.
    """

    rank = 3
