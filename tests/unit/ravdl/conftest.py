"""A fresh graph for each test, and a PyTorch twin of a model, written with PyTorch's own layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravop.graph.graph import set_current_graph

torch.set_num_threads(1)


@pytest.fixture
def graph() -> Iterator[R.Graph]:
    yield R.Graph(name="test")
    set_current_graph(None)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


TORCH: dict[str, Callable[[Any], nn.Module]] = {
    "Dense": lambda layer: nn.Linear(layer.input_shape[0], layer.n_units, bias=layer.use_bias),
    "Conv2D": lambda layer: nn.Conv2d(
        layer.input_shape[0],
        layer.n_filters,
        layer.window.size,
        layer.window.stride,
        layer.window.padding,
        bias=layer.kernel.use_bias,
    ),
    "BatchNormalization": lambda layer: (nn.BatchNorm1d if len(layer.input_shape) == 1 else nn.BatchNorm2d)(
        layer.input_shape[0], eps=layer.epsilon, momentum=1 - layer.momentum
    ),
    "MaxPooling2D": lambda layer: nn.MaxPool2d(layer.window.size, layer.window.stride),
    "Flatten": lambda layer: nn.Flatten(),
    "Activation": lambda layer: {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[layer.activation](),
}


def to_torch(model: NeuralNetwork, layers: int) -> nn.Sequential:
    """PyTorch's counterpart of the first `layers` layers, with the model's present weights."""
    weights = iter(model.get_weights())
    modules = []
    for layer in model.layers[:layers]:
        module = TORCH[type(layer).__name__](layer)
        own = list(module.parameters()) + [b for b in module.buffers() if b.ndim]
        for tensor in own:
            value = next(weights)
            tensor.data[:] = torch.tensor(value.T if isinstance(module, nn.Linear) else value)
        modules.append(module)
    return nn.Sequential(*modules)


@pytest.fixture
def torch_twin() -> Callable[[NeuralNetwork, int], nn.Sequential]:
    return to_torch
