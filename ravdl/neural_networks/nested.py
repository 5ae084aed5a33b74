"""`Model`: a network as one layer of another, which is what calling a `NeuralNetwork` on a symbol makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ravdl.neural_networks.forward import predict, predict_in_shards, predict_in_training
from ravdl.neural_networks.initializers import Initializer
from ravdl.neural_networks.layers.arguments import Shape
from ravdl.neural_networks.layers.layer import Layer, Moment, WeightSpec
from ravdl.neural_networks.network import Network
from ravop.errors import ShapeError
from ravop.graph import Op
from ravop.protocol.tensors import Array


class Model(Layer):
    """The layers of `network` as one, with weights that start with `values`, by their names in that network.

    Its weights bear those names: `Model_1_Dense_1_W`. A layer that is frozen in the network stays so.
    """

    takes_anything = True

    def __init__(self, network: Network, values: Mapping[str, Array]) -> None:
        super().__init__()
        self.network = network
        self._values = dict(values)
        self.n_inputs = len(network.inputs)

    @property
    def mixes_examples(self) -> bool:
        return any(
            layer.mixes_examples and (layer.trainable or not layer.weights()) for layer in self.network.layers
        )

    def shapes_after(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        expected = tuple(port.shape for port in self.network.inputs)
        if tuple(shapes) != expected:
            raise ShapeError("the model takes other shapes", expected=expected, received=tuple(shapes))
        return self.network.output_shapes

    def weights(self) -> tuple[WeightSpec, ...]:
        moving = self.network.moving()
        return tuple(
            replace(
                spec, name=name, trainable=spec.trainable and name in moving, initializer=self._value(name)
            )
            for name, spec in self.network.weights().items()
        )

    def _value(self, name: str) -> Initializer:
        return lambda shape, generator: self._values[name].copy()

    def call_all(self, xs: Sequence[Op], weights: Mapping[str, Op]) -> tuple[Op, ...]:
        return tuple(prediction.value for prediction in predict(self.network, weights, xs))

    def train_all(
        self, xs: Sequence[Op], weights: Mapping[str, Op], moment: Moment
    ) -> tuple[tuple[Op, ...], dict[str, Op]]:
        found, moved = predict_in_training(self.network, weights, xs, self._inside(moment))
        return tuple(prediction.value for prediction in found), moved

    def train_shards(
        self, xs: Sequence[Op], weights: Sequence[Mapping[str, Op]], moments: Sequence[Moment]
    ) -> tuple[list[Op], dict[str, Op]]:
        inside = [self._inside(moment) for moment in moments]
        found, moved = predict_in_shards(self.network, weights, [(x,) for x in xs], inside, mixed=True)
        return [predictions[0].value for predictions in found], moved

    def _inside(self, moment: Moment) -> Moment:
        return replace(moment, scope=f"{moment.scope}{self.name}/{moment.call}/", call=0)

    def __repr__(self) -> str:
        return f"Model({', '.join(layer.name for layer in self.network.layers)})"
