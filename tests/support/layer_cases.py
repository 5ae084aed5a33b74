"""A case for each way a layer computes: how to make it, the shapes of inputs and outputs, and PyTorch's counterpart.

The cases are in the modules of the families beside this one; `all_layer_cases` gathers them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ravdl.neural_networks.layers import Layer

Shape = tuple[int, ...]
Tensors = dict[str, torch.Tensor]
Torch = Callable[..., Any]
"""(*inputs, weights, training) → a tensor, or a tuple of them; it may move the running statistics among the weights."""


@dataclass(frozen=True)
class Case:
    make: Callable[[], Layer]
    inputs: list[Shape]
    outputs: list[Shape]
    torch: Torch
    integers: int = 0
    """Inputs are integers below this; 0: floats."""
    fixed: int = 0
    """How many inputs, the last ones, no gradient reaches: masks."""
    idle: bool = True
    """Whether training is as PyTorch's counterpart tells: not so where random numbers are drawn."""
    close: dict[str, float] = field(default_factory=lambda: {"rtol": 1e-4, "atol": 2e-5})

    @property
    def moving(self) -> int:
        """How many inputs, the first ones, gradients reach."""
        return 0 if self.integers else len(self.inputs) - self.fixed

    def build(self, name: str) -> Layer:
        layer = self.make()
        layer.build(name, self.inputs)
        return layer

    def arrays(self, rng: np.random.Generator, batch: int) -> list[np.ndarray]:
        """Inputs for a batch; floats keep away from 0, where activations have corners."""
        if self.integers:
            return [rng.integers(0, self.integers, (batch, *shape)) for shape in self.inputs]
        return [away(rng.standard_normal((batch, *shape))) for shape in self.inputs]


def away(values: np.ndarray) -> np.ndarray:
    return (values + 0.05 * np.sign(values)).astype(np.float32)


def weights_of(layer: Layer, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights by their names within the layer; variances are positive."""
    found = {spec.name: away(0.6 * rng.standard_normal(spec.shape)) for spec in layer.weights()}
    return {
        name: abs(value) + 0.5 if name.endswith("running_var") else value for name, value in found.items()
    }


def one(make: Callable[[], Layer], before: Shape, after: Shape, twin: Torch, **more: Any) -> Case:
    """A case of a layer with one input and one output."""
    return Case(make, [before], [after], twin, **more)
