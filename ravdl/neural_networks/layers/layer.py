"""What every layer is: `Layer` and the weights it declares.

A layer is a description, not a container: it knows its arguments, its shapes and which weights it needs, and
holds neither arrays nor ops. The model (`ravdl.neural_networks.model`) holds the weights and gives them to
`call` and `train`. A new layer is a class in a file of its own and an entry in `registry.LAYERS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    first: int = 0
    """Where in its batch the layer's first example is, when it gets a shard of the batch only."""
    batch: int | None = None
    """Examples in the whole batch; None when that is what the layer gets."""

    def part(self, x: Op) -> tuple[int, int] | None:
        """Which part of a draw for the whole batch `x` is, as `ravop.bernoulli` takes it: so an example's mask does
        not depend on how its batch is cut.
        """
        if self.batch is None:
            return None
        each = math.prod(x.static_shape[1:])
        return self.first * each, self.batch * each


class Layer:
    """Base of all layers.

    A layer whose output for one example depends, in training, on the other examples of its batch says so by
    `mixes_examples`. When batches are cut into shards, such a layer gets all shards at once (`train_shards`).

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

    @property
    def mixes_examples(self) -> bool:
        """Whether training mixes the examples of a batch. Where a class does not say, taken to be so when training
        differs from inference, or keeps statistics: weights that the optimizer does not move.
        """
        return type(self).train is not Layer.train or any(not spec.trainable for spec in self.weights())

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

    def train_shards(
        self, xs: Sequence[Op], weights: Sequence[Mapping[str, Op]], moments: Sequence[Moment]
    ) -> tuple[list[Op], dict[str, Op]]:
        """As `train` would do for the whole batch, for one that is cut into shards; for layers that mix examples.

        Each shard's output should be made from that shard and from small sums over the others, which then are all
        that machines exchange. `weights`: the same values for each shard, as ops of its own, so that each shard has
        its own gradients.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        arguments = ", ".join(
            f"{name}={value!r}" for name, value in self.config().items() if value is not None
        )
        return f"{type(self).__name__}({arguments})"
