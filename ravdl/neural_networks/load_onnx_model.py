"""`load_onnx`: an ONNX file as a `NeuralNetwork` that can be trained further."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import Any

from ravdl.neural_networks.importing.network import Imported, imported
from ravdl.neural_networks.layers.arguments import file_path
from ravdl.neural_networks.loss_functions import Loss
from ravdl.neural_networks.model import NeuralNetwork
from ravdl.neural_networks.optimizers import Optimizer
from ravop.errors import RavenError
from ravop.graph.source import located
from ravop.importing.reading import load_proto


def load_onnx(
    model_file_path: str | PathLike[str],
    optimizer: Optimizer,
    loss: type[Loss] | Loss | Any,
    *,
    input_shapes: Any = None,
    **options: Any,
) -> NeuralNetwork:
    """The model in an ONNX file, with its weights, ready to `fit`, `predict` or change.

    Nodes in a row before each output that are layers here (Gemm, MatMul and the Add after it, Conv in two dimensions,
    BatchNormalization, MaxPool, Dropout, Flatten, Relu, Sigmoid, Tanh, Softmax) become these layers, so that a head can be
    replaced (`model.replace_head(Dense(5))`) and losses see the last activation. What is before them is one `Onnx` layer, which
    takes any nodes that `ravop.import_onnx` takes; its weights bear the names of the file's initializers. Weights are frozen by
    those names: `model.set_trainable(False, names=["features.*"])`.

    Args:
        model_file_path: the file; the first axis of all inputs and outputs is the batch.
        optimizer, loss, options: as for `NeuralNetwork`; several outputs take several losses.
        input_shapes: of one sample, for an input with sizes that the file does not tell: a shape, or a dict by the inputs'
            names.
    Raises:
        UnsupportedOnnxError: what cannot be imported, node by node.
        InvalidModelError: a file that is no ONNX model, or a damaged one.
        ArgumentError, ShapeError: `input_shapes` that do not fit; outputs whose first axis is not the batch.
        FileNotFoundError: there is no such file.
    """
    try:
        path = file_path(model_file_path)
        path.stat()
        proto = load_proto(path)
        return network_of(imported(proto, path.name, input_shapes), optimizer, loss, options)
    except RavenError as error:
        raise located(error, "load_onnx") from None


def network_of(found: Imported, optimizer: Optimizer, loss: Any, options: dict[str, Any]) -> NeuralNetwork:
    """The model with the weights that were imported."""
    model = NeuralNetwork(optimizer, loss, inputs=found.inputs, outputs=found.outputs, **options)
    now = dict(zip(model.weight_names, model.get_weights(), strict=True)) | found.values()
    model.set_weights([now[name] for name in model.weight_names])
    model.network = replace(model.network, origins=found.origins())
    return model
