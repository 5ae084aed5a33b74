"""Makes the ONNX files in `tests/data/torch/`: PyTorch models exported by PyTorch's own two exporters.

Beside each `NAME.onnx` lies `NAME.npz` with a batch `x` and PyTorch's own prediction `y` (evaluation mode). Run it to make
them anew: `pip install torch==2.13.0 onnxscript && python tests/data/make_fixtures.py`.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

TARGET = Path(__file__).parent / "torch"


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, 16),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(16, 8),
        nn.Tanh(),
        nn.Linear(8, 3),
        nn.Softmax(dim=1),
    )


def batch_norm_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Sigmoid(), nn.Linear(16, 3))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2, padding=(1, 0)), nn.Tanh(), nn.Flatten(), nn.Dropout(0.5),
        nn.Linear(6 * 2 * 1, 10), nn.Softmax(dim=1),
    )  # fmt: skip


def grouped_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding="same", groups=2, bias=False), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(8, 8, 1, groups=8), nn.Sigmoid(), nn.Flatten(), nn.Linear(8 * 4 * 4, 5),
    )  # fmt: skip


class ViewFlatten(nn.Module):
    """A flatten written as a view, and a linear layer without bias: Reshape and MatMul in ONNX."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5)
        self.head = nn.Linear(4 * 4 * 4, 7, bias=False)
        self.offset = nn.Parameter(torch.randn(7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        return self.head(x.view(x.size(0), -1)) + self.offset


CASES = {
    "mlp": (mlp, (12,)),
    "batch_norm_mlp": (batch_norm_mlp, (12,)),
    "cnn": (cnn, (1, 8, 8)),
    "grouped_cnn": (grouped_cnn, (4, 8, 8)),
    "view_flatten": (ViewFlatten, (3, 8, 8)),
}


def randomise(module: nn.Module) -> None:
    """Running statistics and offsets away from their defaults, so that a mix-up shows."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean.normal_(0.0, 0.5)
            layer.running_var.uniform_(0.5, 2.0)
            with torch.no_grad():
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0.0, 0.3)


def export(module: nn.Module, x: torch.Tensor, name: str, **options: Any) -> None:
    """One file. Tracing in training mode moves running statistics, so the module's own are put back; notes of where the
    file was made are removed."""
    path = TARGET / f"{name}.onnx"
    torch.onnx.export(copy.deepcopy(module), (x,), str(path), **options)
    model = onnx.load(path)
    for part in [
        model.graph,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
    ]:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    state = module.state_dict()
    for tensor in model.graph.initializer:
        if "running_" in tensor.name:
            tensor.CopyFrom(onnx.numpy_helper.from_array(state[tensor.name].numpy(), tensor.name))
    onnx.save(model, path)


def main() -> None:
    TARGET.mkdir(exist_ok=True)
    warnings.simplefilter("ignore")
    legacy = {"dynamo": False, "input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}, "opset_version": 17}
    training = {"training": torch.onnx.TrainingMode.TRAINING, "do_constant_folding": False}
    modern = {
        "dynamo": True,
        "external_data": False,
        "verbose": False,
        "dynamic_shapes": ({0: torch.export.Dim("batch")},),
    }
    for name, (build, shape) in CASES.items():
        torch.manual_seed(len(name))
        module = build()
        randomise(module)
        module.eval()
        x = torch.randn(5, *shape)
        np.savez(TARGET / f"{name}.npz", x=x.numpy(), y=module(x).detach().numpy())
        export(module, x, f"{name}_folded", **legacy)
        export(module, x, f"{name}_training", **legacy, **training)
        export(module, x, f"{name}_dynamo", **modern)


if __name__ == "__main__":
    main()
