"""Callbacks: how a script follows a training run, and how it changes its course.

A run may be computed elsewhere, long after `fit` returned, and by several machines at a time. So what a script does with a
`Callback` is done when results are read, and what changes the course of training is part of the graph: a `Steering`.
"""

from ravdl.neural_networks.callbacks.callback import Callback
from ravdl.neural_networks.callbacks.checkpoint import ModelCheckpoint
from ravdl.neural_networks.callbacks.logs import CSVLogger, LambdaCallback
from ravdl.neural_networks.callbacks.rates import LearningRateScheduler, ReduceLROnPlateau
from ravdl.neural_networks.callbacks.steering import Seen, Steering, Verdict
from ravdl.neural_networks.callbacks.stopping import EarlyStopping, TerminateOnNaN

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "Seen",
    "Steering",
    "TerminateOnNaN",
    "Verdict",
]
