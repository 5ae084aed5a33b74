"""`from_torch`: a PyTorch module as a `NeuralNetwork`. PyTorch and onnxscript are needed by whoever calls it alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ravdl.neural_networks.importing.network import imported
from ravdl.neural_networks.importing.torch_export import exported
from ravdl.neural_networks.importing.torch_names import Tensors, never_trained, tensors_of, with_ties
from ravdl.neural_networks.load_onnx_model import network_of
from ravdl.neural_networks.model import NeuralNetwork
from ravdl.neural_networks.network import Network, Origin
from ravdl.neural_networks.optimizers import Optimizer
from ravop.errors import RavenError
from ravop.graph.source import located
from ravop.importing import read_model


def from_torch(
    module: Any,
    example_inputs: Any,
    optimizer: Optimizer,
    loss: Any,
    *,
    exporter: str = "auto",
    **options: Any,
) -> NeuralNetwork:
    """The module with its weights, ready to `fit`; `model.to_torch_state_dict()` gives the trained weights back.

    PyTorch exports the module to ONNX, and it is imported as `load_onnx` imports a file. BatchNorm and Dropout train (also if
    the module is in evaluation mode), parameters that do not require gradients are frozen, tied ones stay one, and weights are
    frozen by the module's own names: `model.set_trainable(False, names=["features.*"])`. The module itself is left as it is.

    Args:
        module: a `torch.nn.Module` whose forward takes tensors and gives a tensor, or several; the first axis of each is the
            batch.
        example_inputs: a tensor or array, a tuple of them, or a dict by the names of forward's arguments. Shapes and dtypes
            count, values do not.
        optimizer, loss, options: as for `NeuralNetwork`. A module that ends in logits needs a loss that knows it, such as
            `CategoricalCrossEntropy(from_logits=True)`.
        exporter: `"auto"` asks PyTorch's current exporter (`"dynamo"`, which needs onnxscript), then the older one
            (`"legacy"`), which is faster and traces one run of the module.
    Raises:
        ArgumentError: no module, inputs that it does not take, outputs that are no tensors; PyTorch is not installed.
        UnsupportedOnnxError: a module that PyTorch cannot export, or an operator that cannot be imported.
        InvalidModelError: a module of more than 2 GiB.
    """
    try:
        proto = exported(module, example_inputs, exporter)
        tensors = tensors_of(module)
        proto = with_ties(proto, tensors)
        fixed = never_trained(read_model(proto), tensors)
        found = imported(proto, type(module).__name__, named=True, fixed=fixed)
        model = network_of(found, optimizer, loss, options)
    except RavenError as error:
        raise located(error, "from_torch") from None
    model.network = _with_names(model.network, tensors)
    _start(model, tensors)
    held = [name for name in tensors.held if any(origin.name == name for origin in model.network.origins)]
    if held:
        model.set_trainable(False, names=[_literal(name) for name in held])
    return model


def _with_names(network: Network, tensors: Tensors) -> Network:
    """The network with all names of the module's state as origins, and what it holds beside them."""
    weights = {origin.name: origin for origin in network.origins}
    origins = [
        Origin(name, weights[first].weight, weights[first].transposed)
        for first, names in tensors.names.items()
        if first in weights
        for name in names
    ]
    known = {origin.name for origin in origins}
    kept = {name: value for name, value in tensors.values.items() if name not in known}
    return replace(network, origins=tuple(origins), kept=kept)


def _start(model: NeuralNetwork, tensors: Tensors) -> None:
    """Begin with the module's own values: exporting may have moved running statistics."""
    values = dict(zip(model.weight_names, model.get_weights(), strict=True))
    for name, weight, transposed in model.network.origins:
        value = tensors.values[name]
        values[weight] = np.asarray(value.T if transposed else value, np.float32)
    model.set_weights([values[name] for name in model.weight_names])


def _literal(name: str) -> str:
    """A pattern that fits this name alone."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)
