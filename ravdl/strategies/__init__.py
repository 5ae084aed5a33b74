"""How `fit` is spread over machines: the argument `strategy` of `NeuralNetwork.fit`.

A strategy only decides what graph a training run is: loops whose bodies have parallel branches. Whoever runs the graph
knows nothing of training, and may give the branches to several machines or to one; `ravop.run_local()` computes the same.
"""

from ravdl.strategies.kinds import Average, DataParallel, LocalSGD, Nesterov, Sequential, Strategy

__all__ = ["Average", "DataParallel", "LocalSGD", "Nesterov", "Sequential", "Strategy"]
