"""Wrong arguments of layers, and inputs that they do not take: typed errors that tell what was expected and what came."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from all_layer_cases import CASES

from ravdl.neural_networks import Input, NeuralNetwork
from ravdl.neural_networks import layers as L
from ravdl.neural_networks.layers import LAYERS, Layer
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam
from ravop.errors import ArgumentError, RavenError, ShapeError

ARGUMENTS: dict[str, Callable[[], Any]] = {
    "activation": lambda: L.Dense(3, activation="rellu"),
    "activation as a function": lambda: L.Dense(3, activation=np.tanh),
    "no such argument": lambda: L.Dense(3, kernel_size=3),
    "no such argument of a convolution": lambda: L.Conv2D(3, 3, strides=2),
    "no such argument of a recurrent layer": lambda: L.LSTM(3, stateful=True),
    "use_bias": lambda: L.Conv1D(3, 3, use_bias=1),
    "bias_initializer": lambda: L.Dense(3, bias_initializer="one"),
    "regularizer": lambda: L.Dense(3, regularizer="l2"),
    "initializer of another type": lambda: L.Dense(3, initializer=["zeros"]),
    "filter of two sizes for a series": lambda: L.Conv1D(3, (3, 3)),
    "filter of two sizes for a volume": lambda: L.Conv3D(3, (3, 3)),
    "dilation": lambda: L.Conv2D(3, 3, dilation=0),
    "causal images": lambda: L.Conv2D(3, 3, padding="causal"),
    "causal pooling": lambda: L.MaxPooling1D(2, padding="causal"),
    "causal and transposed": lambda: L.Conv1DTranspose(3, 3, "causal"),
    "padding of a series": lambda: L.Conv1D(3, 3, padding=(1, 2, 3)),
    "padding of fractions": lambda: L.Conv2D(3, 3, padding=1.5),
    "output_padding as large as the stride": lambda: L.Conv2DTranspose(3, 3, 1, 2, output_padding=2),
    "output_padding with same": lambda: L.Conv2DTranspose(3, 3, stride=2, output_padding=1),
    "output_padding negative": lambda: L.Conv2DTranspose(3, 3, 1, 2, output_padding=-1),
    "groups of a transposed convolution": lambda: L.Conv2DTranspose(4, 3, groups=3),
    "depth_multiplier": lambda: L.DepthwiseConv2D(3, depth_multiplier=0),
    "pool": lambda: L.AveragePooling2D("2"),
    "count_padding": lambda: L.AveragePooling2D(2, count_padding=None),
    "keepdims": lambda: L.GlobalMaxPooling2D(keepdims=1),
    "cropping": lambda: L.Cropping2D(-1),
    "padding's form": lambda: L.ZeroPadding2D(((1, 2), (3,))),
    "interpolation": lambda: L.UpSampling2D(2, "cubic"),
    "size": lambda: L.UpSampling1D(0),
    "tokens": lambda: L.Embedding(0, 3),
    "positions": lambda: L.PositionalEmbedding(-1),
    "units": lambda: L.GRU(0),
    "activation of a recurrent layer": lambda: L.SimpleRNN(3, "gelu"),
    "return_sequences": lambda: L.LSTM(3, return_sequences="yes"),
    "recurrent_initializer": lambda: L.GRU(3, recurrent_initializer="eye"),
    "both directions of a dense layer": lambda: L.Bidirectional(L.Dense(3)),
    "both directions of a name": lambda: L.Bidirectional("LSTM"),
    "both directions of backwards": lambda: L.Bidirectional(L.LSTM(3, go_backwards=True)),
    "merge_mode": lambda: L.Bidirectional(L.LSTM(3), "add"),
    "steps of a class": lambda: L.TimeDistributed(L.Dense),
    "heads": lambda: L.MultiHeadAttention(0, 3),
    "key_dim": lambda: L.MultiHeadAttention(2, 0.5),
    "dropped attention": lambda: L.MultiHeadAttention(2, 2, p=1),
    "causal": lambda: L.Attention(causal=None),
    "softmax over the batch": lambda: L.Softmax(0),
    "axis of text": lambda: L.LayerNormalization("last"),
    "epsilon": lambda: L.RMSNormalization(epsilon=0),
    "groups": lambda: L.GroupNormalization(0),
    "negative slope": lambda: L.LeakyReLU(-0.1),
    "max_value": lambda: L.ReLU(-1),
    "alpha": lambda: L.ELU(np.inf),
    "theta": lambda: L.ThresholdedReLU(0),
    "axes of a dot": lambda: L.Dot((1, 2, 3)),
    "target shape": lambda: L.Reshape((2, -1, -1)),
    "target shape of zero": lambda: L.Reshape((0, 3)),
    "target shape of text": lambda: L.Reshape("3"),
    "dims": lambda: L.Permute((1, 3)),
    "dims of a number": lambda: L.Permute(2),
    "repeats": lambda: L.RepeatVector(0),
    "exponent": lambda: L.Power("2"),
    "scale": lambda: L.Rescaling(None),
    "p": lambda: L.AlphaDropout(1),
    "stddev": lambda: L.GaussianNoise(-1),
    "wrapped twice": lambda: twice_wrapped(),
}


def twice_wrapped() -> None:
    inner = L.Dense(3)
    L.TimeDistributed(inner)(Input((4, 2)))
    L.TimeDistributed(inner)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_out_of_range(name: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        ARGUMENTS[name]()
    assert caught.value.problem.expected
    assert caught.value.problem.received


INPUTS: dict[str, tuple[type[RavenError], Callable[[], Layer], list[tuple[int, ...]]]] = {
    "softmax of rows of pixels": (ShapeError, lambda: L.Conv2D(3, 3, activation="softmax"), [(1, 8, 8)]),
    "series for images": (ShapeError, lambda: L.Conv2D(3, 3), [(8, 8)]),
    "images for series": (ShapeError, lambda: L.Conv1D(3, 3), [(1, 8, 8)]),
    "images for volumes": (ShapeError, lambda: L.Conv3D(3, 3), [(1, 8, 8)]),
    "groups against channels": (ArgumentError, lambda: L.Conv2DTranspose(4, 3, groups=2), [(3, 8, 8)]),
    "nothing left by padding": (ShapeError, lambda: L.Conv2DTranspose(4, 1, 1), [(3, 2, 2)]),
    "dilated filter beyond the image": (ShapeError, lambda: L.Conv2D(4, 3, "valid", dilation=4), [(3, 8, 8)]),
    "pool beyond the series": (ShapeError, lambda: L.AveragePooling1D(9, padding="valid"), [(8, 2)]),
    "cropped away": (ShapeError, lambda: L.Cropping1D((4, 4)), [(8, 2)]),
    "rows for a global pool": (ShapeError, L.GlobalAveragePooling2D, [(8,)]),
    "rows for a recurrent layer": (ShapeError, lambda: L.LSTM(3), [(8,)]),
    "images for a recurrent layer": (ShapeError, lambda: L.GRU(3), [(1, 8, 8)]),
    "one state for an lstm": (ArgumentError, lambda: L.LSTM(3), [(5, 2), (3,)]),
    "states of another size": (ShapeError, lambda: L.GRU(3), [(5, 2), (4,)]),
    "rows for steps": (ShapeError, lambda: L.TimeDistributed(L.Dense(3)), [(5,)]),
    "rows for attention": (ShapeError, lambda: L.MultiHeadAttention(2, 2), [(5,)]),
    "attention with itself": (ArgumentError, L.Attention, [(5, 4)]),
    "keys of another size": (ShapeError, L.Attention, [(5, 4), (3, 6)]),
    "keys without values": (ShapeError, lambda: L.MultiHeadAttention(2, 2), [(5, 4), (3, 4), (2, 4)]),
    "five inputs of attention": (ArgumentError, lambda: L.MultiHeadAttention(2, 2), [(5, 4)] * 5),
    "a mask of other steps": (ShapeError, lambda: L.MultiHeadAttention(2, 2), [(5, 4)] * 3 + [(4, 5)]),
    "steps with states": (ArgumentError, lambda: L.TimeDistributed(L.GRU(3, return_state=True)), [(2, 5, 4)]),
    "axis beyond": (ShapeError, lambda: L.Softmax(3), [(5, 4)]),
    "halves of three": (ShapeError, L.GLU, [(3,)]),
    "axis of a norm beyond": (ShapeError, lambda: L.LayerNormalization(-4), [(5, 4)]),
    "axis of an unit beyond": (ShapeError, lambda: L.UnitNormalization(2), [(5,)]),
    "rms of nothing": (ShapeError, lambda: L.RMSNormalization(2), [(5,)]),
    "channels that cannot be grouped": (ShapeError, lambda: L.GroupNormalization(4), [(6, 2, 2)]),
    "rows for groups": (ShapeError, lambda: L.GroupNormalization(1), [(6,)]),
    "rows for instances": (ShapeError, L.InstanceNormalization, [(6,)]),
    "shared axes that are none": (ArgumentError, lambda: L.PReLU(shared_axes=1.5), [(5, 4)]),
    "shared axes": (ShapeError, lambda: L.PReLU(shared_axes=(3,)), [(5, 4)]),
    "a longer series than positions": (ShapeError, lambda: L.PositionalEmbedding(4), [(5, 4)]),
    "images for positions": (ShapeError, L.SinusoidalEmbedding, [(3, 5, 4)]),
    "elements that do not fit": (ShapeError, lambda: L.Reshape((4, -1)), [(3, 5)]),
    "axes to permute": (ShapeError, lambda: L.Permute((2, 1)), [(3, 5, 4)]),
    "a series to repeat": (ShapeError, lambda: L.RepeatVector(2), [(3, 5)]),
    "one summand": (ArgumentError, L.Add, [(3,)]),
    "three to subtract": (ArgumentError, L.Subtract, [(3,)] * 3),
    "summands that do not fit": (ShapeError, L.Add, [(3,), (4,)]),
    "pieces that do not fit": (ShapeError, L.Concatenate, [(3, 4), (2, 4)]),
    "pieces of other axes": (ShapeError, L.Concatenate, [(4,), (2, 4)]),
    "dot of other sizes": (ShapeError, L.Dot, [(4,), (3,)]),
    "dot of images": (ShapeError, lambda: L.Dot(1), [(4, 2, 2), (4, 2, 2)]),
    "rows for dropped features": (ShapeError, L.SpatialDropout1D, [(5,)]),
    "series for dropped channels": (ShapeError, L.SpatialDropout2D, [(5, 3)]),
    "several for one": (ArgumentError, lambda: L.Dense(3), [(3,), (3,)]),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_that_layers_do_not_take(name: str) -> None:
    kind, make, shapes = INPUTS[name]
    symbols = [Input(shape) for shape in shapes]
    with pytest.raises(kind) as caught:
        make()(symbols)
    assert caught.value.problem.expected
    assert caught.value.problem.received


def test_samples_of_six_axes_are_taken_whole_or_refused() -> None:
    six = (1, 1, 1, 1, 1, 1)
    for name, case in CASES.items():
        layer = case.make()
        with contextlib.suppress(ShapeError, ArgumentError):
            layer.build("L", [six] * len(case.inputs))
            assert all(layer.output_shapes), name


def test_every_layer_has_a_docstring_and_tells_its_arguments() -> None:
    for name, layer in LAYERS.items():
        assert layer.__doc__, name
        assert f"{name}(" in repr(next(case.make() for case in CASES.values() if type(case.make()) is layer))


def test_errors_of_layers_tell_the_line_of_the_model() -> None:
    model = NeuralNetwork(Adam(), CrossEntropy)
    model.add(L.Embedding(10, 4, input_shape=(5,)))
    with pytest.raises(ShapeError) as caught:
        model.add(L.Conv2D(3, 3))
    assert caught.value.problem.op == "Conv2D_1"
    assert "test_layer_battery_errors.py" in caught.value.problem.source
