"""The geometry of a window that slides over a series, an image or a volume: padding, strides, dilation, sizes.

For convolution and pooling; also which shapes those layers take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ravop as R
from ravdl.neural_networks.layers.arguments import SIDES, Shape, each, sides
from ravop.errors import ArgumentError, ShapeError
from ravop.graph import Op
from ravop.ops.windows import same_pads

Padding = str | int | Sequence[int] | Sequence[Sequence[int]]
"""`"same"`, `"valid"`, for series `"causal"`, one size for all sides, one for each axis, or (before, after) for each."""
Sides = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Window:
    """A window of `size` that moves by `stride`, its elements `dilation` apart; `padding` is a name or (before, after) for
    each axis.

    `"same"` gives ceil(length / stride) positions, and puts the odd element of padding at the end (Keras' and
    TensorFlow's rule, ONNX's SAME_UPPER). `"valid"` does not pad. `"causal"`, for series, pads at the beginning alone, so
    that no output depends on a later input.
    """

    size: Shape
    stride: Shape
    padding: str | Sides
    dilation: Shape

    @property
    def extent(self) -> Shape:
        """What the window covers along each axis."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.size, self.dilation, strict=True))

    def pads(self, *lengths: int) -> Sides:
        """(before, after) along each axis of an input of these lengths."""
        if not isinstance(self.padding, str):
            return self.padding
        return tuple(
            _PADDINGS[self.padding](length, stride, extent)
            for length, stride, extent in zip(lengths, self.stride, self.extent, strict=True)
        )

    def positions(self, *lengths: int) -> Shape:
        """How many positions the window has along each axis. Raises `ShapeError` for none."""
        counts = tuple(
            (length + sum(pads) - extent) // stride + 1
            for length, pads, extent, stride in zip(
                lengths, self.pads(*lengths), self.extent, self.stride, strict=True
            )
        )
        if min(counts) < 1:
            raise ShapeError(
                f"the window is larger than the padded {WHAT[len(lengths)]}",
                expected=f"{_ARTICLE[len(lengths)]} {WHAT[len(lengths)]} of at least {self.extent}",
                received=lengths,
                hint="use padding='same', or a smaller window",
            )
        return counts

    def attributes(self, *lengths: int) -> dict[str, list[int]]:
        """As attributes of ONNX's Conv and pooling operators, with the padding spelled out."""
        pads = self.pads(*lengths)
        made = {
            "kernel_shape": list(self.size),
            "strides": list(self.stride),
            "pads": [before for before, _ in pads] + [after for _, after in pads],
        }
        return made if set(self.dilation) == {1} else made | {"dilations": list(self.dilation)}


_PADDINGS: dict[str, Callable[[int, int, int], tuple[int, int]]] = {
    "same": same_pads,
    "valid": lambda length, stride, extent: (0, 0),
    "causal": lambda length, stride, extent: (extent - 1, 0),
}


def window(
    size: object, stride: object, padding: object, what: str, rank: int = 2, dilation: object = 1
) -> Window:
    """A window from a layer's arguments. Raises `ArgumentError`."""
    return Window(
        each(size, what, rank),
        each(stride, "stride", rank),
        _padding(padding, rank),
        each(dilation, "dilation", rank),
    )


def _padding(padding: object, rank: int) -> str | Sides:
    if not isinstance(padding, str):
        return sides(padding, "padding", rank)
    names = ("same", "valid", "causal") if rank == 1 else ("same", "valid")
    if padding not in names:
        known = ", ".join(map(repr, names))
        raise ArgumentError("unknown padding", expected=f"{known}, {SIDES[rank]}", received=repr(padding))
    return padding


WHAT = {1: "series", 2: "image", 3: "volume"}
_ARTICLE = {1: "a", 2: "an", 3: "a"}
_FORMS = {1: "(steps, features)", 2: "(channels, height, width)", 3: "(channels, depth, height, width)"}
_PLURALS = {1: "series", 2: "images", 3: "volumes"}


def spatial(shape: Shape, layer: str, rank: int) -> tuple[int, Shape]:
    """(channels, spatial sizes) of a sample: of a series (steps, features), of an image or volume (channels, …).

    Raises `ShapeError` for a shape of another number of axes.
    """
    if len(shape) != rank + 1:
        raise ShapeError(
            f"{layer} takes {_PLURALS[rank]}",
            expected=f"input of shape {_FORMS[rank]}",
            received=shape,
            op=layer,
            hint=f"give the first layer input_shape={_FORMS[rank]}, and keep Flatten for later",
        )
    return (shape[1], shape[:1]) if rank == 1 else (shape[0], shape[1:])


def formed(channels: int, lengths: Shape) -> Shape:
    """The shape of a sample with these channels and spatial sizes: what `spatial` takes apart."""
    return (*lengths, channels) if len(lengths) == 1 else (channels, *lengths)


def channels_first(x: Op) -> Op:
    """(batch, steps, features) as (batch, features, steps), which the engine's windows slide over; images unchanged."""
    return R.swapaxes(x, 1, 2) if x.ndim == 3 else x


channels_back = channels_first
"""The way back."""


def apply(op_type: str, inputs: Sequence[Op], attributes: dict[str, Any]) -> Op:
    """The one output of an ONNX operator whose first input has its channels first, given and taken as samples are."""
    first, *others = inputs
    (output,) = first.graph.apply(op_type, [channels_first(first), *others], attributes)
    return channels_back(output)
