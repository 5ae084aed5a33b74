"""Every loss by its class name: what training makes small. `LOSSES` is the one place where a new loss is entered."""

from __future__ import annotations

from ravdl.neural_networks.loss import FunctionLoss, Loss
from ravdl.neural_networks.loss_classification import (
    BinaryCrossEntropy,
    BinaryFocalCrossEntropy,
    CategoricalCrossEntropy,
    CategoricalFocalCrossEntropy,
    CrossEntropy,
    SparseCategoricalCrossEntropy,
)
from ravdl.neural_networks.loss_regression import (
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    SquaredHinge,
    SquareLoss,
)

LOSSES: dict[str, type[Loss]] = {
    loss.__name__: loss
    for loss in (
        BinaryCrossEntropy,
        BinaryFocalCrossEntropy,
        CategoricalCrossEntropy,
        CategoricalFocalCrossEntropy,
        CategoricalHinge,
        CosineSimilarity,
        CrossEntropy,
        Hinge,
        Huber,
        KLDivergence,
        LogCosh,
        MeanAbsoluteError,
        MeanSquaredError,
        Poisson,
        SparseCategoricalCrossEntropy,
        SquareLoss,
        SquaredHinge,
    )
}

__all__ = ["LOSSES", "FunctionLoss", "Loss", *LOSSES]
