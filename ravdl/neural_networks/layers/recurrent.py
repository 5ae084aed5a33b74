"""Recurrent layers: a state walks along a series (steps, features), and each step changes it.

Each is one ONNX operator, which the engine computes as a whole. Weights have Keras's names, forms and order of gates:
`W` for the inputs, `U` for the state before, gates side by side. PyTorch's `weight_ih_l0` is `W.T` and `weight_hh_l0` is
`U.T`, with the gates in PyTorch's order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypedDict, Unpack

import numpy as np
from numpy.random import Generator

import ravop as R
from ravdl.neural_networks.initializers import INITIALIZERS, Initializer, InitializerLike, initializer_named
from ravdl.neural_networks.layers.arguments import Shape, choice, flag, positive
from ravdl.neural_networks.layers.layer import Layer, WeightSpec
from ravdl.neural_networks.layers.options import Regularizer, checked_regularizer, spec
from ravdl.neural_networks.layers.windows import spatial
from ravop.errors import ArgumentError, ShapeError
from ravop.graph import Op
from ravop.protocol.tensors import Array


class RecurrentOptions(TypedDict, total=False):
    """Arguments that all recurrent layers take.

    return_sequences: give the state after every step, (steps, n_units); else after the last one, (n_units,).
    return_state: give the last state as further outputs: h, and c of an LSTM, each (n_units,).
    go_backwards: walk from the end; a sequence then has the last step first, as in Keras.
    initializer, recurrent_initializer, bias_initializer: of W, U and w0; names in `initializers.INITIALIZERS`, by default
        `"glorot_uniform"`, `"orthogonal"`, `"zeros"`.
    use_bias: whether there are biases.
    regularizer, recurrent_regularizer, bias_regularizer: from the weight to what is added to the loss.
    """

    return_sequences: bool
    return_state: bool
    go_backwards: bool
    initializer: InitializerLike
    recurrent_initializer: InitializerLike
    bias_initializer: InitializerLike
    use_bias: bool
    regularizer: Regularizer | None
    recurrent_regularizer: Regularizer | None
    bias_regularizer: Regularizer | None


DEFAULTS: dict[str, Any] = {
    "return_sequences": False,
    "return_state": False,
    "go_backwards": False,
    "initializer": "glorot_uniform",
    "recurrent_initializer": "orthogonal",
    "bias_initializer": "zeros",
    "use_bias": True,
    "regularizer": None,
    "recurrent_regularizer": None,
    "bias_regularizer": None,
}


class Recurrent(Layer):
    """What all recurrent layers have in common. One input, or the series and its initial states, each (n_units,)."""

    gates: ClassVar[int]
    """How many blocks of n_units columns W and U have."""
    order: ClassVar[tuple[int, ...]]
    """ONNX's order of the gates, by their places here."""
    op_type: ClassVar[str]
    n_states: ClassVar[int] = 1

    def __init__(self, n_units: int, input_shape: object = None, **options: Unpack[RecurrentOptions]) -> None:
        super().__init__(input_shape)
        self.n_units = positive(n_units, "n_units")
        self.options = _checked(type(self).__name__, options)
        self.return_sequences = bool(self.options["return_sequences"])
        self.return_state = bool(self.options["return_state"])
        self.go_backwards = bool(self.options["go_backwards"])
        self.use_bias = bool(self.options["use_bias"])

    def parameters(self) -> dict[str, Any]:
        return {"n_units": self.n_units, **self.options}

    def take(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        self.n_inputs = 1 + self.n_states if len(shapes) > 1 else 1
        return super().take(shapes)

    def shapes_after(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        _, (steps,) = spatial(shapes[0], type(self).__name__, 1)
        state: Shape = (self.n_units,)
        if any(shape != state for shape in shapes[1:]):
            raise ShapeError(
                f"{type(self).__name__}'s initial states have one number for each unit",
                expected=state,
                received=tuple(shapes[1:]),
            )
        output = (steps, self.n_units) if self.return_sequences else state
        return (output, *[state] * (self.n_states * self.return_state))

    def weights(self) -> tuple[WeightSpec, ...]:
        features, width = self.input_shape[1], self.gates * self.n_units
        given = self.options
        return (
            spec("W", (features, width), given["initializer"], given["regularizer"]),
            spec("U", (self.n_units, width), given["recurrent_initializer"], given["recurrent_regularizer"]),
            *(self.biases() if self.use_bias else ()),
        )

    def biases(self) -> tuple[WeightSpec, ...]:
        width, given = self.gates * self.n_units, self.options
        return (spec("w0", (width,), given["bias_initializer"], given["bias_regularizer"]),)

    def call_all(self, xs: Sequence[Op], weights: Mapping[str, Op]) -> tuple[Op, ...]:
        series, *states = self.walk(xs[0], weights, self.go_backwards, xs[1:])
        if self.go_backwards and self.return_sequences:
            series = R.reverse(series, axis=1)
        output = series if self.return_sequences else states[0]
        return (output, *(states if self.return_state else []))

    def walk(
        self, x: Op, weights: Mapping[str, Op], backwards: bool = False, initial: Sequence[Op] = ()
    ) -> list[Op]:
        """x (batch, steps, features) → the states at each step (batch, steps, n_units), in the order of the steps also
        where it goes backwards; then each state after the last step, (batch, n_units).
        """
        biases = [weights["w0"], weights.get("u0")] if self.use_bias else []
        inputs: list[Op | None] = [
            R.swapaxes(x, 0, 1),
            _rows(self._ordered(weights["W"])),
            _rows(self._ordered(weights["U"])),
            self._bias(biases) if biases else None,
            None,
            *(R.expand_dims(state, 0) for state in initial),
        ]
        while inputs[-1] is None:
            inputs.pop()
        attributes = {"hidden_size": self.n_units, "direction": "reverse" if backwards else "forward"}
        types = self._types(x)
        series, *states = x.graph.apply(self.op_type, inputs, attributes | self.attributes(), outputs=types)
        return [R.swapaxes(R.squeeze(series, 1), 0, 1), *(R.squeeze(state, 0) for state in states)]

    def _types(self, x: Op) -> list[Any]:
        batch, steps, _ = x.shape
        states = [(x.dtype, (1, batch, self.n_units))] * self.n_states
        return [(x.dtype, (steps, 1, batch, self.n_units)), *states]

    def attributes(self) -> dict[str, Any]:
        """The operator's own."""
        return {}

    def _ordered(self, weight: Op) -> Op:
        """The blocks of the last axis in ONNX's order."""
        if self.order == tuple(range(self.gates)):
            return weight
        blocks = R.split(weight, self.gates, axis=-1)
        return R.concat([blocks[gate] for gate in self.order], axis=-1)

    def _bias(self, biases: Sequence[Op | None]) -> Op:
        """(1, 2 · gates · n_units): that of the inputs, and that of the state before, zeros where there is none."""
        first, second = biases
        assert first is not None
        none = first.graph.constant(np.zeros(first.static_shape, first.dtype))
        other = none if second is None else self._ordered(second)
        return R.expand_dims(R.concat([self._ordered(first), other], axis=0), 0)


def _rows(weight: Op) -> Op:
    """(inputs, gates) as ONNX has it: (1, gates, inputs)."""
    return R.expand_dims(R.transpose(weight), 0)


def _checked(layer: str, options: Mapping[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in DEFAULTS:
            raise ArgumentError(
                f"{layer} has no argument {name!r}",
                expected=f"its own, and {', '.join(DEFAULTS)}",
                received=f"{name}={options[name]!r}",
            )
    found = DEFAULTS | dict(options)
    for name in ("return_sequences", "return_state", "go_backwards", "use_bias"):
        flag(found[name], name)
    for name in ("initializer", "recurrent_initializer", "bias_initializer"):
        initializer_named(found[name])
    for name in ("regularizer", "recurrent_regularizer", "bias_regularizer"):
        checked_regularizer(found[name])
    return found


class SimpleRNN(Recurrent):
    """h_t = activation(x_t W + h_{t-1} U + w0), from h = 0 or the second input on (Elman 1990).

    Args:
        n_units: size of the state.
        activation: `"tanh"`, `"relu"` or `"sigmoid"`.
        options: see `RecurrentOptions`.

    Weights: `W` of shape (features, n_units), `U` of shape (n_units, n_units), `w0` of shape (n_units,).
    """

    gates = 1
    order = (0,)
    op_type = "RNN"

    def __init__(
        self,
        n_units: int,
        activation: str = "tanh",
        input_shape: object = None,
        **options: Unpack[RecurrentOptions],
    ) -> None:
        super().__init__(n_units, input_shape, **options)
        self.activation = choice(activation, "activation", _OF_RNN)

    def parameters(self) -> dict[str, Any]:
        return {**super().parameters(), "activation": self.activation}

    def attributes(self) -> dict[str, Any]:
        return {"activations": [_OF_RNN[self.activation]]}


_OF_RNN = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid"}
"""Name here → in ONNX."""


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000):

    i, f, o = sigmoid(x_t W + h_{t-1} U + w0), each by its own columns, g likewise by tanh;
    c_t = f · c_{t-1} + i · g; h_t = o · tanh(c_t). One input, or three: the series, h and c at the beginning.

    Args:
        n_units: size of the states.
        unit_forget_bias: the columns of w0 for f start at 1 (Jozefowicz et al. 2015).
        options: see `RecurrentOptions`.

    Weights: `W` of shape (features, 4 · n_units), `U` of shape (n_units, 4 · n_units), `w0` of shape (4 · n_units,); columns
    for i, f, g, o, as in Keras and PyTorch (which has two biases: w0 is their sum).
    """

    gates = 4
    order = (0, 3, 1, 2)
    op_type = "LSTM"
    n_states = 2

    def __init__(
        self,
        n_units: int,
        input_shape: object = None,
        unit_forget_bias: bool = True,
        **options: Unpack[RecurrentOptions],
    ) -> None:
        super().__init__(n_units, input_shape, **options)
        self.unit_forget_bias = flag(unit_forget_bias, "unit_forget_bias")

    def parameters(self) -> dict[str, Any]:
        return {**super().parameters(), "unit_forget_bias": self.unit_forget_bias}

    def biases(self) -> tuple[WeightSpec, ...]:
        (plain,) = super().biases()
        if not self.unit_forget_bias:
            return (plain,)
        return (
            WeightSpec(
                plain.name, plain.shape, _forgetting(plain.initializer), regularizer=plain.regularizer
            ),
        )


def _forgetting(initializer: Initializer) -> Initializer:
    """As this one, with ones in the second quarter."""

    def initialized(shape: tuple[int, ...], generator: Generator) -> Array:
        values = np.array(initializer(shape, generator))
        quarter = shape[0] // 4
        values[quarter : 2 * quarter] = 1
        return values

    return initialized


class GRU(Recurrent):
    """Gated recurrent units (Cho et al. 2014), with the reset after the product (Keras's `reset_after`, PyTorch):

    z, r = sigmoid(x_t W + w0 + h_{t-1} U + u0), each by its own columns;
    n = tanh(x_t W + w0 + r · (h_{t-1} U + u0)); h_t = (1 - z) · n + z · h_{t-1}. One input, or the series and h at the
    beginning.

    Args:
        n_units: size of the state.
        options: see `RecurrentOptions`.

    Weights: `W` of shape (features, 3 · n_units), `U` of shape (n_units, 3 · n_units), `w0` and `u0` of shape
    (3 · n_units,); columns for z, r, n as in Keras; PyTorch's order is r, z, n.
    """

    gates = 3
    order = (0, 1, 2)
    op_type = "GRU"

    def biases(self) -> tuple[WeightSpec, ...]:
        (plain,) = super().biases()
        zeros = INITIALIZERS["zeros"]
        return plain, WeightSpec("u0", plain.shape, zeros, regularizer=plain.regularizer)

    def attributes(self) -> dict[str, Any]:
        return {"linear_before_reset": 1}
