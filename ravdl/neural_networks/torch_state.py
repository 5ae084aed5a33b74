"""A network's weights as the `state_dict()` of the PyTorch module that it was imported from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ravdl.neural_networks.network import Network
from ravop.errors import ArgumentError
from ravop.protocol.tensors import Array

COUNTER = "num_batches_tracked"
"""What PyTorch's BatchNorm calls the number of its training steps."""


def state_dict(network: Network, values: Mapping[str, Array], steps: int) -> dict[str, Any]:
    """Tensors by the module's own names. `values` are the weights by their names in the network, `steps` the training
    steps that were made. Raises `ArgumentError` for a network of other origin, or without PyTorch.
    """
    if not network.origins:
        raise ArgumentError(
            "the model does not come from a PyTorch module", expected="a model that from_torch made",
            received=f"a model of {', '.join(layer.name for layer in network.layers)}",
        )  # fmt: skip
    torch = imported_torch()
    found = {}
    for name, weight, transposed in network.origins:
        value = values[weight]
        found[name] = torch.from_numpy(np.array(value.T if transposed else value, order="C"))
    moving = network.moving()
    counting = {
        n.rpartition(".")[0]
        for n, weight, _ in network.origins
        if weight in moving and n.endswith("running_mean")
    }
    for name, value in network.kept.items():
        part, _, own = name.rpartition(".")
        counts = own == COUNTER and part in counting
        found[name] = torch.from_numpy(np.array(value + steps if counts else value))
    return found


def imported_torch() -> Any:
    """The package, which is needed by whoever uses it alone. Raises `ArgumentError` where it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise ArgumentError(
            "PyTorch is not installed", expected="the package torch", received=str(error),
            hint='pip install "ravenverse[torch]"',
        ) from error  # fmt: skip
    return torch
