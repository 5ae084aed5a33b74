"""Files that were exported for one batch size, as PyTorch does unless it is told otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

import ravop as R
from ravdl.neural_networks.load_onnx_model import load_onnx
from ravdl.neural_networks.loss_functions import SquareLoss
from ravdl.neural_networks.optimizers import SGD
from ravop.errors import UnsupportedOnnxError
from ravop.graph.graph import set_current_graph


@pytest.mark.filterwarnings("ignore")
def test_a_plain_export_of_pytorch_trains_with_any_batch(tmp_path: Path, graph: R.Graph) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.BatchNorm2d(2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(32, 3)
    ).eval()  # fmt: skip
    torch.onnx.export(module, (torch.zeros(1, 1, 4, 4),), tmp_path / "m.onnx", dynamo=False)
    x = np.random.default_rng(1).standard_normal((5, 1, 4, 4)).astype(np.float32)
    model = load_onnx(tmp_path / "m.onnx", SGD(0.01), SquareLoss)
    model.predict(x).persist_op(name="before")
    history = model.fit(x, np.zeros((5, 3), np.float32), n_epochs=3, batch_size=2)
    found = R.run_local()
    np.testing.assert_allclose(found["before"], module(torch.from_numpy(x)).detach(), rtol=1e-4, atol=1e-5)
    assert history.keys
    assert found["training_loss_epoch_3"] < found["training_loss_epoch_1"]


@pytest.mark.parametrize("target", [(1, 2, 4), (1, -1, 2)], ids=["its size in a shape", "samples that mix"])
def test_nodes_made_for_one_batch_size_are_refused_at_load(target: tuple[int, ...], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "cut"], ["c"]),
        helper.make_node("Softmax", ["c"], ["s"], axis=1),
        helper.make_node("Reshape", ["s", "back"], ["y"]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])
    shapes = [
        helper.make_tensor("cut", TensorProto.INT64, [3], target),
        helper.make_tensor("back", TensorProto.INT64, [2], (-1, 8)),
    ]
    file = helper.make_model(helper.make_graph(nodes, "g", [given], [output], shapes), ir_version=8)
    (tmp_path / "m.onnx").write_bytes(file.SerializeToString())
    set_current_graph(None)
    with pytest.raises(UnsupportedOnnxError, match="one batch size only") as caught:
        load_onnx(tmp_path / "m.onnx", SGD(0.01), SquareLoss)
    hint = caught.value.problem.hint
    assert "dynamic_shapes" in hint
    assert "dynamic_axes" in hint
