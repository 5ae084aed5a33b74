"""Layers that make one tensor of several: sums, products, concatenation, dot products.

Inputs are broadcast against each other as in NumPy, with samples of fewer axes meeting the last axes of the others.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import ravop as R
from ravdl.neural_networks.layers.activation import axis_after_batch
from ravdl.neural_networks.layers.arguments import Shape, flag, whole
from ravdl.neural_networks.layers.layer import Layer
from ravop.errors import ArgumentError, ShapeError
from ravop.graph import Op


class Merge(Layer):
    """What layers that combine their inputs element by element have in common: two inputs or more, of shapes that fit."""

    n_inputs: int | None = None

    def combine(self, a: Op, b: Op) -> Op:
        raise NotImplementedError

    def shapes_after(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        try:
            return (tuple(map(int, np.broadcast_shapes(*shapes))),)
        except ValueError:
            raise ShapeError(
                f"the inputs of {type(self).__name__} do not fit each other",
                expected="equal shapes, or sizes of 1 where they differ",
                received=tuple(shapes),
            ) from None

    def call_all(self, xs: Sequence[Op], weights: Mapping[str, Op]) -> tuple[Op, ...]:
        return (functools.reduce(self.combine, aligned(xs)),)


def aligned(xs: Sequence[Op]) -> list[Op]:
    """The inputs with axes of size 1 after the batch, where others have more: so batches meet batches."""
    ndim = max(x.ndim for x in xs)
    return [R.expand_dims(x, tuple(range(1, 1 + ndim - x.ndim))) if x.ndim < ndim else x for x in xs]


class Add(Merge):
    """The sum of the inputs."""

    def combine(self, a: Op, b: Op) -> Op:
        return R.add(a, b)


class Subtract(Merge):
    """The first input minus the second."""

    n_inputs = 2

    def combine(self, a: Op, b: Op) -> Op:
        return R.sub(a, b)


class Multiply(Merge):
    """The product of the inputs, element by element."""

    def combine(self, a: Op, b: Op) -> Op:
        return R.mul(a, b)


class Division(Merge):
    """The first input divided by the second, element by element."""

    n_inputs = 2

    def combine(self, a: Op, b: Op) -> Op:
        return R.div(a, b)


class Average(Merge):
    """The mean of the inputs."""

    def combine(self, a: Op, b: Op) -> Op:
        return R.add(a, b)

    def call_all(self, xs: Sequence[Op], weights: Mapping[str, Op]) -> tuple[Op, ...]:
        (total,) = super().call_all(xs, weights)
        return (total * (1 / len(xs)),)


class Maximum(Merge):
    """The largest of the inputs, element by element."""

    def combine(self, a: Op, b: Op) -> Op:
        return R.maximum(a, b)


class Minimum(Merge):
    """The smallest of the inputs, element by element."""

    def combine(self, a: Op, b: Op) -> Op:
        return R.minimum(a, b)


class Concatenate(Layer):
    """The inputs one after another along `axis`, counted with the batch as axis 0; equal in all other sizes."""

    n_inputs = None

    def __init__(self, axis: int = -1, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.axis = whole(axis, "axis")

    def shapes_after(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        axis = axis_after_batch(self.axis, shapes[0], type(self).__name__) - 1
        rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
        if len(rests) != 1 or len({len(shape) for shape in shapes}) != 1:
            raise ShapeError(
                f"the inputs of {type(self).__name__} do not fit each other",
                expected=f"equal sizes but for axis {self.axis}",
                received=tuple(shapes),
            )
        first = shapes[0]
        return ((*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :]),)

    def parameters(self) -> dict[str, Any]:
        return {"axis": self.axis}

    def call_all(self, xs: Sequence[Op], weights: Mapping[str, Op]) -> tuple[Op, ...]:
        return (R.concat(list(xs), axis=self.axis),)


class Concat(Concatenate):
    """`Concatenate` by Raven's name."""


class Dot(Layer):
    """The dot products of two inputs along an axis of each: the other axes of the first, then those of the second.

    Args:
        axes: one axis for both, or one for each, counted with the batch as axis 0; of samples of at most two axes.
        normalize: divide by both lengths first, so that products are cosines.
    """

    n_inputs = 2

    def __init__(self, axes: object = -1, normalize: bool = False, input_shape: object = None) -> None:
        super().__init__(input_shape)
        pair = (axes, axes) if not isinstance(axes, tuple | list) else tuple(axes)
        if len(pair) != 2:
            raise ArgumentError("Dot has two inputs", expected="an axis, or two", received=repr(axes))
        self.axes = (whole(pair[0], "axes"), whole(pair[1], "axes"))
        self.normalize = flag(normalize, "normalize")

    def shapes_after(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        first, second = shapes
        a, b = (axis_after_batch(axis, s, "Dot") - 1 for axis, s in zip(self.axes, shapes, strict=True))
        if max(len(first), len(second)) > 2 or first[a] != second[b]:
            raise ShapeError(
                "Dot multiplies along axes of one size",
                expected="two inputs of one or two axes, equal along theirs",
                received=f"{first} along axis {a + 1}, {second} along axis {b + 1}",
            )
        rest = (*first[:a], *first[a + 1 :], *second[:b], *second[b + 1 :])
        return (rest or (1,),)

    def parameters(self) -> dict[str, Any]:
        return {"axes": self.axes, "normalize": self.normalize}

    def call_all(self, xs: Sequence[Op], weights: Mapping[str, Op]) -> tuple[Op, ...]:
        rows = [
            _lines(x, axis_after_batch(axis, s, "Dot"), self.normalize)
            for x, axis, s in zip(xs, self.axes, self.input_shapes, strict=True)
        ]
        products = rows[0] @ R.swapaxes(rows[1], 1, 2)
        return (R.reshape(products, (-1, *self.output_shape)),)


def _lines(x: Op, axis: int, normalize: bool) -> Op:
    """(batch, lines, elements): along `axis` the elements."""
    matrix = R.expand_dims(x, 1) if x.ndim == 2 else (R.swapaxes(x, 1, 2) if axis == 1 else x)
    return unit(matrix, -1) if normalize else matrix


def unit(x: Op, axis: int | tuple[int, ...]) -> Op:
    """x divided by its length along `axis`; lengths below 1e-6 count as 1e-6 (Keras's)."""
    squares = R.sum(x * x, axis=axis, keepdims=True)
    return x / R.sqrt(R.maximum(squares, 1e-12))
