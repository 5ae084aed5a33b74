"""Neural networks on ravop: layers, losses, optimizers, and the model that holds them."""

from ravdl.neural_networks.from_torch import from_torch
from ravdl.neural_networks.functional import Input
from ravdl.neural_networks.layers.function import Lambda
from ravdl.neural_networks.load_model import load_model
from ravdl.neural_networks.load_onnx_model import load_onnx
from ravdl.neural_networks.model import NeuralNetwork

__all__ = ["Input", "Lambda", "NeuralNetwork", "from_torch", "load_model", "load_onnx"]
