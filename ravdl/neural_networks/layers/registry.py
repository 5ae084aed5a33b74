"""Every layer by its class name: the one place where a new layer is entered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ravdl.neural_networks.layers.activation import Activation
from ravdl.neural_networks.layers.convolution import Conv2D
from ravdl.neural_networks.layers.dense import Dense
from ravdl.neural_networks.layers.dropout import Dropout
from ravdl.neural_networks.layers.flatten import Flatten
from ravdl.neural_networks.layers.layer import Layer
from ravdl.neural_networks.layers.normalization import BatchNormalization
from ravdl.neural_networks.layers.pooling import MaxPooling2D
from ravop.errors import ArgumentError

LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D)
}


def layer_from(kind: str, config: Mapping[str, Any]) -> Layer:
    """A layer from its class name and `config()`. Raises `ArgumentError` for another name than those."""
    if kind not in LAYERS:
        raise ArgumentError("unknown layer", expected=", ".join(LAYERS), received=repr(kind))
    return LAYERS[kind](**config)
