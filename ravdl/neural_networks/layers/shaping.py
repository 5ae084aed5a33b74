"""Layers that move elements without changing them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import ravop as R
from ravdl.neural_networks.layers.arguments import Shape, number, positive, whole
from ravdl.neural_networks.layers.layer import Layer
from ravop.errors import ArgumentError, ShapeError
from ravop.graph import Op


class Flatten(Layer):
    """(batch, a, b, …) → (batch, a * b * …), in C order."""

    def shape_after(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return R.reshape(x, (-1, *self.output_shape))


class Reshape(Layer):
    """The elements of each sample, in C order, in the shape `target_shape`, in which one size may be −1."""

    def __init__(self, target_shape: object, input_shape: object = None) -> None:
        super().__init__(input_shape)
        given = (target_shape,) if isinstance(target_shape, int) else target_shape
        if not isinstance(given, Sequence) or isinstance(given, str) or not given:
            raise ArgumentError(
                "target_shape has the wrong form",
                expected="a tuple of sizes, without the batch axis",
                received=repr(target_shape),
            )
        shape = tuple(whole(size, "target_shape") for size in given)
        if shape.count(-1) > 1 or any(size != -1 and size < 1 for size in shape):
            raise ArgumentError(
                "target_shape is no shape", expected="positive sizes, at most one −1", received=shape
            )
        self.target_shape = shape

    def shape_after(self, input_shape: Shape) -> Shape:
        elements, known = math.prod(input_shape), -math.prod(self.target_shape)
        shape = self.target_shape
        if known > 0:
            shape = tuple(elements // known if size == -1 else size for size in shape)
        if math.prod(shape) != elements:
            raise ShapeError(
                "the elements do not fit the shape",
                expected=f"{elements} elements, of shape {input_shape}",
                received=self.target_shape,
            )
        return shape

    def parameters(self) -> dict[str, Any]:
        return {"target_shape": self.target_shape}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return R.reshape(x, (-1, *self.output_shape))


class Permute(Layer):
    """The axes of each sample in another order: `Permute((2, 1))` exchanges the two of a series. Axes count from 1."""

    def __init__(self, dims: Sequence[int], input_shape: object = None) -> None:
        super().__init__(input_shape)
        if not isinstance(dims, Sequence) or isinstance(dims, str):
            raise ArgumentError(
                "dims has the wrong form", expected="axes such as (2, 1)", received=repr(dims)
            )
        self.dims = tuple(whole(axis, "dims") for axis in dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ArgumentError(
                "dims must name every axis once", expected="1, 2, … in any order", received=self.dims
            )

    def shape_after(self, input_shape: Shape) -> Shape:
        if len(input_shape) != len(self.dims):
            raise ShapeError(
                f"{type(self).__name__} got samples of another number of axes",
                expected=f"{len(self.dims)} axes",
                received=input_shape,
            )
        return tuple(input_shape[axis - 1] for axis in self.dims)

    def parameters(self) -> dict[str, Any]:
        return {"dims": self.dims}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return R.transpose(x, (0, *self.dims))


class Transpose(Permute):
    """`Permute` by Raven's name."""


class RepeatVector(Layer):
    """A row (features,) as a series (n, features) of equal steps."""

    def __init__(self, n: int, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.n = positive(n, "n")

    def shape_after(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ShapeError(
                "RepeatVector takes rows", expected="input of shape (features,)", received=input_shape
            )
        return self.n, input_shape[0]

    def parameters(self) -> dict[str, Any]:
        return {"n": self.n}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return R.tile(R.expand_dims(x, 1), (1, self.n, 1))


class Identity(Layer):
    """The input, unchanged."""

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return x


class Rescaling(Layer):
    """x · scale + offset: `Rescaling(1 / 255)` for the bytes of images."""

    def __init__(self, scale: float, offset: float = 0.0, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.scale = number(scale, "scale")
        self.offset = number(offset, "offset")

    def parameters(self) -> dict[str, Any]:
        return {"scale": self.scale, "offset": self.offset}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return x * self.scale + self.offset


class Power(Layer):
    """Each element to the power of `exponent`."""

    def __init__(self, exponent: float, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.exponent = number(exponent, "exponent")

    def parameters(self) -> dict[str, Any]:
        return {"exponent": self.exponent}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return x**self.exponent
