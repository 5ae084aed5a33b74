"""Neural networks on ravop: layers, losses, optimizers, and the model that holds them."""

from ravdl.neural_networks.model import NeuralNetwork

__all__ = ["NeuralNetwork"]
