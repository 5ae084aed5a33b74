"""Normalizations, with all their outputs, against PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ravop.autodiff import grad
from ravop.graph.dtypes import FLOAT
from ravop.ops.catalogue import node


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def group_normalization(x, s, b, epsilon):
    """ONNX does not infer the shape of its output."""
    attributes = {"num_groups": 2, "epsilon": epsilon}
    return x.graph.apply("GroupNormalization", [x, s, b], attributes, outputs=[(x.dtype, x.shape)])[0]


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 3, 2)])
def test_instance_and_group_normalization(check_torch, shape):
    scale, bias = values(4, seed=1), values(4, seed=2)
    check_torch(
        lambda x, s, b: node("InstanceNormalization", [x, s, b], epsilon=1e-3),
        lambda x, s, b: F.instance_norm(x, weight=s, bias=b, eps=1e-3), values(*shape), scale, bias, atol=1e-4,
    )  # fmt: skip
    check_torch(
        lambda x, s, b: group_normalization(x, s, b, 1e-3),
        lambda x, s, b: F.group_norm(x, 2, s, b, 1e-3), values(*shape), scale, bias, atol=1e-4,
    )  # fmt: skip


def test_layer_normalization_with_its_mean_and_deviation(check_torch):
    def ours(x, s, b):
        statistics = (FLOAT, (2, 3, 1))
        y, mean, k = x.graph.apply(
            "LayerNormalization", [x, s, b], {"axis": -1}, outputs=[(FLOAT, x.shape), statistics, statistics]
        )
        return y * mean + k

    def theirs(x, s, b):
        mean, k = x.mean(-1, keepdim=True), 1 / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)
        return F.layer_norm(x, (4,), s, b) * mean + k

    check_torch(ours, theirs, values(2, 3, 4), values(4, seed=1), values(4, seed=2), atol=1e-4)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_local_response_normalization(check_torch, size):
    check_torch(
        lambda x: node("LRN", [x], size=size, alpha=0.3, beta=0.6, bias=1.5),
        lambda x: F.local_response_norm(x.flip(1), size, 0.3, 0.6, 1.5).flip(1), values(2, 6, 3, 2),
    )  # fmt: skip


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalization(check_torch, p, axis):
    check_torch(
        lambda x: node("LpNormalization", [x], axis=axis, p=p), lambda x: F.normalize(x, p=p, dim=axis),
        values(2, 3, 4),
    )  # fmt: skip


def test_running_statistics_pass_gradients_on(check_torch):
    """To x and to what they were before, as the formulas of ONNX say."""

    def ours(x, s, b, mean, var):
        inputs = [x, s, b, mean * 1.0, var * 1.0]  # the engine's kernel writes over what it is given
        y, new_mean, new_var = x.graph.apply(
            "BatchNormalization", inputs, {"training_mode": 1, "momentum": 0.7}
        )
        return y * new_mean.reshape(1, 3, 1) + new_var.reshape(1, 3, 1)

    def theirs(x, s, b, mean, var):
        new_mean = 0.7 * mean + 0.3 * x.mean((0, 2))
        new_var = 0.7 * var + 0.3 * x.var((0, 2), unbiased=False)
        y = F.batch_norm(x, None, None, s, b, True)
        return y * new_mean.reshape(1, 3, 1) + new_var.reshape(1, 3, 1)

    statistics = values(3, seed=3), np.abs(values(3, seed=4)) + 0.5
    check_torch(ours, theirs, values(4, 3, 5), values(3, seed=1), values(3, seed=2), *statistics, atol=1e-4)


def test_second_derivatives(check_torch):
    """Of all normalizations together: the squared norm of the gradient of a cubic."""
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)

    def ours(x):
        s, b = x.graph.tensor(ones), x.graph.tensor(zeros)
        outputs = [
            node("InstanceNormalization", [x, s, b]),
            group_normalization(x, s, b, 1e-5),
            node("LayerNormalization", [x, s, b]),
            node("LRN", [x], size=3, alpha=0.5),
            node("LpNormalization", [x], axis=1),
            node("BatchNormalization", [x, s, b, b, s]),
        ]
        found = [grad((y * y * y).sum(), x) for y in outputs]
        return sum(((g * g).mean() for g in found[1:]), start=(found[0] * found[0]).mean())

    def theirs(x):
        outputs = [
            F.instance_norm(x),
            F.group_norm(x, 2),
            F.layer_norm(x, (4,)),
            F.local_response_norm(x, 3, 0.5, 0.75),
            F.normalize(x, dim=1),
            x / np.sqrt(1 + 1e-5),
        ]
        found = [torch.autograd.grad((y * y * y).sum(), x, create_graph=True)[0] for y in outputs]
        return sum((g * g).mean() for g in found)

    check_torch(ours, theirs, values(2, 4, 3, 4), rtol=1e-2, atol=1e-2)
