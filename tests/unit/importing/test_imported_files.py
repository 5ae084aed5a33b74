"""Files that PyTorch's exporters wrote give PyTorch's own predictions; their weights become parameters by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import external_data_helper
from onnx_models import Batch

import ravop as R
from ravop.errors import InvalidModelError
from ravop.importing import read_model

FILES = Path(__file__).parents[2] / "data" / "torch"


def test_predictions_of_exported_networks() -> None:
    batch = Batch()
    for path in sorted(FILES.glob("*.onnx")):
        data = np.load(path.with_name(path.name.rsplit("_", 1)[0] + ".npz"))
        found = read_model(path)
        x = batch.graph.input(data["x"])
        outputs, moved = found.apply(
            [x], {n: batch.graph.variable(a) for n, a in found.parameters.items()}, training=False
        )
        assert not moved
        batch.expect(path.name, outputs, [data["y"]])
    batch.check()


def test_a_model_is_taken_in_any_form(tmp_path: Path) -> None:
    path = FILES / "mlp_folded.onnx"
    data = np.load(FILES / "mlp.npz")
    batch = Batch()
    for form in (path, str(path), path.read_bytes(), onnx.load(path), ir.load(path), read_model(path)):
        batch.expect(type(form).__name__, R.import_onnx(form, data["x"]), [data["y"]])
    batch.check()
    names = list(R.parameters())
    assert names[:4] == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert "0.weight_2" in names


def test_weights_in_a_file_beside_the_model(tmp_path: Path) -> None:
    proto, data = onnx.load(FILES / "mlp_folded.onnx"), np.load(FILES / "mlp.npz")
    external_data_helper.convert_model_to_external_data(proto, location="weights.bin", size_threshold=0)
    onnx.save(proto, tmp_path / "model.onnx")
    batch = Batch()
    batch.expect("external", R.import_onnx(tmp_path / "model.onnx", data["x"]), [data["y"]])
    batch.check()
    with pytest.raises(InvalidModelError, match="another file"):
        R.import_onnx((tmp_path / "model.onnx").read_bytes(), data["x"])
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InvalidModelError, match=r"weights\.bin"):
        R.import_onnx(tmp_path / "model.onnx", data["x"])


def test_gradients_reach_the_parameters_and_name_the_nodes() -> None:
    import torch

    graph = R.Graph("training")
    data = np.load(FILES / "mlp.npz")
    loss = (R.import_onnx(FILES / "mlp_folded.onnx", data["x"]) ** 2).mean()
    ops = R.parameters()
    for name, gradient in zip(ops, R.grad(loss, list(ops.values())), strict=True):
        gradient.persist_op(name)
    found = R.run_local(graph)
    arrays = read_model(FILES / "mlp_folded.onnx").parameters
    layers = [torch.nn.Linear(*arrays[f"{n}.weight"].shape[::-1]) for n in (0, 3, 5)]
    network = torch.nn.Sequential(layers[0], torch.nn.ReLU(), torch.nn.Identity(), layers[1], torch.nn.Tanh(), layers[2],
                                  torch.nn.Softmax(dim=1))  # fmt: skip
    network.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    (network(torch.tensor(data["x"])) ** 2).mean().backward()
    for name, parameter in network.named_parameters():
        np.testing.assert_allclose(found[name], parameter.grad, rtol=1e-4, atol=1e-7, err_msg=name)
