"""What every layer is: `Layer` and the weights it declares.

A layer is a description, not a container: it knows its arguments, its shapes and which weights it needs, and
holds neither arrays nor ops. The model (`ravdl.neural_networks.model`) holds the weights and gives them to
`call` and `train`. A new layer is a class in a file of its own and an entry in `registry.LAYERS`.

Most layers take one tensor and give one: they override `shape_after`, `call` and, where training differs, `train`.
Others say so by `n_inputs` and override `shapes_after`, `call_all` and `train_all`, which a network calls.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ravop as R
from ravdl.neural_networks.initializers import Initializer
from ravdl.neural_networks.layers.arguments import Shape, sizes
from ravdl.neural_networks.signatures import Checked
from ravdl.neural_networks.symbols import called
from ravop.errors import ArgumentError, ShapeError
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
    regularizer: Callable[[Op], Op] | None = None
    """Its value, a float32 scalar, is added to the loss."""


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
    call: int = 0
    """Which of the layer's calls this is, where a model calls it several times."""

    def key(self, name: str) -> Op:
        """What to draw from, as `ravop.random_key` makes it: another in each step, for each `name` (the layer's, and
        more where it draws several times) and each call of a shared layer.
        """
        number = zlib.crc32((f"{name}/{self.call}" if self.call else name).encode())
        return R.random_key(self.seed, number, self.step)

    def part(self, x: Op) -> tuple[int, int] | None:
        """Which part of a draw for the whole batch `x` is, as `ravop.bernoulli` takes it: so an example's mask does
        not depend on how its batch is cut.
        """
        if self.batch is None:
            return None
        each = math.prod(x.static_shape[1:])
        return self.first * each, self.batch * each


