"""Lambda: a plain function of ops as a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ravdl.neural_networks.layers.arguments import Shape, sizes
from ravdl.neural_networks.layers.layer import Layer
from ravdl.neural_networks.symbols import FLOAT
from ravop.errors import ArgumentError
from ravop.graph import Graph, Op
from ravop.graph.graph import current_graph_or_none, set_current_graph

_PROBE = 2
"""Samples of the batch with which the shape of the output is found."""


class Lambda(Layer):
    """What `function` makes of its inputs: `Lambda(lambda x: R.square(x))`, `Lambda(lambda a, b: a - 2 * b)([a, b])`.

    It gets ops of shape (batch, *shape) and gives one, or a tuple of them, each with the batch as its first axis. It must treat
    each sample by itself, because a batch may be cut into shards; a layer with weights, or one that is another in training, is
    a class derived from `Layer`.

    A function is saved by its name, and has to be given to `load_model` as `custom_objects={name: function}`.

    Args:
        function: of ops; called whenever a graph is made with the layer.
        output_shape: of one sample; found by calling the function, with float32 inputs, when it is not given.
    """

    mixes_examples = False
    takes_anything = True

    def __init__(
        self, function: Callable[..., Any], output_shape: object = None, input_shape: object = None
    ) -> None:
        super().__init__(input_shape)
        if not callable(function):
            raise ArgumentError(
                "Lambda needs a function", expected="such as lambda x: x * 2", received=repr(function)
            )
        self.function = function
        self.known_shape = None if output_shape is None else sizes(output_shape, "output_shape")

    def parameters(self) -> dict[str, Any]:
        return {"function": self.function, "output_shape": self.known_shape}

    def take(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        self.n_inputs = self.n_inputs if self.input_shapes else max(1, len(shapes))
        return super().take(shapes)

    def shapes_after(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        if self.known_shape is not None:
            return (self.known_shape,)
        outer = current_graph_or_none()
        try:
            graph = Graph(name="shapes")
            found = self._outputs([graph.placeholder(FLOAT, (_PROBE, *shape)) for shape in shapes])
        finally:
            set_current_graph(outer)
        return tuple(op.static_shape[1:] for op in found)

    def call_all(self, xs: Sequence[Op], weights: Mapping[str, Op]) -> tuple[Op, ...]:
        return self._outputs(xs)

    def _outputs(self, xs: Sequence[Op]) -> tuple[Op, ...]:
        found = self.function(*xs)
        outputs = tuple(found) if isinstance(found, tuple | list) else (found,)
        for output in outputs:
            fits = isinstance(output, Op) and output.ndim > 0 and output.shape[0] == xs[0].shape[0]
            if not fits:
                raise ArgumentError(
                    "a Lambda's function gives ops whose first axis is the batch",
                    expected=f"shape ({xs[0].shape[0]}, …)",
                    received=repr(output),
                )
        return outputs
