"""`Nested`: a model at places of another one, which is what calling a `NeuralNetwork` on a symbol makes.

Its layers become layers of the other model, under names of their own (`Model_1_Dense_1`), and start with the weights that the
model has when it is called first.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np

from ravdl.neural_networks.layers.arguments import Shape
from ravdl.neural_networks.layers.layer import Layer
from ravdl.neural_networks.network import Network
from ravop.errors import ArgumentError, ShapeError
from ravop.protocol.tensors import Array


class Nested:
    """The layers of `network`, with weights that start with `values`, by their names in that network."""

    def __init__(self, network: Network, values: Mapping[str, Array]) -> None:
        self.network = network
        self.values = dict(values)

    def starts_with(self, network: Network, values: Mapping[str, Array]) -> bool:
        """Whether it is this network with these weights."""
        return network is self.network and all(
            np.array_equal(values[n], own) for n, own in self.values.items()
        )

    def take(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        """The shapes of the outputs. Raises `ArgumentError`, `ShapeError` for inputs that the model does not take."""
        expected = tuple(port.shape for port in self.network.inputs)
        if len(shapes) != len(expected):
            raise ArgumentError(
                "the model takes another number of inputs", expected=len(expected), received=len(shapes)
            )
        if tuple(shapes) != expected:
            raise ShapeError("the model takes other shapes", expected=expected, received=tuple(shapes))
        return self.network.output_shapes

    def copies(self, name: str) -> dict[Layer, Layer]:
        """A layer for each of the model's own, with `name` before its name; layers are descriptions and hold no values."""
        found = {}
        for layer in self.network.layers:
            found[layer] = copy.copy(layer)
            found[layer].name = f"{name}_{layer.name}"
        return found

    def __repr__(self) -> str:
        return f"<model of {', '.join(layer.name for layer in self.network.layers)}>"
