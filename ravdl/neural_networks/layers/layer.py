"""What every layer is: `Layer` and the weights it declares.

A layer is a description, not a container: it knows its arguments, its shapes and which weights it needs, and
holds neither arrays nor ops. The model (`ravdl.neural_networks.model`) holds the weights and gives them to
`call` and `train`. A new layer is a class in a file of its own and an entry in `registry.LAYERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ravdl.neural_networks.initializers import Initializer
from ravdl.neural_networks.layers.arguments import Shape, sizes
from ravop.errors import ArgumentError
from ravop.graph import Op


@dataclass(frozen=True)
class WeightSpec:
    """A weight that a layer needs. `trainable` weights are moved by the optimizer, the others by the layer
    itself.
    """

    name: str
    """Within the layer, such as `W`; in the model it is `Dense_1_W`."""
    shape: Shape
    initializer: Initializer
    trainable: bool = True


@dataclass(frozen=True)
class Moment:
    """Where a training run is, for layers that draw random numbers."""

    seed: int
    """The model's."""
    step: Op
    """int64 scalar: training steps done before this one, over all calls of `fit`."""


class Layer:
    """Base of all layers.

    Args:
        input_shape: sizes of one sample, without the batch axis; the first layer of a model needs it, the
            others must not contradict it.
    """

    def __init__(self, input_shape: object = None) -> None:
        self.declared_shape = None if input_shape is None else sizes(input_shape, "input_shape")
        self.name = ""
        self.trainable = True
        self.input_shape: Shape = ()
        self.output_shape: Shape = ()

    def build(self, name: str, input_shape: Shape) -> None:
        """Take a place in a model. Raises `ShapeError` for an input that the layer does not take."""
        if self.name:
            raise ArgumentError(
                f"{self.name} is in a model already",
                expected="a layer of its own for each place in a model",
                received=f"{self.name}, a second time",
                hint=f"make another one: {type(self).__name__}(...)",
            )
        self.output_shape = self.shape_after(input_shape)
        self.input_shape = input_shape
        self.name = name

    def shape_after(self, input_shape: Shape) -> Shape:
        """The shape of the output for one sample of this shape. Raises `ShapeError`."""
        return input_shape

    def weights(self) -> tuple[WeightSpec, ...]:
        """What the built layer needs, in the order of `get_weights()`."""
        return ()

    def weight_name(self, spec: WeightSpec) -> str:
        """The weight's name in the model, such as `Dense_1_W`."""
        return f"{self.name}_{spec.name}"

    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments apart from `input_shape`: numbers, text, tuples."""
        return {}

    def config(self) -> dict[str, Any]:
        """The constructor's arguments: `type(layer)(**layer.config())` is its equal, before `build`."""
        return {**self.parameters(), "input_shape": self.declared_shape}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        """The output in inference.

        Args:
            x: shape (batch, *input_shape).
            weights: by name within the layer.
        """
        raise NotImplementedError

    def train(self, x: Op, weights: Mapping[str, Op], moment: Moment) -> tuple[Op, dict[str, Op]]:
        """The output in training, and new values of those weights that the layer itself moves."""
        return self.call(x, weights), {}

    def __repr__(self) -> str:
        arguments = ", ".join(
            f"{name}={value!r}" for name, value in self.config().items() if value is not None
        )
        return f"{type(self).__name__}({arguments})"
