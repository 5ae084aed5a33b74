"""Optimizers: how a gradient moves a weight. `Optimizer` is their base; a new one is a class in a file beside and an
entry in `OPTIMIZERS`.
"""

from ravdl.neural_networks.optimizers.adagrad import Adadelta, Adagrad
from ravdl.neural_networks.optimizers.adam import LAMB, Adam, Adamax, AdamW, Nadam
from ravdl.neural_networks.optimizers.momentum import SGD, Lion, RMSprop
from ravdl.neural_networks.optimizers.optimizer import Optimizer, Options, Part

__all__ = [
    "LAMB",
    "OPTIMIZERS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Nadam",
    "Optimizer",
    "Options",
    "Part",
    "RMSprop",
]

OPTIMIZERS: dict[str, type[Optimizer]] = {
    kind.__name__: kind for kind in (Adadelta, Adagrad, Adam, AdamW, Adamax, LAMB, Lion, Nadam, RMSprop, SGD)
}
"""By class name, as saved models name them."""
