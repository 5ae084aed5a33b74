"""`Architecture`: a model's layers and its weights, without anything that trains them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np

from ravdl.neural_networks import freezing, history, summary, torch_state
from ravdl.neural_networks.initializers import generator_for
from ravdl.neural_networks.layers import Layer
from ravdl.neural_networks.layers.arguments import Shape
from ravdl.neural_networks.nested import Nested
from ravdl.neural_networks.network import Network, Port
from ravdl.neural_networks.symbols import Symbol, called
from ravdl.neural_networks.weights import Fetch, Weights
from ravop.errors import ArgumentError, GraphStateError, RavenError, error_from_problem
from ravop.graph import Op
from ravop.graph.graph import Graph
from ravop.graph.source import describe, user_line
from ravop.protocol.tensors import Array

T = TypeVar("T")


class Architecture:
    """The part of `NeuralNetwork` that knows no data: layers, how they are connected, and their weights."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.network = Network()
        self._weights = Weights()
        self._nested: Nested | None = None

    def add(self, layer: Layer | Symbol) -> None:
        """Append a layer, and start its weights; or, first of all, `Input(shape)`. Raises `ShapeError` or `ArgumentError`."""
        if isinstance(layer, Symbol) and not self.network.inputs and layer.call is None:
            self.network = Network((Port(layer.name or "input", layer.shape, layer.dtype),), (), (0,))
            return
        layer = checked(layer, Layer, "layer", "Dense(10)")
        name = self.network.next_name(layer)
        try:
            self.network = self.network.appended(layer, name)
        except RavenError as error:
            place = {"op": name, "source": describe(user_line())}
            raise error_from_problem(msgspec.structs.replace(error.problem, **place)) from None
        self._start(layer)

    def _start(self, layer: Layer) -> None:
        """Draw the layer's weights."""
        for spec in layer.weights():
            name = layer.weight_name(spec)
            self._weights.values[name] = spec.initializer(spec.shape, generator_for(self.seed, name))

    def pop(self) -> Layer:
        """Take off the last layer, whose output is the model's, such as to `add` another head. → that layer, without weights.

        Raises `ArgumentError` where there is no such layer, `GraphStateError` when newer weights are in a graph
        (`fetch_weights()` brings them).
        """
        self.get_weights()  # refuses while they are elsewhere
        network, layer = self._built().shortened()
        self._weights.forget({layer.weight_name(spec) for spec in layer.weights()})
        layer.leave()
        self.network, self._nested = network, None
        return layer

    def __call__(self, inputs: Any) -> Any:
        """The model within another one: `y = model(x)`, with its weights as they are now; called again it is the same,
        shared one, as long as these are the same. What the other model then trains are weights of its own, such as
        `Model_1_Dense_1_W`.
        """
        values = dict(zip(self.weight_names, self.get_weights(), strict=True))
        if self._nested is None or not self._nested.starts_with(self._built(), values):
            self._nested = Nested(self._built(), values)
        return called(self._nested, inputs)

    @property
    def layers(self) -> list[Layer]:
        """Each layer once, in the order in which they were added or called."""
        return list(self.network.layers)

    @property
    def input_shape(self) -> Shape:
        """Of one sample (of the first input). Raises `ArgumentError` for a model without layers."""
        return self._built().inputs[0].shape

    @property
    def output_shape(self) -> Shape:
        """Of one prediction (of the first output)."""
        return self._built().output_shapes[0]

    @property
    def weight_names(self) -> tuple[str, ...]:
        """Of all weights, in the order of `get_weights()`."""
        return tuple(self.network.weights())

    def replace_head(self, *layers: Layer) -> None:
        """Put these layers in the place of the last one that has weights, and of all after it: `replace_head(Dense(5))`.

        Raises `ArgumentError` where the last layer with weights is a part of an imported model that is not one of the layers
        here, `GraphStateError` when newer weights are in a graph (`fetch_weights()` brings them).
        """
        for layer in layers:
            checked(layer, Layer, "layer", "Dense(10)")
        last = next((layer for layer in reversed(self.layers) if layer.weights()), None)
        if not layers or last is None or last.gives_names:
            raise ArgumentError(
                "the model has no head that could be replaced",
                expected="new layers, and a last layer with weights that stands by itself",
                received=repr(last) if layers else "no layers",
                hint="add() appends layers; calling the model on symbols uses all of it within another",
            )
        while self.pop() is not last:
            pass
        for layer in layers:
            self.add(layer)

    def set_trainable(self, trainable: bool, names: Sequence[str] | None = None) -> None:
        """Freeze layers and weights, or thaw them. One layer: `model.layers[0].trainable = False`.

        A frozen layer keeps its weights and running statistics, and works as in inference. Where only some weights of a layer
        are frozen, it goes on training with the others; an imported BatchNormalization whose running statistics are frozen
        works by them.

        Args:
            names: which: layers (`"Dense_1"`), weights (`"Dense_1_W"`), or what these were called in the model that was
                imported (`"fc.weight"`), with `*`, `?` and `[…]` as in file names; all without.
        Raises:
            ArgumentError: a name that none has.
        """
        freezing.set_trainable(self.network, bool(trainable), names)

    def to_torch_state_dict(self, fetch: Fetch | None = None) -> dict[str, Any]:
        """The newest weights as the PyTorch module's `state_dict()`, for `module.load_state_dict(…)`; for a model that
        `from_torch` made (or one of a file in which parameters bear the module's names).

        What belonged to a head that was replaced is left out: then `load_state_dict(…, strict=False)`.

        Args:
            fetch: as for `fetch_weights`, which is called first.
        Raises:
            ArgumentError: the model comes from elsewhere, or PyTorch is not installed.
            GraphStateError, NotComputedError: as `fetch_weights`.
        """
        values = dict(zip(self.weight_names, self.fetch_weights(fetch), strict=True))
        steps = int(self._weights.values.get("training_step", np.array(0)))
        return torch_state.state_dict(self.network, values, steps)

    def summary(self, name: str = "Model summary") -> None:
        """Print a table of the layers with their output shapes and parameters, and what they are connected to where they
        are not in a row.
        """
        summary.show(self._built(), name)

    # ── weights ───────────────────────────────────────────────────────────────────────────────────
    def get_weights(self) -> list[Array]:
        """Copies of the weights, in the order of `weight_names`.

        Raises `GraphStateError` when newer ones are in a graph: `fetch_weights()` brings them.
        """
        source = self._weights.source
        if source is not None:
            raise GraphStateError(
                "the newest weights are not here",
                received=f"weights trained in graph {source.graph_id}",
                hint="call fetch_weights() when the training is done"
                if source.names
                else "train with fit(..., save_model=True)",
            )
        return [self._weights.values[name].copy() for name in self.weight_names]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replace all weights, in the order of `weight_names`. Raises `ArgumentError`, `ShapeError`."""
        self._weights.replace(self.weight_names, weights)

    def fetch_weights(self, fetch: Fetch | None = None) -> list[Array]:
        """Bring the trained weights, and the optimizer's memory, here. → `get_weights()`.

        Args:
            fetch: from a persisted name to its value, for another place than the coordinator:
                `model.fetch_weights(ravop.run_local().__getitem__)`.
        Raises:
            GraphStateError: they were not kept (`save_model=False`).
            NotComputedError: the training is not done.
        """
        source = self._weights.source
        if source is not None:
            self._weights.fetch(fetch or history.coordinator(source.graph_id))
        return self.get_weights()

    # ── inside ────────────────────────────────────────────────────────────────────────────────────
    def _built(self) -> Network:
        if not self.network.calls:
            raise ArgumentError(
                "the model has no layers",
                expected="at least one",
                received="none",
                hint="call model.add(Dense(...))",
            )
        return self.network

    def _all_weights(self, graph: Graph) -> dict[str, Op]:
        self._weights.open(graph, lambda source: history.coordinator(source.graph_id))
        return {name: self._weights.known(name) for name in self.weight_names}


def checked(value: object, kind: type[T], what: str, example: str) -> T:
    if not isinstance(value, kind):
        raise ArgumentError(f"this is no {what}", expected=f"such as {example}", received=repr(value))
    return value
