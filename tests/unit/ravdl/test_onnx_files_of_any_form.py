"""Files with several inputs and outputs, integers, and sizes that only the user knows; and one as a layer among others."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import by_runtime, model

import ravop as R
from ravdl.neural_networks import Input, NeuralNetwork
from ravdl.neural_networks.layers import Dense
from ravdl.neural_networks.layers.onnx import Onnx
from ravdl.neural_networks.load_onnx_model import load_onnx
from ravdl.neural_networks.loss_functions import CrossEntropy, SquareLoss
from ravdl.neural_networks.optimizers import Adam
from ravop.errors import ArgumentError, UnsupportedOnnxError

RNG = np.random.default_rng(2)
WEIGHTS = {
    "table": RNG.normal(size=(7, 4)).astype(np.float32),
    "classes.weight": RNG.normal(size=(4, 3)).astype(np.float32),
    "size.weight": RNG.normal(size=(4, 1)).astype(np.float32),
}
TWO = model(
    [
        helper.make_node("Gather", ["table", "words"], ["embedded"]),
        helper.make_node("ReduceMean", ["embedded", "axes"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "more"], ["both"]),
        helper.make_node("MatMul", ["both", "classes.weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
        helper.make_node("MatMul", ["both", "size.weight"], ["size"]),
    ],
    {"words": ("int32", ["N", "T"]), "more": ("float32", ["N", 4])},
    {"probabilities": ("float32", ["N", 3]), "size": ("float32", ["N", 1])},
    {**WEIGHTS, "axes": np.array([1])},
)
INPUTS = {
    "words": RNG.integers(0, 7, (6, 5)).astype(np.int32),
    "more": RNG.normal(size=(6, 4)).astype(np.float32),
}
TARGETS = {"probabilities": np.eye(3, dtype=np.float32)[RNG.integers(0, 3, 6)], "size": np.ones((6, 1))}


def loaded(tmp_path: Path, **more: Any) -> NeuralNetwork:
    onnx.save(TWO, tmp_path / "two.onnx")
    losses = {"probabilities": CrossEntropy, "size": SquareLoss}
    return load_onnx(tmp_path / "two.onnx", Adam(0.01), losses, metrics=[], **more)


def test_several_inputs_and_outputs_train(tmp_path: Path) -> None:
    network = loaded(tmp_path, input_shapes={"words": (5,)})
    assert [type(layer).__name__ for layer in network.layers] == ["Onnx", "Dense", "Activation", "Dense"]
    assert network.network.activation(0) == "softmax"
    assert {"table"} <= set(network.weight_names)
    network.summary()
    copied = pickle.loads(pickle.dumps(network))
    path = copied.get_onnx_model(str(tmp_path / "again"))
    exported = onnx.load(path)
    assert [each.name for each in exported.graph.input] == ["words", "more"]
    assert [each.name for each in exported.graph.output] == ["probabilities", "size"]
    assert "table" in {each.name for each in exported.graph.initializer}
    expected = by_runtime(TWO, INPUTS)
    again = by_runtime(exported, INPUTS | {"words": INPUTS["words"].astype(np.int64)})

    R.Graph(name="train")
    for name, op in zip(TARGETS, network.predict(INPUTS), strict=True):
        op.persist_op(name)
    network.set_trainable(False, names=["table"])
    network.fit(INPUTS, TARGETS, n_epochs=5, batch_size=6, save_model=True)
    found = R.run_local()
    for name, wanted, other in zip(TARGETS, expected, again, strict=True):
        np.testing.assert_allclose(found[name], wanted, atol=1e-6)
        np.testing.assert_allclose(other, wanted, atol=1e-6)
    assert float(found["training_loss_epoch_5"]) < float(found["training_loss_epoch_1"])
    after = dict(zip(network.weight_names, network.fetch_weights(found.__getitem__), strict=True))
    np.testing.assert_array_equal(after["table"], WEIGHTS["table"])
    assert not np.array_equal(after["Dense_1_W"], WEIGHTS["classes.weight"])


SHAPES: dict[str, tuple[Any, type[Exception], str]] = {
    "not told": (None, UnsupportedOnnxError, "input_shapes"),
    "another name": ({"word": (5,)}, ArgumentError, "word"),
    "another size": ({"words": (5,), "more": (3,)}, ArgumentError, "more"),
    "another rank": ({"words": (5, 2)}, ArgumentError, "words"),
    "too few": ([(5,)], ArgumentError, "another length"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_shapes_that_do_not_fit(case: str, tmp_path: Path) -> None:
    shapes, kind, words = SHAPES[case]
    with pytest.raises(kind, match=words):
        loaded(tmp_path, input_shapes=shapes)


def test_a_model_is_a_layer_among_others() -> None:
    body = model(
        [helper.make_node("MatMul", ["x", "Dense_1_W"], ["h"]), helper.make_node("Softsign", ["h"], ["y"])],
        {"x": ("float32", ["N", 4])}, {"y": ("float32", ["N", 4])}, {"Dense_1_W": np.eye(4, dtype=np.float32)},
    ).SerializeToString()  # fmt: skip
    x = Input((4,))
    network = NeuralNetwork(Adam(), SquareLoss, inputs=x, outputs=Dense(2)(Onnx(body)(Onnx(body)(x))))
    assert network.weight_names == ("Dense_1_W", "Onnx_2_Dense_1_W", "Dense_2_W", "Dense_2_w0")
    row = NeuralNetwork(Adam(), SquareLoss)
    row.add(Dense(4, input_shape=(4,)))
    with pytest.raises(ArgumentError, match="Dense_1_W"):
        row.add(Onnx(body))
    with pytest.raises(ArgumentError, match="no such parameter"):
        Onnx(body, fixed=["bias"])
    with pytest.raises(ArgumentError, match="bytes"):
        Onnx("file.onnx")  # type: ignore[arg-type]
    R.Graph(name="predict")
    network.predict(INPUTS["more"]).persist_op("y")
    assert np.isfinite(R.run_local()["y"]).all()
