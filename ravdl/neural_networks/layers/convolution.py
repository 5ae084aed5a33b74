"""Conv2D: a bank of small filters slides over an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ravdl.neural_networks.initializers import INITIALIZERS, initializer_named
from ravdl.neural_networks.layers.arguments import Shape, positive
from ravdl.neural_networks.layers.layer import Layer, WeightSpec
from ravdl.neural_networks.layers.windows import Padding, image_sizes, window
from ravop.errors import ArgumentError
from ravop.graph import Op


class Conv2D(Layer):
    """Cross-correlation of images (channels, height, width) with `n_filters` filters, plus a bias per filter.

    Args:
        n_filters: channels of the output.
        filter_shape: (height, width) of a filter, or one size for both.
        padding: `"same"`, `"valid"` or sizes, see `windows.Window`.
        stride: how far the filters move.
        input_shape: `(channels, height, width)`; needed on the first layer.
        groups: input and output channels are split into this many independent groups.
        initializer: of W, a name in `initializers.INITIALIZERS`; w0 starts at zero.
        use_bias: whether w0 is there.

    Weights: `W` of shape (n_filters, channels / groups, height, width), `w0` of shape (n_filters,).
    """

    def __init__(
        self,
        n_filters: int,
        filter_shape: object,
        padding: Padding = "same",
        stride: object = 1,
        input_shape: object = None,
        groups: int = 1,
        initializer: str = "glorot_uniform",
        use_bias: bool = True,
    ) -> None:
        super().__init__(input_shape)
        self.n_filters = positive(n_filters, "n_filters")
        self.window = window(filter_shape, stride, padding, "filter_shape")
        self.groups = positive(groups, "groups")
        self.initializer = initializer_named(initializer)
        self.use_bias = use_bias
        if self.n_filters % self.groups:
            raise ArgumentError(
                "n_filters must be a multiple of groups",
                expected=f"a multiple of {groups}",
                received=n_filters,
            )

    def shape_after(self, input_shape: Shape) -> Shape:
        channels, height, width = image_sizes(input_shape, "Conv2D")
        if channels % self.groups:
            raise ArgumentError(
                "the input's channels must be a multiple of groups",
                expected=f"a multiple of {self.groups}",
                received=channels,
            )
        return (self.n_filters, *self.window.positions(height, width))

    def weights(self) -> tuple[WeightSpec, ...]:
        shape = (self.n_filters, self.input_shape[0] // self.groups, *self.window.size)
        kernel = WeightSpec("W", shape, INITIALIZERS[self.initializer])
        return (
            (kernel, WeightSpec("w0", (self.n_filters,), INITIALIZERS["zeros"]))
            if self.use_bias
            else (kernel,)
        )

    def parameters(self) -> dict[str, Any]:
        return {
            "n_filters": self.n_filters,
            "filter_shape": self.window.size,
            "padding": self.window.padding,
            "stride": self.window.stride,
            "groups": self.groups,
            "initializer": self.initializer,
            "use_bias": self.use_bias,
        }

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        _, height, width = self.input_shape
        inputs = [x, weights["W"], weights["w0"]] if self.use_bias else [x, weights["W"]]
        (output,) = x.graph.apply(
            "Conv", inputs, {**self.window.attributes(height, width), "group": self.groups}
        )
        return output
