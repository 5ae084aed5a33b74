"""Rules of operators without float64 kernels, and of activations as people know them, against PyTorch."""

import numpy as np
import pytest
import torch

from ravop.ops.catalogue import node

ACTIVATIONS = {
    "Celu": ({"alpha": 0.7}, lambda x: torch.nn.functional.celu(x, 0.7)),
    "Erf": ({}, torch.erf),
    "Gelu": ({}, torch.nn.functional.gelu),
    "HardSwish": ({}, torch.nn.functional.hardswish),
    "Mish": ({}, torch.nn.functional.mish),
    "Relu": ({}, torch.relu),
    "Selu": ({}, torch.selu),
    "Sigmoid": ({}, torch.sigmoid),
    "Softplus": ({}, torch.nn.functional.softplus),
    "Tanh": ({}, torch.tanh),
}


@pytest.mark.parametrize("op_type", ACTIVATIONS)
def test_activation(check_torch, op_type):
    attributes, theirs = ACTIVATIONS[op_type]
    check_torch(lambda x: node(op_type, [x], **attributes), theirs, np.linspace(-4.05, 4, 40).reshape(4, 10))


def test_tanh_gelu(check_torch):
    check_torch(
        lambda x: node("Gelu", [x], approximate="tanh"), lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        np.linspace(-4.05, 4, 40),
    )  # fmt: skip


def test_relu_of_zero_and_of_ties(check_torch):
    check_torch(lambda x: node("Relu", [x]), torch.relu, [0.0, -0.0, 1.0])
    check_torch(lambda x, y: node("Max", [x, y]), torch.maximum, [1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    check_torch(lambda x: x.max(axis=1), lambda x: x.amax(1), [[1.0, 1.0, 0.0], [2.0, 3.0, 3.0]])


def test_nan_goes_where_it_goes_in_pytorch(check_torch):
    check_torch(lambda x: node("Relu", [x]) * x, lambda x: torch.relu(x) * x, [np.nan, 1.0, np.inf])
