"""`load_model`: a model that `NeuralNetwork.save` wrote. `REGISTRY` is what such a file may name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any

from ravdl.neural_networks.initializers import INITIALIZER_CLASSES
from ravdl.neural_networks.layers.function import Lambda
from ravdl.neural_networks.layers.onnx import Onnx
from ravdl.neural_networks.layers.registry import LAYERS
from ravdl.neural_networks.loss import FunctionLoss
from ravdl.neural_networks.loss_functions import LOSSES
from ravdl.neural_networks.metrics import METRIC_CLASSES
from ravdl.neural_networks.model import NeuralNetwork
from ravdl.neural_networks.optimizers import OPTIMIZERS
from ravdl.neural_networks.regularizers import REGULARIZERS
from ravdl.neural_networks.saving import read_model
from ravdl.neural_networks.schedules import SCHEDULES
from ravop.errors import InvalidModelError

REGISTRY: dict[str, Callable[..., Any]] = {
    **LAYERS,
    **LOSSES,
    **METRIC_CLASSES,
    **OPTIMIZERS,
    **SCHEDULES,
    **INITIALIZER_CLASSES,
    **REGULARIZERS,
    "FunctionLoss": FunctionLoss,
    "Lambda": Lambda,
    "Onnx": Onnx,
}


def load_model(
    path: str | PathLike[str], custom_objects: Mapping[str, Callable[..., Any]] | None = None
) -> NeuralNetwork:
    """The model in a file, ready to `fit`, `predict` or `save`.

    Nothing of the file is run: a file from a stranger can be wrong, but does nothing.

    Args:
        path: what `model.save` wrote.
        custom_objects: functions and classes that the model uses and Ravenverse does not have, by their names.
    Raises:
        InvalidModelError: a file that is none, or is damaged.
        ArgumentError: a function or class that is not known; give it in `custom_objects`.
        FileNotFoundError: there is no such file.
    """
    network, training, values = read_model(path, REGISTRY, custom_objects)
    if not {"optimizer", "loss"} <= set(training) <= {"optimizer", "loss", "metrics", "loss_weights", "seed"}:
        raise InvalidModelError(
            "this is no saved model",
            expected="its optimizer, loss, metrics, loss_weights and seed",
            received=", ".join(map(str, training))[:200],
        )
    return NeuralNetwork.restored(network, training, values)
