"""Convolution, pooling and normalization of the sizes and kinds that networks have, against PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ravop.autodiff import grad
from ravop.ops.catalogue import node


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(
    ("batch", "channels", "filters", "size", "kernel", "pad"),
    [(32, 1, 16, 8, 3, 1), (32, 16, 32, 4, 3, 1), (4, 3, 32, 32, 3, 1), (4, 32, 64, 16, 3, 1), (4, 20, 6, 12, 5, 0),
     (3, 8, 4, 6, 1, 0)],
)  # fmt: skip
def test_conv_of_the_sizes_that_networks_have(check_torch, batch, channels, filters, size, kernel, pad):
    check_torch(
        lambda x, w: node("Conv", [x, w], pads=[pad] * 4), lambda x, w: F.conv2d(x, w, padding=pad),
        values(batch, channels, size, size), values(filters, channels, kernel, kernel, seed=1), rtol=1e-3, atol=1e-3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("channels", "filters", "size", "group"),
    [(16, 8, (5, 4), 2), (16, 4, (9,), 2), (9, 4, (6,), 1), (8, 4, (4, 5, 3), 1), (16, 2, (4, 5, 3), 2), (4, 6, (5, 4), 2)],
    ids=str,
)  # fmt: skip
def test_conv_in_groups_and_other_dimensions(check_torch, channels, filters, size, group):
    theirs = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(size)]

    def ours(x, w):
        sides = {"strides": [2] * len(size), "pads": [1] * 2 * len(size)}
        return node("Conv", [x, w], **sides, group=group)

    check_torch(
        ours, lambda x, w: theirs(x, w, None, 2, 1, 1, group), values(2, channels, *size),
        values(filters, channels // group, *(3,) * len(size), seed=1), rtol=1e-3, atol=1e-3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride"),
    [(64, (6, 5), (3, 3), 1), (64, (6, 6), (3, 2), 2), (4, (20, 18), (3, 3), 1), (4, (9, 8), (6, 6), 2), (8, (9,), (3,), 1)],
    ids=str,
)  # fmt: skip
def test_depthwise_conv(check_torch, channels, size, kernel, stride):
    theirs = F.conv1d if len(size) == 1 else F.conv2d

    def ours(x, w):
        sides = {"strides": [stride] * len(size), "pads": [1] * 2 * len(size)}
        return node("Conv", [x, w], **sides, group=channels)

    check_torch(
        ours, lambda x, w: theirs(x, w, None, stride, 1, 1, channels), values(2, channels, *size),
        values(channels, 1, *kernel, seed=1), rtol=1e-3, atol=1e-3,
    )  # fmt: skip


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
def test_auto_pad(check_torch, auto_pad, stride):
    def pads(kernel, size):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        halves = (total // 2, total - total // 2)
        return (0, 0) if auto_pad == "VALID" else halves if auto_pad == "SAME_UPPER" else halves[::-1]

    def theirs(x, w):
        return F.conv2d(F.pad(x, (*pads(2, 5), *pads(3, 6))), w, stride=stride)

    check_torch(
        lambda x, w: node("Conv", [x, w], auto_pad=auto_pad, strides=[stride] * 2), theirs, values(2, 2, 6, 5),
        values(3, 2, 3, 2, seed=1),
    )  # fmt: skip


@pytest.mark.parametrize(("size", "stride"), [(6, 2), (7, 2), (6, 1), (6, 3)])
def test_ties_go_to_the_first_maximum(check_torch, size, stride):
    x = np.random.default_rng(0).integers(0, 2, size=(4, 3, size, size))
    check_torch(
        lambda x: node("MaxPool", [x], kernel_shape=[2, 2], strides=[stride] * 2),
        lambda x: F.max_pool2d(x, 2, stride),
        x,
    )


def test_max_pool_whose_output_is_used_twice_and_differentiated_twice(check_torch):
    def ours(x):
        y = node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
        return y * y + grad((y * y * y).sum(), x)[:, :, ::2, ::2]

    def theirs(x):
        y = F.max_pool2d(x, 2)
        (g,) = torch.autograd.grad((y * y * y).sum(), x, create_graph=True)
        return y * y + g[:, :, ::2, ::2]

    check_torch(ours, theirs, values(2, 2, 4, 4))


def test_global_pools(check_torch):
    x = values(2, 3, 4, 5)
    check_torch(lambda x: node("GlobalAveragePool", [x]), lambda x: F.adaptive_avg_pool2d(x, 1), x)
    check_torch(lambda x: node("GlobalMaxPool", [x]), lambda x: F.adaptive_max_pool2d(x, 1), x)


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (2, 3, 4, 4)])
@pytest.mark.parametrize("training", [0, 1])
def test_batch_normalization(check_torch, shape, training):
    mean, var = values(3, seed=3), np.abs(values(3, seed=4)) + 0.5

    def ours(x, scale, bias, *statistics):
        held = statistics or [x.graph.tensor(a, "float32") for a in (mean, var)]
        return x.graph.apply(
            "BatchNormalization", [x, scale, bias, *held], {"training_mode": training, "epsilon": 1e-3}
        )[0]

    def theirs(x, scale, bias, *statistics):
        held = statistics or (torch.tensor(mean, dtype=torch.float32), torch.tensor(var, dtype=torch.float32))
        return F.batch_norm(x, *held, scale, bias, bool(training), eps=1e-3)

    check_torch(ours, theirs, values(*shape), values(3, seed=1), values(3, seed=2))


def test_batch_normalization_by_given_statistics(check_torch):
    def theirs(x, scale, bias, mean, var):
        per_channel = [v.reshape(1, -1, 1) for v in (scale, bias, mean, var)]
        return (x - per_channel[2]) / torch.sqrt(per_channel[3] + 1e-5) * per_channel[0] + per_channel[1]

    check_torch(
        lambda *ops: node("BatchNormalization", list(ops)), theirs, values(2, 3, 4), values(3, seed=1), values(3, seed=2),
        values(3, seed=3), np.abs(values(3, seed=4)) + 0.5,
    )  # fmt: skip


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalization(check_torch, axis):
    shape = (2, 3, 4)[axis:]
    check_torch(
        lambda x, s, b: node("LayerNormalization", [x, s, b], axis=axis), lambda x, s, b: F.layer_norm(x, shape, s, b),
        values(2, 3, 4), values(*shape, seed=1), values(*shape, seed=2),
    )  # fmt: skip
