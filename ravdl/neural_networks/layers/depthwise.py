"""Convolutions of images channel by channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from ravdl.neural_networks.activations import of_channels_first
from ravdl.neural_networks.layers.arguments import Shape, positive
from ravdl.neural_networks.layers.layer import WeightSpec
from ravdl.neural_networks.layers.options import Activated, KernelOptions, kernel_from
from ravdl.neural_networks.layers.windows import Padding, apply, formed, spatial, window
from ravop.graph import Op


class DepthwiseConv2D(Activated):
    """Each channel of an image (channels, height, width) is convolved by itself, with `depth_multiplier` filters.

    Arguments as `Conv2D`'s; the output has channels · depth_multiplier channels, those of one input channel side by side.

    Weights: `W` of shape (channels · depth_multiplier, 1, height, width), `w0` of shape (channels · depth_multiplier,).
    """

    def __init__(
        self,
        filter_shape: object,
        padding: Padding = "same",
        stride: object = 1,
        input_shape: object = None,
        depth_multiplier: int = 1,
        dilation: object = 1,
        **options: Unpack[KernelOptions],
    ) -> None:
        self.kernel = kernel_from("DepthwiseConv2D", **options)
        super().__init__(of_channels_first(self.kernel.activation, "DepthwiseConv2D"), input_shape)
        self.window = window(filter_shape, stride, padding, "filter_shape", 2, dilation)
        self.depth_multiplier = positive(depth_multiplier, "depth_multiplier")

    def shape_after(self, input_shape: Shape) -> Shape:
        channels, lengths = spatial(input_shape, "DepthwiseConv2D", 2)
        return formed(channels * self.depth_multiplier, self.window.positions(*lengths))

    def weights(self) -> tuple[WeightSpec, ...]:
        filters = self.input_shape[0] * self.depth_multiplier
        return (self.kernel.kernel((filters, 1, *self.window.size)), *self.kernel.bias((filters,)))

    def parameters(self) -> dict[str, Any]:
        return {
            "filter_shape": self.window.size,
            "padding": self.window.padding,
            "stride": self.window.stride,
            "depth_multiplier": self.depth_multiplier,
            "dilation": self.window.dilation,
            **self.kernel.parameters(),
        }

    def call_raw(self, x: Op, weights: Mapping[str, Op]) -> Op:
        channels, *lengths = self.input_shape
        inputs = [x, weights["W"], *([weights["w0"]] if self.kernel.use_bias else [])]
        return apply("Conv", inputs, {**self.window.attributes(*lengths), "group": channels})


class SeparableConv2D(Activated):
    """A depthwise convolution, and one of 1 × 1 pixels that mixes its channels (Chollet 2017).

    Arguments as `Conv2D`'s; `depth_multiplier` as `DepthwiseConv2D`'s.

    Weights: `depthwise_W` of shape (channels · depth_multiplier, 1, height, width), `pointwise_W` of shape
    (n_filters, channels · depth_multiplier, 1, 1), `w0` of shape (n_filters,).
    """

    def __init__(
        self,
        n_filters: int,
        filter_shape: object,
        padding: Padding = "same",
        stride: object = 1,
        input_shape: object = None,
        depth_multiplier: int = 1,
        dilation: object = 1,
        **options: Unpack[KernelOptions],
    ) -> None:
        self.kernel = kernel_from("SeparableConv2D", **options)
        super().__init__(of_channels_first(self.kernel.activation, "SeparableConv2D"), input_shape)
        self.n_filters = positive(n_filters, "n_filters")
        self.window = window(filter_shape, stride, padding, "filter_shape", 2, dilation)
        self.depth_multiplier = positive(depth_multiplier, "depth_multiplier")

    def shape_after(self, input_shape: Shape) -> Shape:
        _, lengths = spatial(input_shape, "SeparableConv2D", 2)
        return formed(self.n_filters, self.window.positions(*lengths))

    def weights(self) -> tuple[WeightSpec, ...]:
        middle = self.input_shape[0] * self.depth_multiplier
        return (
            self.kernel.kernel((middle, 1, *self.window.size), "depthwise_W"),
            self.kernel.kernel((self.n_filters, middle, 1, 1), "pointwise_W"),
            *self.kernel.bias((self.n_filters,)),
        )

    def parameters(self) -> dict[str, Any]:
        return {
            "n_filters": self.n_filters,
            "filter_shape": self.window.size,
            "padding": self.window.padding,
            "stride": self.window.stride,
            "depth_multiplier": self.depth_multiplier,
            "dilation": self.window.dilation,
            **self.kernel.parameters(),
        }

    def call_raw(self, x: Op, weights: Mapping[str, Op]) -> Op:
        channels, *lengths = self.input_shape
        middle = apply(
            "Conv", [x, weights["depthwise_W"]], {**self.window.attributes(*lengths), "group": channels}
        )
        bias = [weights["w0"]] if self.kernel.use_bias else []
        return apply("Conv", [middle, weights["pointwise_W"], *bias], {"kernel_shape": [1, 1]})
