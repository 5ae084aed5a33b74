"""MaxPooling2D: the largest value under a sliding window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ravdl.neural_networks.layers.arguments import Shape
from ravdl.neural_networks.layers.layer import Layer
from ravdl.neural_networks.layers.windows import Padding, image_sizes, window
from ravop.errors import ArgumentError
from ravop.graph import Op


class MaxPooling2D(Layer):
    """The maximum over windows of an image (channels, height, width). Padding counts as −∞, so it is never
    the maximum.

    Args:
        pool_shape: (height, width) of the window, or one size for both.
        stride: how far the window moves; the default 1 does not shrink the image.
        padding: `"same"`, `"valid"` or sizes, see `windows.Window`; smaller than the window.
    """

    def __init__(
        self,
        pool_shape: object = (2, 2),
        stride: object = 1,
        padding: Padding = "same",
        input_shape: object = None,
    ) -> None:
        super().__init__(input_shape)
        self.window = window(pool_shape, stride, padding, "pool_shape")
        if not isinstance(self.window.padding, str):
            for size, sides in zip(self.window.size, self.window.padding, strict=True):
                if max(sides) >= size:
                    raise ArgumentError(
                        "the padding is as large as the window, so some maxima would be over nothing",
                        expected=f"less than pool_shape {self.window.size}",
                        received=repr(padding),
                    )

    def shape_after(self, input_shape: Shape) -> Shape:
        channels, height, width = image_sizes(input_shape, "MaxPooling2D")
        return (channels, *self.window.positions(height, width))

    def parameters(self) -> dict[str, Any]:
        return {"pool_shape": self.window.size, "stride": self.window.stride, "padding": self.window.padding}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        _, height, width = self.input_shape
        (output,) = x.graph.apply("MaxPool", [x], self.window.attributes(height, width))
        return output
