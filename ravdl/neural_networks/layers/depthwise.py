"""Convolutions of series and images channel by channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from ravdl.neural_networks.layers.arguments import Shape, positive
from ravdl.neural_networks.layers.convolution import output_activation
from ravdl.neural_networks.layers.layer import WeightSpec
from ravdl.neural_networks.layers.options import Activated, KernelOptions, kernel_from
from ravdl.neural_networks.layers.windows import Padding, apply, formed, spatial, window
from ravop.graph import Op


class ChannelByChannel(Activated):
    """What the layers here have in common: a window, and filters for each channel."""

    rank: ClassVar[int]

    def __init__(
        self,
        filter_shape: object,
        padding: Padding,
        stride: object,
        input_shape: object,
        depth_multiplier: int,
        dilation: object,
        options: KernelOptions,
    ) -> None:
        kind = type(self).__name__
        self.kernel = kernel_from(kind, **options)
        super().__init__(output_activation(self.kernel.activation, kind, self.rank), input_shape)
        self.window = window(filter_shape, stride, padding, "filter_shape", self.rank, dilation)
        self.depth_multiplier = positive(depth_multiplier, "depth_multiplier")

    def parameters(self) -> dict[str, Any]:
        return {
            "filter_shape": self.window.size,
            "padding": self.window.padding,
            "stride": self.window.stride,
            "depth_multiplier": self.depth_multiplier,
            "dilation": self.window.dilation,
            **self.kernel.parameters(),
        }

    def positions(self, input_shape: Shape) -> tuple[int, Shape]:
        """(channels after the filters of each channel, spatial sizes of the output)."""
        channels, lengths = spatial(input_shape, type(self).__name__, self.rank)
        return channels * self.depth_multiplier, self.window.positions(*lengths)

    def filtered(self, x: Op, *weights: Op) -> Op:
        """The convolution by filters (channels · depth_multiplier, 1, …), and a bias where one is given."""
        channels, lengths = spatial(self.input_shape, type(self).__name__, self.rank)
        return apply("Conv", [x, *weights], {**self.window.attributes(*lengths), "group": channels})


class DepthwiseConvolution(ChannelByChannel):
    """Each channel by itself."""

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
        super().__init__(filter_shape, padding, stride, input_shape, depth_multiplier, dilation, options)

    def shape_after(self, input_shape: Shape) -> Shape:
        return formed(*self.positions(input_shape))

    def weights(self) -> tuple[WeightSpec, ...]:
        filters, _ = self.positions(self.input_shape)
        return (self.kernel.kernel((filters, 1, *self.window.size)), *self.kernel.bias((filters,)))

    def call_raw(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return self.filtered(x, weights["W"], *([weights["w0"]] if self.kernel.use_bias else []))


class SeparableConvolution(ChannelByChannel):
    """Each channel by itself, then all channels of each place."""

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
        super().__init__(filter_shape, padding, stride, input_shape, depth_multiplier, dilation, options)
        self.n_filters = positive(n_filters, "n_filters")

    def shape_after(self, input_shape: Shape) -> Shape:
        return formed(self.n_filters, self.positions(input_shape)[1])

    def weights(self) -> tuple[WeightSpec, ...]:
        middle, _ = self.positions(self.input_shape)
        return (
            self.kernel.kernel((middle, 1, *self.window.size), "depthwise_W"),
            self.kernel.kernel((self.n_filters, middle, *(1,) * self.rank), "pointwise_W"),
            *self.kernel.bias((self.n_filters,)),
        )

    def parameters(self) -> dict[str, Any]:
        return {"n_filters": self.n_filters, **super().parameters()}

    def call_raw(self, x: Op, weights: Mapping[str, Op]) -> Op:
        middle = self.filtered(x, weights["depthwise_W"])
        bias = [weights["w0"]] if self.kernel.use_bias else []
        return apply("Conv", [middle, weights["pointwise_W"], *bias], {"kernel_shape": [1] * self.rank})


class DepthwiseConv1D(DepthwiseConvolution):
    """Each feature of a series (steps, features) is convolved by itself, with `depth_multiplier` filters.

    Arguments as `Conv1D`'s; the output has features · depth_multiplier features, those of one input feature side by side.

    Weights: `W` of shape (features · depth_multiplier, 1, steps), `w0` of shape (features · depth_multiplier,).
    """

    rank = 1


class DepthwiseConv2D(DepthwiseConvolution):
    """Each channel of an image (channels, height, width) is convolved by itself, with `depth_multiplier` filters.

    Arguments as `Conv2D`'s; the output has channels · depth_multiplier channels, those of one input channel side by side.

    Weights: `W` of shape (channels · depth_multiplier, 1, height, width), `w0` of shape (channels · depth_multiplier,).
    """

    rank = 2


class SeparableConv1D(SeparableConvolution):
    """A depthwise convolution of series (steps, features), and one of single steps that mixes their features.

    Arguments as `Conv1D`'s; `depth_multiplier` as `DepthwiseConv1D`'s.

    Weights: `depthwise_W` of shape (features · depth_multiplier, 1, steps), `pointwise_W` of shape
    (n_filters, features · depth_multiplier, 1), `w0` of shape (n_filters,).
    """

    rank = 1


class SeparableConv2D(SeparableConvolution):
    """A depthwise convolution, and one of single pixels that mixes their channels (Chollet 2017).

    Arguments as `Conv2D`'s; `depth_multiplier` as `DepthwiseConv2D`'s.

    Weights: `depthwise_W` of shape (channels · depth_multiplier, 1, height, width), `pointwise_W` of shape
    (n_filters, channels · depth_multiplier, 1, 1), `w0` of shape (n_filters,).
    """

    rank = 2
