"""Convolutions of series, images and volumes: a bank of small filters slides over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from ravdl.neural_networks.activations import activation_named, of_channels_first
from ravdl.neural_networks.layers.arguments import Shape, positive
from ravdl.neural_networks.layers.layer import WeightSpec
from ravdl.neural_networks.layers.options import Activated, KernelOptions, kernel_from
from ravdl.neural_networks.layers.windows import Padding, apply, formed, spatial, window
from ravop.errors import ArgumentError
from ravop.graph import Op


class FilterBank(Activated):
    """What convolutions and transposed convolutions have in common: all but how the filters are laid over the input."""

    rank: ClassVar[int]

    def __init__(
        self,
        n_filters: int,
        filter_shape: object,
        padding: Padding = "same",
        stride: object = 1,
        input_shape: object = None,
        groups: int = 1,
        dilation: object = 1,
        **options: Unpack[KernelOptions],
    ) -> None:
        kind = type(self).__name__
        self.kernel = kernel_from(kind, **options)
        super().__init__(output_activation(self.kernel.activation, kind, self.rank), input_shape)
        self.n_filters = positive(n_filters, "n_filters")
        self.window = window(filter_shape, stride, padding, "filter_shape", self.rank, dilation)
        self.groups = positive(groups, "groups")
        check_filters(self.n_filters, self.groups)

    def parameters(self) -> dict[str, Any]:
        return {
            "n_filters": self.n_filters,
            "filter_shape": self.window.size,
            "padding": self.window.padding,
            "stride": self.window.stride,
            "groups": self.groups,
            "dilation": self.window.dilation,
            **self.kernel.parameters(),
        }

    def operands(self, x: Op, weights: Mapping[str, Op]) -> list[Op]:
        """What the ONNX operator takes: x, the filters and, where there is one, the bias."""
        return [x, weights["W"], *([weights["w0"]] if self.kernel.use_bias else [])]

    def sample(self, shape: Shape) -> tuple[int, Shape]:
        """(channels, spatial sizes) of a sample of this shape. Raises `ShapeError`, `ArgumentError` where it does not fit."""
        channels, lengths = spatial(shape, type(self).__name__, self.rank)
        check_channels(channels, self.groups)
        return channels, lengths


class Convolution(FilterBank):
    """What Conv1D, Conv2D and Conv3D have in common: all but the number of spatial axes."""

    def shape_after(self, input_shape: Shape) -> Shape:
        _, lengths = self.sample(input_shape)
        return formed(self.n_filters, self.window.positions(*lengths))

    def weights(self) -> tuple[WeightSpec, ...]:
        channels, _ = self.sample(self.input_shape)
        kernel = self.kernel.kernel((self.n_filters, channels // self.groups, *self.window.size))
        return (kernel, *self.kernel.bias((self.n_filters,)))

    def call_raw(self, x: Op, weights: Mapping[str, Op]) -> Op:
        _, lengths = self.sample(self.input_shape)
        attributes = {**self.window.attributes(*lengths), "group": self.groups}
        return apply("Conv", self.operands(x, weights), attributes)


class Conv1D(Convolution):
    """Cross-correlation of series (steps, features) with `n_filters` filters, plus a bias per filter.

    Args:
        n_filters: features of the output.
        filter_shape: steps of a filter.
        padding: `"same"`, `"valid"`, `"causal"` or sizes, see `windows.Window`.
        stride: how far the filters move.
        input_shape: `(steps, features)`; needed on the first layer.
        groups: input and output features are split into this many independent groups.
        dilation: how far apart the steps are that a filter takes.
        options: see `options.KernelOptions`.

    Weights: `W` of shape (n_filters, features / groups, steps), `w0` of shape (n_filters,).
    """

    rank = 1


class Conv2D(Convolution):
    """Cross-correlation of images (channels, height, width) with `n_filters` filters, plus a bias per filter.

    Args:
        n_filters: channels of the output.
        filter_shape: (height, width) of a filter, or one size for both.
        padding: `"same"`, `"valid"` or sizes, see `windows.Window`.
        stride: how far the filters move.
        input_shape: `(channels, height, width)`; needed on the first layer.
        groups: input and output channels are split into this many independent groups.
        dilation: how far apart the pixels are that a filter takes.
        options: see `options.KernelOptions`.

    Weights: `W` of shape (n_filters, channels / groups, height, width), `w0` of shape (n_filters,).
    """

    rank = 2


class Conv3D(Convolution):
    """Cross-correlation of volumes (channels, depth, height, width) with `n_filters` filters, plus a bias per filter.

    Arguments as `Conv2D`'s, with three sizes.

    Weights: `W` of shape (n_filters, channels / groups, depth, height, width), `w0` of shape (n_filters,).
    """

    rank = 3


def output_activation(name: str, layer: str, rank: int) -> str:
    """The activation, when it suits the axes of the layer's output. Raises `ArgumentError`, `ShapeError`."""
    return activation_named(name) if rank == 1 else of_channels_first(name, layer)


def check_filters(n_filters: int, groups: int) -> None:
    if n_filters % groups:
        raise ArgumentError(
            "n_filters must be a multiple of groups", expected=f"a multiple of {groups}", received=n_filters
        )


def check_channels(channels: int, groups: int) -> None:
    if channels % groups:
        raise ArgumentError(
            "the input's channels must be a multiple of groups",
            expected=f"a multiple of {groups}",
            received=channels,
        )
