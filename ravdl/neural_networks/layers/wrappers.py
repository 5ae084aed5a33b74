"""Layers around layers: both directions of a recurrent one, and any one at each step of a series."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ravop as R
from ravdl.neural_networks.layers.arguments import Shape, choice
from ravdl.neural_networks.layers.layer import Layer, Moment, WeightSpec
from ravdl.neural_networks.layers.recurrent import Recurrent
from ravop.errors import ArgumentError, ShapeError
from ravop.graph import Op


def inner_layer(layer: object, wrapper: str) -> Layer:
    """The layer to wrap, which must be a new one. Raises `ArgumentError`."""
    if not isinstance(layer, Layer):
        raise ArgumentError(f"{wrapper} wraps a layer", expected="such as LSTM(32)", received=repr(layer))
    if layer.name or layer.input_shapes:
        raise ArgumentError(
            f"{wrapper} wraps a layer of its own",
            expected=f"a new {type(layer).__name__}(...)",
            received=f"{layer.name or repr(layer)}, which has its place already",
        )
    return layer


def copied(layer: Layer) -> Layer:
    """A new layer with the same arguments."""
    return type(layer)(**layer.config())


class Bidirectional(Layer):
    """A recurrent layer in both directions over a series (steps, features), each with weights of its own.

    Args:
        layer: a new `LSTM`, `GRU` or `SimpleRNN`, without `go_backwards` and `return_state`.
        merge_mode: how the two outputs become one: `"concat"` (side by side), `"sum"`, `"mul"`, `"ave"`; None gives both.

    Weights: the layer's, twice: `forward_W`, …, `backward_W`, ….
    """

    def __init__(self, layer: object, merge_mode: str | None = "concat", input_shape: object = None) -> None:
        inner = inner_layer(layer, "Bidirectional")
        super().__init__(inner.declared_shape if input_shape is None else input_shape)
        if not isinstance(inner, Recurrent) or inner.go_backwards or inner.return_state:
            raise ArgumentError(
                "Bidirectional wraps a recurrent layer that goes forward",
                expected="LSTM, GRU or SimpleRNN, without go_backwards and return_state",
                received=repr(layer),
            )
        self.layer = inner
        self.merge_mode = None if merge_mode is None else choice(merge_mode, "merge_mode", _MERGES)

    def shapes_after(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        (one,) = self.layer.take(shapes)
        if self.merge_mode is None:
            return one, one
        return ((*one[:-1], 2 * one[-1]) if self.merge_mode == "concat" else one,)

    def weights(self) -> tuple[WeightSpec, ...]:
        return tuple(
            dataclasses.replace(each, name=f"{direction}_{each.name}")
            for direction in ("forward", "backward")
            for each in self.layer.weights()
        )

    def parameters(self) -> dict[str, Any]:
        return {"layer": copied(self.layer), "merge_mode": self.merge_mode}

    def call_all(self, xs: Sequence[Op], weights: Mapping[str, Op]) -> tuple[Op, ...]:
        found = []
        for direction, backwards in (("forward", False), ("backward", True)):
            own = {each.name: weights[f"{direction}_{each.name}"] for each in self.layer.weights()}
            series, last, *_ = self.layer.walk(xs[0], own, backwards)
            found.append(series if self.layer.return_sequences else last)
        return tuple(found) if self.merge_mode is None else (_MERGES[self.merge_mode](*found),)


_MERGES: dict[str, Callable[[Op, Op], Op]] = {
    "concat": lambda a, b: R.concat([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) * 0.5,
}


class TimeDistributed(Layer):
    """A layer at each step of a series: (steps, *shape), for a layer that takes one tensor of this shape.

    Steps are taken as further examples of the batch, so a layer that mixes examples mixes steps too.

    Weights: the layer's.
    """

    def __init__(self, layer: object, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.layer = inner_layer(layer, "TimeDistributed")
        self.takes_integers = self.layer.takes_integers

    @property
    def mixes_examples(self) -> bool:
        return self.layer.mixes_examples

    def shape_after(self, input_shape: Shape) -> Shape:
        if len(input_shape) < 2:
            raise ShapeError(
                "TimeDistributed takes series", expected="input of shape (steps, …)", received=input_shape
            )
        shapes = self.layer.take([input_shape[1:]])
        if len(shapes) != 1:
            raise ArgumentError(
                "TimeDistributed wraps a layer of one output", expected=1, received=f"{len(shapes)} outputs"
            )
        return (input_shape[0], *shapes[0])

    def weights(self) -> tuple[WeightSpec, ...]:
        return self.layer.weights() if self.input_shapes else ()

    def parameters(self) -> dict[str, Any]:
        return {"layer": copied(self.layer)}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return self._back(self.layer.call(self._steps(x), weights))

    def train(self, x: Op, weights: Mapping[str, Op], moment: Moment) -> tuple[Op, dict[str, Op]]:
        output, moved = self._named().train(self._steps(x), weights, self._moment(moment))
        return self._back(output), moved

    def train_shards(
        self, xs: Sequence[Op], weights: Sequence[Mapping[str, Op]], moments: Sequence[Moment]
    ) -> tuple[list[Op], dict[str, Op]]:
        outputs, moved = self._named().train_shards(
            [self._steps(x) for x in xs], weights, [self._moment(moment) for moment in moments]
        )
        return [self._back(output) for output in outputs], moved

    def _named(self) -> Layer:
        """The layer, which draws by its name."""
        self.layer.name = self.layer.name or f"{self.name}_{type(self.layer).__name__}"
        return self.layer

    def _moment(self, moment: Moment) -> Moment:
        steps = self.input_shape[0]
        batch = None if moment.batch is None else moment.batch * steps
        return dataclasses.replace(moment, first=moment.first * steps, batch=batch)

    def _steps(self, x: Op) -> Op:
        return R.reshape(x, (-1, *self.input_shape[1:]))

    def _back(self, y: Op) -> Op:
        return R.reshape(y, (-1, *self.output_shape))
