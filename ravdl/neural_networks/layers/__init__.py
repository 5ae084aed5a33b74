"""Layers: one class a file, each a description of what it computes, with the weights it needs.

`registry.LAYERS` lists them by name.
"""

from ravdl.neural_networks.layers.activation import Activation
from ravdl.neural_networks.layers.convolution import Conv2D
from ravdl.neural_networks.layers.dense import Dense
from ravdl.neural_networks.layers.dropout import Dropout
from ravdl.neural_networks.layers.flatten import Flatten
from ravdl.neural_networks.layers.layer import Layer, Moment, WeightSpec
from ravdl.neural_networks.layers.normalization import BatchNormalization
from ravdl.neural_networks.layers.pooling import MaxPooling2D
from ravdl.neural_networks.layers.registry import LAYERS, layer_from

__all__ = [
    "LAYERS",
    "Activation",
    "BatchNormalization",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "MaxPooling2D",
    "Moment",
    "WeightSpec",
    "layer_from",
]
