"""What `fit`, callbacks and exports cannot take is refused when it is given, and not later or never."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.callbacks import CSVLogger, ModelCheckpoint
from ravdl.neural_networks.layers import Activation, Dense
from ravdl.neural_networks.loss_functions import CrossEntropy, SquareLoss
from ravdl.neural_networks.onnx_export import export
from ravdl.neural_networks.optimizers import Adam
from ravop.errors import ArgumentError, InvalidModelError

X = np.ones((6, 4), np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 1])


def classifier() -> NeuralNetwork:
    R.Graph()
    model = NeuralNetwork(Adam(), CrossEntropy())
    model.add(Dense(3, input_shape=(4,)))
    model.add(Activation("softmax"))
    return model


@pytest.mark.parametrize("make", [CSVLogger, ModelCheckpoint])
@pytest.mark.parametrize("path", [None, 3, b"log", "a\x00b", ""])
def test_callbacks_take_paths_of_files_only(make: Callable[[Any], Any], path: Any) -> None:
    with pytest.raises(ArgumentError, match="no path"):
        make(path)


@pytest.mark.parametrize("name", ["shuffle", "save_model"])
@pytest.mark.parametrize("value", ["yes", 3, None, [True]])
def test_switches_are_true_or_false(name: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=f"{name} must be true or false"):
        classifier().fit(X, LABELS, 1, 2, **{name: value})


@pytest.mark.parametrize("label", [9, 3, -1, 1.5, "a", True, (1,)])
def test_weights_are_for_classes_that_there_are(label: Any) -> None:
    for y in (LABELS, np.eye(3, dtype=np.float32)[LABELS]):
        with pytest.raises(ArgumentError, match="names a class that there is not") as caught:
            classifier().fit(X, y, 1, 2, class_weight={label: 2.0})
        assert "0 to 2" in caught.value.problem.expected


def test_a_class_without_samples_may_have_a_weight() -> None:
    y = np.zeros(6, int)
    classifier().fit(X, y, 1, 2, class_weight={2: 2.0, np.int64(1): 1.0})


def test_weights_beyond_what_an_onnx_file_holds_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    """The arrays are views of one number: nothing of this size is in memory."""
    model = NeuralNetwork(Adam(), SquareLoss())
    model.add(Dense(2, input_shape=(3,)))
    names, network = model.weight_names, model.network
    huge = {name: np.broadcast_to(np.float32(0), (2**15, 2**14)) for name in names}
    with pytest.raises(InvalidModelError, match="too large for one ONNX file") as caught:
        export(network, huge, tmp_path / "m.onnx")
    assert "4,294,967,296" in caught.value.problem.received
    assert not list(tmp_path.iterdir())


def test_a_graph_beyond_what_an_onnx_file_holds_is_refused(tmp_path: Path) -> None:
    graph = R.Graph()
    graph.tensor(np.ones((200, 200), np.float32)).persist_op("y")
    graph.inputs[next(iter(graph.inputs))] = np.broadcast_to(np.float32(0), (2**15, 2**15))
    with pytest.raises(ArgumentError, match="too large for an ONNX file"):
        R.export_onnx(tmp_path / "g.onnx")
    assert not list(tmp_path.iterdir())
