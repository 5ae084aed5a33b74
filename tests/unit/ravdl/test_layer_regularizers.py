"""Regularizers that layers take are added to the loss, for each weight that they are given for, and train it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import ravop as R
from ravdl.neural_networks import Input, NeuralNetwork
from ravdl.neural_networks import layers as L
from ravdl.neural_networks.initializers import generator_for
from ravdl.neural_networks.optimizers import Adam
from ravop.graph import Op


def squares(w: Op) -> Op:
    return R.sum(w * w) * 0.5


def sizes(w: Op) -> Op:
    return R.sum(R.abs(w))


LAYERS: dict[str, tuple[Callable[..., L.Layer], tuple[int, ...], dict[str, Callable[[np.ndarray], Any]]]] = {
    "Dense": (lambda **r: L.Dense(3, bias_initializer="ones", **r), (4,), {"W": np.square, "w0": np.abs}),
    "Conv1D": (lambda **r: L.Conv1D(3, 2, bias_initializer="ones", **r), (4, 2), {"W": np.square, "w0": np.abs}),
    "Conv2DTranspose": (
        lambda **r: L.Conv2DTranspose(3, 2, bias_initializer="ones", **r), (2, 4, 4), {"W": np.square, "w0": np.abs}
    ),
    "SeparableConv2D": (
        lambda **r: L.SeparableConv2D(3, 2, bias_initializer="ones", **r), (2, 4, 4),
        {"depthwise_W": np.square, "pointwise_W": np.square, "w0": np.abs},
    ),
    "GRU": (
        lambda **r: L.GRU(3, recurrent_regularizer=r.get("regularizer"), **r), (4, 2),
        {"W": np.square, "U": np.square, "w0": np.abs, "u0": np.abs},
    ),
    "Bidirectional": (
        lambda **r: L.Bidirectional(L.LSTM(3, **r)), (4, 2),
        {"forward_W": np.square, "backward_W": np.square, "forward_w0": np.abs, "backward_w0": np.abs},
    ),
    "TimeDistributed": (
        lambda **r: L.TimeDistributed(L.Dense(3, bias_initializer="ones", **r)), (4, 2), {"W": np.square, "w0": np.abs}
    ),
    "MultiHeadAttention": (
        lambda regularizer=None, bias_regularizer=None: L.MultiHeadAttention(2, 2, regularizer=regularizer), (4, 2),
        {f"W_{name}": np.square for name in ("query", "key", "value", "output")},
    ),
}  # fmt: skip
"""Name → the layer, the shape of a sample, and for each regularized weight what is summed."""


def test_what_layers_regularize_is_in_the_loss(graph: R.Graph) -> None:
    expected = {}
    for name, (make, shape, terms) in LAYERS.items():
        x = generator_for(3, name).standard_normal((2, *shape)).astype(np.float32)
        for kind, options in (("with", {"regularizer": squares, "bias_regularizer": sizes}), ("without", {})):
            symbol = Input(shape)
            output = make(**options)(symbol)
            loss = lambda y_true, y_pred: R.sum(y_pred) * 0.1  # noqa: E731
            model = NeuralNetwork(Adam(), loss, inputs=symbol, outputs=output, metrics=[])
            values = dict(zip(model.weight_names, model.get_weights(), strict=True))
            y = np.zeros((2, *output.shape), np.float32)
            model.test_on_batch(x, y).persist_op(f"{name} {kind}")
            if kind == "with":
                factor = {np.square: 0.5, np.abs: 1.0}
                expected[name] = sum(
                    factor[term] * term(values[f"{name}_1_{weight}"]).sum() for weight, term in terms.items()
                )
    results = R.run_local()
    for name, value in expected.items():
        added = results[f"{name} with"] - results[f"{name} without"]
        np.testing.assert_allclose(added, value, rtol=1e-5, err_msg=name)
        assert value > 0
