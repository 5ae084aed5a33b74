"""The geometry of a window that slides over an image: padding, strides, sizes; for convolution and pooling."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ravdl.neural_networks.layers.arguments import Shape, pair
from ravop.errors import ArgumentError, ShapeError

Padding = str | int | Sequence[int] | Sequence[Sequence[int]]
"""`"same"`, `"valid"`, one size for all sides, (height, width), or ((top, bottom), (left, right))."""
Sides = tuple[tuple[int, int], tuple[int, int]]

FORMS = "'same', 'valid', an integer, (height, width), or ((top, bottom), (left, right))"
NAMED = ("same", "valid")


@dataclass(frozen=True)
class Window:
    """A window of `size` that moves by `stride`; `padding` is a name or ((top, bottom), (left, right)).

    `"same"` gives ceil(size / stride) positions, and puts the odd row or column of padding at the end (Keras'
    and TensorFlow's rule, ONNX's SAME_UPPER). `"valid"` does not pad.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: str | Sides

    def pads(self, height: int, width: int) -> Sides:
        """((top, bottom), (left, right)) for an image of this size."""
        if not isinstance(self.padding, str):
            return self.padding
        if self.padding == "valid":
            return (0, 0), (0, 0)
        return self._same(height, 0), self._same(width, 1)

    def _same(self, length: int, axis: int) -> tuple[int, int]:
        positions = -(-length // self.stride[axis])
        total = max((positions - 1) * self.stride[axis] + self.size[axis] - length, 0)
        return total // 2, total - total // 2

    def positions(self, height: int, width: int) -> tuple[int, int]:
        """How many rows and columns of positions the window has. Raises `ShapeError` for none."""
        counts = tuple(
            (length + sum(pads) - size) // stride + 1
            for length, pads, size, stride in zip(
                (height, width), self.pads(height, width), self.size, self.stride, strict=True
            )
        )
        if min(counts) < 1:
            raise ShapeError(
                "the window is larger than the padded image",
                expected=f"an image of at least {self.size}",
                received=(height, width),
                hint="use padding='same', or a smaller window",
            )
        return counts[0], counts[1]

    def attributes(self, height: int, width: int) -> dict[str, list[int]]:
        """As attributes of ONNX's Conv and MaxPool, with the padding spelled out."""
        (top, bottom), (left, right) = self.pads(height, width)
        return {
            "kernel_shape": list(self.size),
            "strides": list(self.stride),
            "pads": [top, left, bottom, right],
        }


def window(size: object, stride: object, padding: Padding, what: str) -> Window:
    """A window from a layer's arguments. Raises `ArgumentError`."""
    return Window(pair(size, what), pair(stride, "stride"), _padding(padding))


def _padding(padding: Padding) -> str | Sides:
    if isinstance(padding, str):
        if padding not in NAMED:
            raise ArgumentError("unknown padding", expected=FORMS, received=repr(padding))
        return padding
    try:
        sizes = np.array(padding, dtype=object)
        # One size for all sides, or (height, width), stand for both sides of each axis.
        sides = np.broadcast_to(sizes if sizes.ndim == 2 else sizes.reshape(-1, 1), (2, 2))
        (top, bottom), (left, right) = ([operator.index(side) for side in axis] for axis in sides)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            "the padding has the wrong form", expected=FORMS, received=repr(padding)
        ) from error
    if min(top, bottom, left, right) < 0:
        raise ArgumentError("padding cannot be negative", expected=FORMS, received=repr(padding))
    return (top, bottom), (left, right)


def image_sizes(shape: Shape, layer: str) -> tuple[int, int, int]:
    """(channels, height, width). Raises `ShapeError` for a shape that is not an image's."""
    if len(shape) != 3:
        raise ShapeError(
            f"{layer} takes images",
            expected="input of shape (channels, height, width)",
            received=shape,
            op=layer,
            hint="give the first layer input_shape=(channels, height, width), and keep Flatten for later",
        )
    return shape[0], shape[1], shape[2]
