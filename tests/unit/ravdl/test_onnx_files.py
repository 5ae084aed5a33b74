"""Models to ONNX files and back: against ONNX's checker, ONNX Runtime, and files made by PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

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
)
from ravdl.neural_networks.load_onnx_model import load_onnx
from ravdl.neural_networks.loss_functions import CrossEntropy, SquareLoss
from ravdl.neural_networks.optimizers import Adam
from ravop.errors import InvalidModelError, ShapeError, UnsupportedOnnxError

DATA = Path(__file__).parents[2] / "data" / "torch"
FILES = sorted(path.stem for path in DATA.glob("*.onnx"))
RANDOM = np.random.default_rng(5)


def load(path: Path, loss: Any = SquareLoss) -> NeuralNetwork:
    return load_onnx(model_file_path=path, optimizer=Adam(), loss=loss)


def predicted(model: NeuralNetwork, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    R.Graph(name="predict")
    model.predict(x).persist_op("y")
    return R.run_local()["y"]


def in_onnx_runtime(path: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    return np.asarray(found)


# ── files made by PyTorch ────────────────────────────────────────────────────────────────────────────────────────────
def test_the_files_are_there() -> None:
    assert len(FILES) == 15


@pytest.mark.parametrize("name", FILES)
def test_a_pytorch_file_predicts_what_pytorch_predicted_and_trains_on(name: str) -> None:
    known = np.load(DATA / f"{name.rsplit('_', 1)[0]}.npz")
    model = load(DATA / f"{name}.onnx")
    np.testing.assert_allclose(predicted(model, known["x"]), known["y"], atol=1e-5)

    R.Graph(name="train")
    before = model.get_weights()
    model.fit(known["x"], known["y"] + 1, n_epochs=3, batch_size=5, save_model=True)
    after = model.fetch_weights(R.run_local().__getitem__)
    assert any(not np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(np.isfinite(weight).all() for weight in after)


def test_dropout_and_batch_norm_survive_a_training_export() -> None:
    kinds = [type(layer).__name__ for layer in load(DATA / "cnn_training.onnx").layers]
    assert kinds.count("BatchNormalization") == 1
    assert kinds.count("Dropout") == 1


# ── our own files ────────────────────────────────────────────────────────────────────────────────────────────────────
def image_model() -> NeuralNetwork:
    model = NeuralNetwork(Adam(), CrossEntropy, seed=3)
    for layer in (
        Conv2D(4, (3, 3), stride=2, input_shape=(2, 9, 9)), BatchNormalization(), Activation("relu"),
        MaxPooling2D((2, 2), stride=2), Conv2D(6, (2, 3), padding="valid", groups=2), Activation("sigmoid"),
        MaxPooling2D((2, 1), padding=((1, 0), (0, 0))), Flatten(), Dropout(0.3), Dense(7), Activation("tanh"),
        Dense(3, use_bias=False), Activation("softmax"),
    ):  # fmt: skip
        model.add(layer)
    return model


def test_every_layer_is_exported_checked_and_imported_again(tmp_path: Path) -> None:
    model = image_model()
    model.set_weights([np.abs(RANDOM.normal(size=w.shape)) + 0.1 for w in model.get_weights()])
    path = model.get_onnx_model(str(tmp_path / "model"))
    assert path == tmp_path / "model.onnx"
    onnx.checker.check_model(onnx.load(path), full_check=True)

    for batch in (1, 5):
        x = RANDOM.normal(size=(batch, 2, 9, 9)).astype(np.float32)
        np.testing.assert_allclose(in_onnx_runtime(path, x), predicted(model, x), atol=1e-6)

    again = load(path, CrossEntropy)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
    assert again.layers[8].config() == {"p": pytest.approx(0.3), "input_shape": None}
    np.testing.assert_allclose(predicted(again, x), predicted(model, x), atol=1e-6)


def test_trained_weights_are_exported(tmp_path: Path) -> None:
    model = image_model()
    R.Graph(name="train")
    x = RANDOM.normal(size=(20, 2, 9, 9)).astype(np.float32)
    model.fit(x, RANDOM.integers(0, 3, 20), n_epochs=2, batch_size=8, save_model=True)
    model.predict(x).persist_op("y")
    results = R.run_local()
    path = model.get_onnx_model(str(tmp_path / "trained.onnx"), fetch=results.__getitem__)
    np.testing.assert_allclose(in_onnx_runtime(path, x), results["y"], atol=1e-5)


def test_weights_bear_their_names(tmp_path: Path) -> None:
    model = image_model()
    stored = {
        tensor.name for tensor in onnx.load(model.get_onnx_model(str(tmp_path / "m"))).graph.initializer
    }
    assert set(model.weight_names) <= stored


def test_exporting_leaves_the_current_graph_alone(tmp_path: Path) -> None:
    graph = R.Graph(name="mine")
    count = len(graph.ops)
    image_model().get_onnx_model(str(tmp_path / "m"))
    assert R.t([1.0]).graph is graph
    assert len(graph.ops) == count + 1


# ── files with other flags, made by hand ─────────────────────────────────────────────────────────────────────────────
def tensor(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(RANDOM.normal(size=shape).astype(np.float32), name)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[TensorProto],
    shape: Sequence[int | str],
    opset: int = 17,
) -> Path:
    graph = helper.make_graph(
        nodes, "model", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], initializers,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def node(op_type: str, inputs: Sequence[str], output: str = "y", **attributes: Any) -> onnx.NodeProto:
    name = f"the_{op_type}" if output == "y" else f"the_{op_type}_{output}"
    return helper.make_node(op_type, inputs, [output], name=name, **attributes)


FLAT = ["N", 6]
IMAGE = ["N", 4, 7, 8]
CASES: dict[str, tuple[list[onnx.NodeProto], list[TensorProto], list[Any]]] = {
    "gemm": ([node("Gemm", ["x", "w", "b"])], [tensor("w", 6, 3), tensor("b", 3)], FLAT),
    "gemm alpha beta transB": (
        [node("Gemm", ["x", "w", "b"], alpha=0.5, beta=2.0, transB=1)], [tensor("w", 3, 6), tensor("b", 1, 3)], FLAT,
    ),
    "gemm scalar bias": ([node("Gemm", ["x", "w", "b"])], [tensor("w", 6, 3), tensor("b")], FLAT),
    "gemm without bias": ([node("Gemm", ["x", "w"])], [tensor("w", 6, 3)], FLAT),
    "matmul add": (
        [node("MatMul", ["x", "w"], "h"), node("Add", ["b", "h"])], [tensor("w", 6, 3), tensor("b", 3)], FLAT,
    ),
    "matmul alone": ([node("MatMul", ["x", "w"], "h"), node("Relu", ["h"])], [tensor("w", 6, 3)], FLAT),
    "conv strides pads": (
        [node("Conv", ["x", "w", "b"], strides=[2, 1], pads=[1, 0, 2, 1])], [tensor("w", 5, 4, 3, 2), tensor("b", 5)], IMAGE,
    ),
    "conv same upper": ([node("Conv", ["x", "w"], strides=[2, 2], auto_pad="SAME_UPPER")], [tensor("w", 5, 4, 2, 3)], IMAGE),
    "conv same lower": ([node("Conv", ["x", "w"], strides=[2, 2], auto_pad="SAME_LOWER")], [tensor("w", 5, 4, 2, 3)], IMAGE),
    "conv valid groups": ([node("Conv", ["x", "w"], group=2, auto_pad="VALID")], [tensor("w", 6, 2, 3, 3)], IMAGE),
    "max pool pads": ([node("MaxPool", ["x"], kernel_shape=[3, 2], pads=[1, 0, 1, 1], strides=[2, 2])], [], IMAGE),
    "max pool same lower": ([node("MaxPool", ["x"], kernel_shape=[2, 2], auto_pad="SAME_LOWER")], [], IMAGE),
    "softmax": ([node("Softmax", ["x"], axis=1)], [], FLAT),
    "flatten": ([node("Flatten", ["x"])], [], IMAGE),
    "identity": ([node("Identity", ["x"], "h"), node("Tanh", ["h"])], [], FLAT),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_flags_mean_what_they_mean_in_onnx_runtime(case: str, tmp_path: Path) -> None:
    nodes, initializers, shape = CASES[case]
    path = save(tmp_path / "m.onnx", nodes, initializers, shape)
    x = RANDOM.normal(size=(3, *shape[1:])).astype(np.float32)
    np.testing.assert_allclose(predicted(load(path), x), in_onnx_runtime(path, x), atol=1e-5)


# ── nodes that are no layers here ────────────────────────────────────────────────────────────────────────────────────
MIXED: dict[str, tuple[list[onnx.NodeProto], list[TensorProto], list[Any], list[str]]] = {
    "operator": (
        [node("Selu", ["x"], "h"), node("Gemm", ["h", "w"])], [tensor("w", 6, 3)], FLAT, ["Onnx", "Dense"],
    ),
    "in the middle": (
        [node("Gemm", ["x", "v"], "g"), node("Selu", ["g"], "h"), node("MatMul", ["h", "w"], "m"), node("Add", ["m", "b"], "a"),
         node("Softmax", ["a"], axis=-1)],
        [tensor("v", 6, 6), tensor("w", 6, 3), tensor("b", 3)], FLAT, ["Onnx", "Dense", "Activation"],
    ),
    "branches": ([node("Gemm", ["x", "w"], "h"), node("Add", ["h", "h"])], [tensor("w", 6, 3)], FLAT, ["Onnx"]),
    "around": (
        [node("Relu", ["x"], "h"), node("MatMul", ["h", "w"], "m"), node("Add", ["m", "h"], "a"), node("Tanh", ["a"])],
        [tensor("w", 6, 6)], FLAT, ["Onnx", "Activation"],
    ),
    "tied weights": (
        [node("MatMul", ["x", "w"], "h"), node("MatMul", ["h", "w"])], [tensor("w", 6, 6)], FLAT, ["Onnx"],
    ),
    "dilations": ([node("Conv", ["x", "w"], dilations=[2, 1])], [tensor("w", 5, 4, 2, 2)], IMAGE, ["Onnx"]),
    "one dimension": ([node("Conv", ["x", "w"])], [tensor("w", 5, 4, 2)], ["N", 4, 9], ["Onnx"]),
    "reshape": (
        [node("Reshape", ["x", "s"], "h"), node("Relu", ["h"])], [numpy_helper.from_array(np.array([-1, 2, 3]), "s")], FLAT,
        ["Onnx", "Activation"],
    ),
    "softmax axis": ([node("Softmax", ["x"], axis=1)], [], IMAGE, ["Onnx"]),
    "series": ([node("BatchNormalization", ["x", "g", "b", "m", "v"])],
               [*(tensor(name, 4) for name in "gbm"), numpy_helper.from_array(np.ones(4, np.float32), "v")], ["N", 4, 9],
               ["Onnx"]),
}  # fmt: skip


@pytest.mark.parametrize("case", MIXED)
def test_nodes_that_are_no_layers_are_one_layer(case: str, tmp_path: Path) -> None:
    nodes, initializers, shape, kinds = MIXED[case]
    path = save(tmp_path / "m.onnx", nodes, initializers, shape)
    x = RANDOM.normal(size=(3, *shape[1:])).astype(np.float32)
    model = load(path)
    assert [type(layer).__name__ for layer in model.layers] == kinds
    np.testing.assert_allclose(predicted(model, x), in_onnx_runtime(path, x), atol=1e-5)


REFUSED: dict[str, tuple[list[onnx.NodeProto], list[TensorProto], list[Any], str]] = {
    "operators": ([node("Selu", ["x"], "h"), node("Frobnicate", ["h"])], [], FLAT, "Frobnicate"),
    "batch": ([node("Gemm", ["x", "w"], transA=1)], [tensor("w", 6, 3)], FLAT, "the_Gemm"),
    "no batch left": ([node("ReduceMean", ["x"], axes=[0], keepdims=0)], [], FLAT, "is not the batch"),
    "unknown sizes": ([node("Relu", ["x"])], [], ["N", "M"], "input 'x' of [N, M]"),
    "no layers": ([node("Identity", ["x"])], [], FLAT, "no layers"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_imported_is_named(case: str, tmp_path: Path) -> None:
    nodes, initializers, shape, words = REFUSED[case]
    path = save(tmp_path / "m.onnx", nodes, initializers, shape)
    with pytest.raises((UnsupportedOnnxError, ShapeError, InvalidModelError)) as caught:
        load(path)
    assert words in str(caught.value)
    assert "test_onnx_files.py" in str(caught.value)  # the line that called


def test_bytes_that_are_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"not a model at all")
    with pytest.raises(InvalidModelError):
        load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.onnx")
