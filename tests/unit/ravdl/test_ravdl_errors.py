"""Wrong use of models and layers: each error is typed, and tells what was expected, what came, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPooling2D,
    layer_from,
)
from ravdl.neural_networks.loss_functions import CrossEntropy, SquareLoss
from ravdl.neural_networks.optimizers import Adam, RMSprop
from ravop.errors import ArgumentError, DTypeError, GraphStateError, NoGraphError, RavenError, ShapeError
from ravop.graph.graph import set_current_graph

X = np.zeros((20, 4), np.float32)
Y = np.zeros(20, np.int64)


def model(*layers: Any, loss: Any = CrossEntropy) -> NeuralNetwork:
    network = NeuralNetwork(Adam(), loss)
    for layer in layers or (Dense(3, input_shape=(4,)), Activation("softmax")):
        network.add(layer)
    return network


ARGUMENTS: dict[str, Callable[[], Any]] = {
    "no units": lambda: Dense(0),
    "units of text": lambda: Dense("3"),
    "units of fractions": lambda: Dense(2.5),
    "true as units": lambda: Dense(True),
    "input_shape with the batch": lambda: Dense(3, input_shape=(None, 4)),
    "input_shape empty": lambda: Dense(3, input_shape=()),
    "input_shape a number": lambda: Dense(3, input_shape=4),
    "initializer": lambda: Dense(3, initializer="glorot"),
    "activation": lambda: Activation("gelu!"),
    "activation not text": lambda: Activation(None),
    "p of one": lambda: Dropout(1.0),
    "p negative": lambda: Dropout(-0.1),
    "p not a number": lambda: Dropout(np.nan),
    "momentum": lambda: BatchNormalization(1.0),
    "epsilon": lambda: BatchNormalization(epsilon=0),
    "filters": lambda: Conv2D(-1, 3),
    "filter of three sizes": lambda: Conv2D(4, (3, 3, 3)),
    "padding's name": lambda: Conv2D(4, 3, padding="full"),
    "padding's form": lambda: Conv2D(4, 3, padding=(1, 2, 3)),
    "padding negative": lambda: Conv2D(4, 3, padding=-1),
    "stride": lambda: Conv2D(4, 3, stride=0),
    "groups": lambda: Conv2D(4, 3, groups=3),
    "padding as large as the pool": lambda: MaxPooling2D(2, padding=2),
    "learning rate": lambda: Adam(learning_rate=0),
    "learning rate without end": lambda: RMSprop(learning_rate=np.inf),
    "b1": lambda: Adam(b1=1.0),
    "rho": lambda: RMSprop(rho=-0.5),
    "layer's name": lambda: layer_from("Dance", {}),
    "metric": lambda: NeuralNetwork(Adam(), CrossEntropy, metrics=["acc"]),
    "metrics as text": lambda: NeuralNetwork(Adam(), CrossEntropy, metrics="accuracy"),
    "optimizer's class": lambda: NeuralNetwork(Adam, CrossEntropy),
    "loss": lambda: NeuralNetwork(Adam(), "CrossEntropy"),
    "validation data": lambda: NeuralNetwork(Adam(), CrossEntropy, validation_data=X),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_out_of_range(name: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        ARGUMENTS[name]()
    assert caught.value.problem.expected
    assert caught.value.problem.received


def twice() -> None:
    layer = Dense(4, input_shape=(4,))
    model(layer, layer)


STRUCTURES: dict[str, tuple[type[RavenError], str, Callable[[], Any]]] = {
    "first layer without input_shape": (ArgumentError, "Dense_1", lambda: model(Dense(3))),
    "contradicting input_shape": (ArgumentError, "Dense_2", lambda: model(Dense(3, (4,)), Dense(2, input_shape=(5,)))),
    "dense on images": (ShapeError, "Dense_1", lambda: model(Dense(3, input_shape=(1, 8, 8)))),
    "convolution on rows": (ShapeError, "Conv2D_1", lambda: model(Dense(3, (4,)), Conv2D(3, 3))),
    "pool on rows": (ShapeError, "MaxPooling2D_1", lambda: model(Flatten(input_shape=(1, 4, 4)), MaxPooling2D())),
    "filter larger than the image": (
        ShapeError, "Conv2D_1", lambda: model(Conv2D(3, 5, padding="valid", input_shape=(1, 4, 4)))
    ),
    "groups against channels": (ArgumentError, "Conv2D_1", lambda: model(Conv2D(4, 3, groups=2, input_shape=(3, 8, 8)))),
    "batch norm of too much": (
        ShapeError, "BatchNormalization_1", lambda: model(BatchNormalization(input_shape=(2, 2, 2, 2, 2)))
    ),
    "one layer twice": (ArgumentError, "Dense_2", twice),
}  # fmt: skip


@pytest.mark.parametrize("name", STRUCTURES)
def test_layers_that_do_not_fit_tell_place_and_line(name: str) -> None:
    kind, layer, build = STRUCTURES[name]
    with pytest.raises(kind) as caught:
        build()
    problem = caught.value.problem
    assert problem.op == layer
    assert "test_ravdl_errors.py" in problem.source
    assert problem.expected
    assert problem.received


def test_only_layers_are_added() -> None:
    with pytest.raises(ArgumentError, match="layer"):
        NeuralNetwork(Adam(), CrossEntropy).add("Dense")


FITS: dict[str, tuple[type[RavenError], str, Callable[[], Any]]] = {
    "no layers": (ArgumentError, "no layers", lambda: NeuralNetwork(Adam(), CrossEntropy).fit(X, Y, 1, 5)),
    "no samples": (ArgumentError, "no samples", lambda: model().fit(X[:0], Y[:0], 1, 5)),
    "lengths": (ArgumentError, "length", lambda: model().fit(X, Y[:19], 1, 5)),
    "batch too large": (ArgumentError, "batch_size=20", lambda: model().fit(X, Y, 1, 21)),
    "batch of none": (ArgumentError, "batch_size", lambda: model().fit(X, Y, 1, 0)),
    "batch of fractions": (ArgumentError, "batch_size", lambda: model().fit(X, Y, 1, 2.5)),
    "no epochs": (ArgumentError, "n_epochs", lambda: model().fit(X, Y, 0, 5)),
    "features": (ShapeError, "reshape X", lambda: model().fit(X[:, :3], Y, 1, 5)),
    "one sample": (ShapeError, r"X\[None\]", lambda: model().fit(X[0], Y[:1], 1, 1)),
    "images for rows": (ShapeError, "input_shape", lambda: model().fit(np.zeros((20, 2, 2)), Y, 1, 5)),
    "text": (DTypeError, "number", lambda: model().fit(np.full((20, 4), "a"), Y, 1, 5)),
    "ragged": (DTypeError, "tensor", lambda: model().fit([[1, 2], [3]], Y, 1, 5)),
    "label too large": (ArgumentError, "0 to 2", lambda: model().fit(X, Y + 3, 1, 5)),
    "label negative": (ArgumentError, "0 to 2", lambda: model().fit(X, Y - 1, 1, 5)),
    "labels as floats": (ShapeError, "astype", lambda: model().fit(X, Y.astype(float), 1, 5)),
    "rows of another width": (ShapeError, "targets", lambda: model().fit(X, np.zeros((20, 4)), 1, 5)),
    "a number for each row of three": (
        ShapeError, "targets", lambda: model(Dense(3, (4,)), loss=SquareLoss).fit(X, np.zeros(20), 1, 5)
    ),
    "one number as target": (ShapeError, "targets", lambda: model(Dense(3, (4,)), loss=SquareLoss).fit(X, 1.0, 1, 5)),
    "last activation": (ArgumentError, "softmax", lambda: model(Dense(3, (4,)), Activation("relu")).fit(X, Y, 1, 5)),
    "one class": (ShapeError, "sigmoid", lambda: model(Dense(1, (4,)), Activation("softmax")).fit(X, Y, 1, 5)),
    "images as classes": (
        ShapeError, "each class", lambda: model(Conv2D(2, 1, input_shape=(1, 2, 2)), Activation("softmax")).fit(
            np.zeros((20, 1, 2, 2)), Y, 1, 5)
    ),
    "validation lengths": (ArgumentError, "length", lambda: model().fit(X, Y, 1, 5, validation_data=(X, Y[:3]))),
    "validation no pair": (ArgumentError, "validation_data", lambda: model().fit(X, Y, 1, 5, validation_data=X)),
    "nothing to train": (ArgumentError, "set_trainable", lambda: model(Flatten(input_shape=(4,))).fit(X, Y, 1, 5)),
    "predict features": (ShapeError, "reshape X", lambda: model().predict(X[:, :3])),
    "predict nothing": (ArgumentError, "no samples", lambda: model().predict(X[:0])),
    "batch lengths": (ArgumentError, "length", lambda: model().train_on_batch(X, Y[:3])),
    "test lengths": (ArgumentError, "length", lambda: model().test_on_batch(X, Y[:3])),
}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
def test_data_that_cannot_be_trained_on(name: str, graph: R.Graph) -> None:
    kind, text, use = FITS[name]
    with pytest.raises(kind, match=text) as caught:
        use()
    assert caught.value.problem.expected
    assert not graph.persisted


def test_a_frozen_model_is_not_trained_but_measured(graph: R.Graph) -> None:
    network = model()
    network.set_trainable(False)
    with pytest.raises(ArgumentError, match="set_trainable"):
        network.fit(X, Y, 1, 5)
    network.evaluate(X, Y)["loss"].persist_op("loss")
    network.set_trainable(True)
    network.fit(X, Y, 1, 5)
    assert np.isfinite(R.run_local()["loss"])


def test_a_graph_is_needed() -> None:
    set_current_graph(None)
    for use in (
        lambda: model().fit(X, Y, 1, 5),
        lambda: model().predict(X),
        lambda: model().train_on_batch(X, Y),
    ):
        with pytest.raises(NoGraphError):
            use()


def test_weights_that_do_not_fit() -> None:
    network = model()
    weights = network.get_weights()
    with pytest.raises(ArgumentError, match="Dense_1_W, Dense_1_w0"):
        network.set_weights(weights[:1])
    with pytest.raises(ShapeError, match="Dense_1_W"):
        network.set_weights([weights[0].T, weights[1]])


def test_weights_trained_elsewhere_are_not_passed_off_as_known(graph: R.Graph) -> None:
    network = model()
    network.fit(X, Y, 1, 5)
    with pytest.raises(GraphStateError, match="save_model"):
        network.get_weights()
    with pytest.raises(GraphStateError, match="save_model"):
        network.fetch_weights()
    R.Graph()
    with pytest.raises(GraphStateError, match="save_model"):
        network.predict(X)
    zeros = [np.zeros((4, 3)), np.zeros(3)]
    network.set_weights(zeros)
    assert all((w == 0).all() and w.dtype == np.float32 for w in network.get_weights())
    network.predict(X)


def test_known_weights_are_copies() -> None:
    network = model()
    network.get_weights()[0][:] = 7
    assert not (network.get_weights()[0] == 7).any()
