"""`Network`: which layer gets what, as a graph of calls; a row of layers is the simplest one.

Values are numbered: the inputs first, then what each call gives, in order. A network is a value: `appended` and
`called` make new ones. It holds neither weights nor ops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ravdl.neural_networks.layers.arguments import Shape
from ravdl.neural_networks.layers.layer import Layer, WeightSpec
from ravdl.neural_networks.symbols import FLOAT
from ravop.errors import ArgumentError
from ravop.protocol.tensors import Array

INTEGER = np.dtype(np.int64)


@dataclass(frozen=True)
class Port:
    """An input of a network."""

    name: str
    shape: Shape
    """Of one sample."""
    dtype: np.dtype[np.generic] = FLOAT


class Origin(NamedTuple):
    """What a weight was in the model that it was imported from."""

    name: str
    """There."""
    weight: str
    """Its name here."""
    transposed: bool = False
    """Whether it is the transpose of what it was."""


@dataclass(frozen=True)
class Call:
    """A layer at one place."""

    layer: Layer
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    number: int = 0
    """Which of this layer's calls it is."""


@dataclass(frozen=True)
class Network:
    """Inputs, calls in an order in which they can be computed, and the values that are the outputs."""

    inputs: tuple[Port, ...] = ()
    calls: tuple[Call, ...] = ()
    outputs: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    """Of the outputs, where they were given some."""
    origins: tuple[Origin, ...] = ()
    """Where weights come from, in the order of the model that was imported."""
    kept: Mapping[str, Array] = field(default_factory=dict)
    """What else that model holds, by its names there."""

    # ── what there is ─────────────────────────────────────────────────────────────────────────────
    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Each layer once, in the order of its first call."""
        return tuple(call.layer for call in self.calls if call.number == 0)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Of all values, for one sample."""
        found = [port.shape for port in self.inputs]
        for call in self.calls:
            found += call.layer.output_shapes
        return tuple(found)

    @property
    def output_shapes(self) -> tuple[Shape, ...]:
        return tuple(self.shapes[value] for value in self.outputs)

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """As given; else `output` for a single one, and the names of the layers that they come from for several."""
        if self.names or len(self.outputs) == 1:
            return self.names or ("output",)
        makers = {value: call for call in self.calls for value in call.outputs}
        found: list[str] = []
        for value in self.outputs:
            call = makers.get(value)
            name = self.inputs[value].name if call is None else call.layer.name
            if call is not None and len(call.outputs) > 1:
                name += f"_{1 + call.outputs.index(value)}"
            same = sum(other == name or other.startswith(f"{name}_again_") for other in found)
            found.append(f"{name}_again_{same}" if same else name)
        return tuple(found)

    @cached_property
    def endings(self) -> Mapping[int, Call]:
        """The outputs that come from a layer that ends in an activation, by value."""
        wanted = set(self.outputs)
        return {
            call.outputs[0]: call
            for call in self.calls
            if call.outputs[0] in wanted and call.layer.last_activation != "linear"
        }

    @cached_property
    def read(self) -> frozenset[int]:
        """The values that calls take."""
        return frozenset(value for call in self.calls for value in call.inputs)

    def activation(self, output: int) -> str:
        """Name of the activation that this output, by its position, ends in; `linear` when there is none."""
        call = self.endings.get(self.outputs[output])
        return "linear" if call is None else call.layer.last_activation

    def gives_logits(self, output: int) -> bool:
        """Whether this output surely has not gone through an activation: a layer that could apply one was told of none."""
        value = self.outputs[output]
        return any(
            value in call.outputs and call.layer.takes_activation and call.layer.last_activation == "linear"
            for call in self.calls
        )

    def weights(self) -> dict[str, WeightSpec]:
        """Of all layers, by their names in the model."""
        return {layer.weight_name(spec): spec for layer in self.layers for spec in layer.weights()}

    def moving(self) -> dict[str, WeightSpec]:
        """The weights that training moves: those that are not frozen, of layers that are not."""
        return {
            layer.weight_name(spec): spec
            for layer in self.layers
            if layer.trainable
            for spec in layer.weights()
            if spec.name not in layer.frozen
        }

    def penalized(self) -> dict[str, WeightSpec]:
        """The weights whose regularizers count: as in Keras, those of layers that are not frozen."""
        moving = self.moving().items()
        return {name: spec for name, spec in moving if spec.trainable and spec.regularizer is not None}

    # ── making it ─────────────────────────────────────────────────────────────────────────────────
    def appended(self, layer: Layer, name: str) -> Network:
        """The network with one more layer, which gets the output of this one and is called `name`.

        Raises `ArgumentError`, `ShapeError`.
        """
        start = self if self.inputs else Network((_port_for(layer),), (), (0,))
        if len(start.outputs) != 1:
            raise ArgumentError(
                "a layer can be added to a model of one output only",
                expected="one output",
                received=", ".join(start.output_names),
                hint="call the layer on symbols: y = Dense(4)(x)",
            )
        if layer.n_inputs not in (None, 1):
            raise ArgumentError(
                f"{type(layer).__name__} takes several inputs, and a row of layers has one",
                expected=f"{layer.n_inputs} inputs",
                received=1,
                hint=f"call it on a list of symbols: {type(layer).__name__}()([a, b])",
            )
        layer.build(name, [start.shapes[start.outputs[0]]])
        made = start.called(layer, start.outputs)
        return replace(made, outputs=made.calls[-1].outputs, names=())

    def shortened(self) -> tuple[Network, Layer]:
        """The network without the layer that gives its one output, and that layer. Raises `ArgumentError`."""
        last = self.calls[-1]
        if self.outputs != last.outputs or len(last.inputs) != 1 or last.number:
            raise ArgumentError(
                "the model has no last layer that could be taken off",
                expected="one output, from a layer with one input and one place",
                received=", ".join(self.output_names),
                hint="make another model between symbols: NeuralNetwork(..., inputs=…, outputs=…)",
            )
        gone = {last.layer.weight_name(spec) for spec in last.layer.weights()}
        origins = tuple(origin for origin in self.origins if origin.weight not in gone)
        made = replace(self, calls=self.calls[:-1], outputs=last.inputs, names=(), origins=origins)
        return made, last.layer

    def called(self, layer: Layer, inputs: tuple[int, ...]) -> Network:
        """The network with one more call of a layer that has a name and its shapes; the outputs stay."""
        first = len(self.shapes)
        number = sum(made.layer is layer for made in self.calls)
        if not number and layer.gives_names:
            _check_names(self, layer)
        call = Call(layer, inputs, tuple(range(first, first + len(layer.output_shapes))), number)
        return replace(self, calls=(*self.calls, call))

    def next_name(self, layer: Layer) -> str:
        """`Dense_2`, for the second layer of its class; later numbers where weights of an imported model bear that name."""
        start = f"{type(layer).__name__}_"
        own = [other for other in self.layers if type(other) is type(layer) and other.name.startswith(start)]
        number = 1 + len(own)
        given = {
            weight
            for other in self.layers
            if other.gives_names
            for weight in map(other.weight_name, other.weights())
        }
        while any(weight.startswith(f"{start}{number}_") for weight in given):
            number += 1
        return f"{start}{number}"


def _check_names(network: Network, layer: Layer) -> None:
    """Raises `ArgumentError` where a weight of the layer bears a name that is in the network already."""
    twice = network.weights().keys() & {layer.weight_name(spec) for spec in layer.weights()}
    if twice:
        raise ArgumentError(
            f"{layer.name} has a weight of the same name as another layer",
            expected="a name of its own for each weight of a model",
            received=", ".join(sorted(twice)),
            hint="rename the initializers of the imported model",
        )


def _port_for(layer: Layer) -> Port:
    if layer.declared_shape is None:
        raise ArgumentError(
            "the first layer must know the shape of the data",
            expected="input_shape=(features,) or (channels, height, width)",
            received=repr(layer),
            hint=f"{type(layer).__name__}(..., input_shape=X.shape[1:])",
        )
    return Port("input", layer.declared_shape, INTEGER if layer.takes_integers else FLOAT)
