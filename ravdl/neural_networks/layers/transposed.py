"""Transposed convolutions: each input element lays its filters over the output, which becomes larger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from ravdl.neural_networks.layers.arguments import Shape, each
from ravdl.neural_networks.layers.convolution import FilterBank
from ravdl.neural_networks.layers.layer import WeightSpec
from ravdl.neural_networks.layers.options import KernelOptions
from ravdl.neural_networks.layers.windows import Padding, Sides, apply, formed
from ravop.errors import ArgumentError, ShapeError
from ravop.graph import Op


class TransposedConvolution(FilterBank):
    """What Conv1DTranspose, Conv2DTranspose and Conv3DTranspose have in common: all but the number of spatial axes."""

    def __init__(
        self,
        n_filters: int,
        filter_shape: object,
        padding: Padding = "same",
        stride: object = 1,
        input_shape: object = None,
        groups: int = 1,
        dilation: object = 1,
        output_padding: object = 0,
        **options: Unpack[KernelOptions],
    ) -> None:
        kind = type(self).__name__
        super().__init__(n_filters, filter_shape, padding, stride, input_shape, groups, dilation, **options)
        self.output_padding = each(output_padding, "output_padding", self.rank, least=0)
        if self.window.padding == "causal":
            raise ArgumentError(
                f"{kind} cannot be causal", expected="'same', 'valid' or sizes", received=padding
            )
        if self.window.padding == "same" and any(self.output_padding):
            raise ArgumentError(
                "padding='same' tells the size already", expected="output_padding=0", received=output_padding
            )
        if any(more >= stride for more, stride in zip(self.output_padding, self.window.stride, strict=True)):
            raise ArgumentError(
                "output_padding must be less than the stride",
                expected=f"less than {self.window.stride}",
                received=repr(output_padding),
            )

    def shape_after(self, input_shape: Shape) -> Shape:
        _, lengths = self.sample(input_shape)
        pads, more = self._margins()
        found = tuple(
            (length - 1) * stride + extent + extra - sum(cut)
            for length, stride, extent, extra, cut in zip(
                lengths, self.window.stride, self.window.extent, more, pads, strict=True
            )
        )
        if min(found) < 1:
            raise ShapeError(
                f"the padding leaves nothing of {type(self).__name__}'s output",
                expected="sizes of at least 1",
                received=found,
                hint="pad less, or use padding='same'",
            )
        return formed(self.n_filters, found)

    def _margins(self) -> tuple[Sides, Shape]:
        """What is cut off before and after along each axis, and what is added after.

        `"same"` is the way back of a convolution with this padding: length · stride elements.
        """
        if self.window.padding != "same":
            return self.window.pads(*(1,) * self.rank), self.output_padding
        spare = [e - s for e, s in zip(self.window.extent, self.window.stride, strict=True)]
        cut = tuple((max(n, 0) // 2, max(n, 0) - max(n, 0) // 2) for n in spare)
        return cut, tuple(max(-n, 0) for n in spare)

    def weights(self) -> tuple[WeightSpec, ...]:
        channels, _ = self.sample(self.input_shape)
        kernel = self.kernel.kernel((channels, self.n_filters // self.groups, *self.window.size))
        return (kernel, *self.kernel.bias((self.n_filters,)))

    def parameters(self) -> dict[str, Any]:
        return {**super().parameters(), "output_padding": self.output_padding}

    def call_raw(self, x: Op, weights: Mapping[str, Op]) -> Op:
        pads, more = self._margins()
        attributes = {
            "kernel_shape": list(self.window.size),
            "strides": list(self.window.stride),
            "dilations": list(self.window.dilation),
            "pads": [before for before, _ in pads] + [after for _, after in pads],
            "output_padding": list(more),
            "group": self.groups,
        }
        return apply("ConvTranspose", self.operands(x, weights), attributes)


class Conv1DTranspose(TransposedConvolution):
    """The way back of `Conv1D`, from (steps, features) to more steps: (steps − 1) · stride + the filter's extent, less
    the padding, plus `output_padding`; steps · stride with `"same"`.

    Arguments as `Conv1D`'s, without `"causal"`.

    Weights: `W` of shape (features, n_filters / groups, steps), `w0` of shape (n_filters,).
    """

    rank = 1


class Conv2DTranspose(TransposedConvolution):
    """The way back of `Conv2D`, from (channels, height, width) to a larger image: (height − 1) · stride + the filter's
    extent, less the padding, plus `output_padding`; height · stride with `"same"`; the width likewise.

    Args:
        output_padding: rows and columns added at the end, less than the stride: those that a convolution with this
            stride would not have reached.
        options: and all other arguments, as for `Conv2D`.

    Weights: `W` of shape (channels, n_filters / groups, height, width), `w0` of shape (n_filters,).
    """

    rank = 2


class Conv3DTranspose(TransposedConvolution):
    """The way back of `Conv3D`, from (channels, depth, height, width) to a larger volume; as `Conv2DTranspose`.

    Weights: `W` of shape (channels, n_filters / groups, depth, height, width), `w0` of shape (n_filters,).
    """

    rank = 3
