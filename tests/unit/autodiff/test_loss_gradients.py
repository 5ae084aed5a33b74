"""ONNX's losses over classes: every option, their logarithms and their gradients' gradients, against PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

RNG = np.random.default_rng(8)
SCORES = RNG.normal(size=(4, 3, 2)).astype(np.float32)
CLASSES = np.array([[0, 2], [1, 1], [2, 0], [-1, 1]])
WEIGHTS = np.array([0.5, 1.5, 2.0], np.float32)


def loss(op_type, count, weights, **attributes):
    def ours(x, *more):
        given = [x, x.graph.tensor(np.maximum(CLASSES, attributes.get("ignore_index", 0)))]
        if weights:
            given.append(more[0] if more else x.graph.tensor(WEIGHTS))
        result = x.graph.apply(op_type, given, attributes, outputs=_types(x, count, attributes))
        return result[count - 1]

    return ours


def _types(x, count, attributes):
    shape = (4, 2) if attributes["reduction"] == "none" else ()
    return [(x.dtype, shape), (x.dtype, x.shape)][:count]


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("ignore", [None, 1, -1])
@pytest.mark.parametrize("weights", [False, True])
def test_losses(check_torch, reduction, ignore, weights):
    attributes = {"reduction": reduction} | ({} if ignore is None else {"ignore_index": ignore})
    classes = torch.tensor(np.maximum(CLASSES, 0 if ignore is None else ignore))
    weight = torch.tensor(WEIGHTS) if weights else None
    given = {"weight": weight, "reduction": reduction, "ignore_index": -100 if ignore is None else ignore}
    if ignore == 1:
        classes = torch.tensor(np.maximum(CLASSES, 1))
    check_torch(
        loss("SoftmaxCrossEntropyLoss", 1, weights, **attributes),
        lambda x: F.cross_entropy(x, classes, **given), SCORES, times=2, rtol=1e-3, atol=1e-4,
    )  # fmt: skip
    check_torch(
        loss("NegativeLogLikelihoodLoss", 1, weights, **attributes),
        lambda x: F.nll_loss(x, classes, **given), SCORES, times=2, rtol=1e-3, atol=1e-4,
    )  # fmt: skip


def test_the_logarithms_of_the_softmax(check_torch):
    check_torch(
        loss("SoftmaxCrossEntropyLoss", 2, False, reduction="mean"), lambda x: F.log_softmax(x, 1), SCORES,
        times=2, rtol=1e-3, atol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize("op_type", ["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"])
def test_weights_of_classes_have_gradients_too(check_torch, op_type):
    classes = torch.tensor(np.maximum(CLASSES, 0))
    theirs = F.cross_entropy if op_type.startswith("Softmax") else F.nll_loss

    def weighted(x, w):  # PyTorch gives these weights no gradient: written out
        return (theirs(x, classes, reduction="none") * w[classes]).sum() / w[classes].sum()

    check_torch(loss(op_type, 1, True, reduction="mean"), weighted, SCORES, WEIGHTS, rtol=1e-3, atol=1e-4)