class Layer(Checked):
    """Base of all layers.

    A layer whose output for one example depends, in training, on the other examples of its batch says so by
    `mixes_examples`. When batches are cut into shards, such a layer gets all shards at once (`train_shards`).

    Args:
        input_shape: sizes of one sample, without the batch axis; the first layer of a model needs it, the
            others must not contradict it.
    """

    n_inputs: int | None = 1
    """Tensors that one call takes; None: two or more."""
    takes_integers: bool = False
    """Whether inputs are indices, which are not converted to float32. A model whose first layer says so takes integers."""
    index_limit: int | None = None
    """What indices must be below, where inputs are indices; data is checked for it when it is given."""
    takes_anything: bool = False
    """Whether inputs come as they are; else those that are not float32 are converted to it, but for indices."""
    gives_names: bool = False
    """Whether its weights bear names of their own in the model, and not the layer's with theirs; see `weight_name`."""
    last_activation: str = "linear"
    """Name in `ACTIVATIONS` of what `call` does last. Where it is not `linear`, `call_raw` gives the output before that,
    which losses compute with: a layer at the end of a model is asked for that instead."""
    takes_activation: bool = False
    """Whether `last_activation` is an argument of the layer, so that `linear` means that there is none."""

    def __init__(self, input_shape: object = None) -> None:
        self.declared_shape = None if input_shape is None else sizes(input_shape, "input_shape")
        self.name = ""
        self.trainable = True
        self.frozen: frozenset[str] = frozenset()
        """Those of its weights, by their names within it, that training leaves alone though the layer is trained."""
        self.input_shapes: tuple[Shape, ...] = ()
        self.output_shapes: tuple[Shape, ...] = ()
        self.input_shape: Shape = ()
        self.output_shape: Shape = ()

    @property
    def mixes_examples(self) -> bool:
        """Whether training mixes the examples of a batch. Where a class does not say, taken to be so when training
        differs from inference, or keeps statistics: weights that the optimizer does not move.
        """
        kind = type(self)
        differs = kind.train is not Layer.train or kind.train_all is not Layer.train_all
        return differs or any(not spec.trainable for spec in self.weights())

    def __call__(self, inputs: object) -> Any:
        """The layer's place in a model to be: `y = Dense(4)(x)`, where x comes from `Input(shape)` or another layer.

        A layer that is called several times shares its weights. → a `Symbol`, or a list of them where the layer gives
        several. Raises `ArgumentError`, `ShapeError`.
        """
        return called(self, inputs)

    def take(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        """Fix the shapes of the inputs. → those of the outputs. Raises `ArgumentError`, `ShapeError`.

        A layer that has its shapes already takes the same again only, because its weights belong to them.
        """
        given = tuple(shapes)
        wrong = len(given) < 2 if self.n_inputs is None else len(given) != self.n_inputs
        if wrong:
            raise ArgumentError(
                f"{type(self).__name__} takes another number of inputs",
                expected="a list of two or more" if self.n_inputs is None else self.n_inputs,
                received=len(given),
            )
        if self.input_shapes and given != self.input_shapes:
            raise ShapeError(
                f"a shared {type(self).__name__} must get the same shapes at each place",
                expected=self.input_shapes,
                received=given,
                hint="make another layer where the shapes differ",
            )
        if self.declared_shape not in (None, given[0]):
            raise ArgumentError(
                "input_shape contradicts the layer before",
                expected=given[0],
                received=self.declared_shape,
                hint="only the first layer needs input_shape",
            )
        outputs = self.shapes_after(given)
        self.input_shapes, self.output_shapes = given, outputs
        self.input_shape, self.output_shape = given[0], outputs[0]
        return outputs

    def build(self, name: str, input_shape: Shape | Sequence[Shape]) -> None:
        """Take a place in a model: `input_shape` is that of one sample, or a list of those of several inputs.

        Raises `ShapeError` for an input that the layer does not take.
        """
        if self.name:
            raise ArgumentError(
                f"{self.name} is in a model already",
                expected="a layer of its own for each place in a model",
                received=f"{self.name}, a second time",
                hint=f"make another one: {type(self).__name__}(...)",
            )
        several = isinstance(input_shape, list) or not all(isinstance(size, int) for size in input_shape)
        self.take(input_shape if several else [input_shape])  # type: ignore[arg-type, list-item]
        self.name = name

    def leave(self) -> None:
        """Be free for another model."""
        self.name, self.input_shapes, self.output_shapes = "", (), ()

    def shape_after(self, input_shape: Shape) -> Shape:
        """The shape of the output for one sample of this shape. Raises `ShapeError`."""
        return input_shape

    def shapes_after(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        """The shapes of the outputs for inputs of these shapes. Raises `ShapeError`."""
        return (self.shape_after(shapes[0]),)

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

    def call_raw(self, x: Op, weights: Mapping[str, Op]) -> Op:
        """The output before `last_activation`, in training and in inference; for layers that name one."""
        raise NotImplementedError

    def call_all(self, xs: Sequence[Op], weights: Mapping[str, Op]) -> tuple[Op, ...]:
        """The outputs in inference, for inputs of shapes (batch, *shape) each."""
        return (self.call(xs[0], weights),)

    def train_all(
        self, xs: Sequence[Op], weights: Mapping[str, Op], moment: Moment
    ) -> tuple[tuple[Op, ...], dict[str, Op]]:
        """The outputs in training, and new values of those weights that the layer itself moves."""
        if type(self).call_all is not Layer.call_all:
            return self.call_all(xs, weights), {}
        output, moved = self.train(xs[0], weights, moment)
        return (output,), moved

    def train_shards(
        self, xs: Sequence[Op], weights: Sequence[Mapping[str, Op]], moments: Sequence[Moment]
    ) -> tuple[list[Op], dict[str, Op]]:
        """As `train` would do for the whole batch, for one that is cut into shards; for layers that mix examples.

        Each shard's output should be made from that shard and from small sums over the others, which then are all
        that machines exchange. `weights`: the same values for each shard, as ops of its own, so that each shard has
        its own gradients.
        """
        raise NotImplementedError

    def train_all_shards(
        self, xs: Sequence[Sequence[Op]], weights: Sequence[Mapping[str, Op]], moments: Sequence[Moment]
    ) -> tuple[list[tuple[Op, ...]], dict[str, Op]]:
        """As `train_shards`, for layers that take or give several tensors: the inputs, and the outputs, of each shard."""
        ys, moved = self.train_shards([x for (x,) in xs], weights, moments)
        return [(y,) for y in ys], moved

    def __repr__(self) -> str:
        arguments = ", ".join(
            f"{name}={value!r}" for name, value in self.config().items() if value is not None
        )
        return f"{type(self).__name__}({arguments})"
