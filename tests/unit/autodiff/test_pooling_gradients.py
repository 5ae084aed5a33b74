"""Pooling of every kind in one, two and three dimensions against PyTorch, over drawn geometries."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ravop.autodiff import grad
from ravop.ops.catalogue import node

MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
UNPOOL = {1: F.max_unpool1d, 2: F.max_unpool2d}


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def geometry(data, dilated):
    """(kernel, strides, pads, dilations, ceil) of windows none of which begins behind the data, and the size of the data."""
    draw = lambda *options: data.draw(st.sampled_from(options))  # noqa: E731
    rank = draw(1, 2, 2, 3)
    kernel, strides = (tuple(draw(2, 3) for _ in range(rank)) for _ in range(2))
    dilations = tuple(draw(1, 2) if dilated else 1 for _ in range(rank))
    pads, size = (tuple(draw(*options) for _ in range(rank)) for options in ((0, 1), (7, 8)))
    lengths = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    # PyTorch leaves out a last window that would begin behind the data; ONNX keeps it until opset 22.
    ceil = draw(False, True) and all(
        -(-(n + 2 * p - k) // s) * s < n + p for n, p, k, s in zip(size, pads, lengths, strides, strict=True)
    )
    return size, kernel, strides, pads, dilations, ceil


@given(st.data())
@settings(max_examples=10, deadline=None)
def test_max_pool(check_torch, data):
    size, kernel, strides, pads, dilations, ceil = geometry(data, dilated=True)

    def ours(x):
        return node(
            "MaxPool", [x], kernel_shape=kernel, strides=strides, pads=pads * 2, dilations=dilations, ceil_mode=int(ceil)
        )  # fmt: skip

    check_torch(
        ours, lambda x: MAX[len(size)](x, kernel, strides, pads, dilations, ceil), values(2, 2, *size)
    )


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_average_pool(check_torch, data):
    size, kernel, strides, pads, _, ceil = geometry(data, dilated=False)
    counted = data.draw(st.booleans())

    def ours(x):
        return node(
            "AveragePool", [x], kernel_shape=kernel, strides=strides, pads=pads * 2, ceil_mode=int(ceil),
            count_include_pad=int(counted),
        )  # fmt: skip

    check_torch(
        ours, lambda x: AVERAGE[len(size)](x, kernel, strides, pads, ceil, counted), values(2, 2, *size)
    )


def test_max_pool_that_counts_columns_first(check_torch):
    """Which is about its second output; the gradient is the same."""
    sides = {"kernel_shape": [3, 3], "strides": [2, 2], "storage_order": 1}
    check_torch(lambda x: node("MaxPool", [x], **sides), lambda x: F.max_pool2d(x, 3, 2), values(2, 2, 7, 7))


def test_average_pool_with_dilations(check_torch):
    def theirs(x):
        taps = [x[:, :, i : i + 5 : 2, j : j + 5 : 2] for i in (0, 2) for j in (0, 3)]
        return sum(taps) / 4

    check_torch(
        lambda x: node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2], dilations=[2, 3]), theirs,
        values(2, 2, 7, 8),
    )  # fmt: skip


def test_average_pool_of_long_axes(check_torch):
    check_torch(
        lambda x: node("AveragePool", [x], kernel_shape=[3], strides=[2], pads=[1, 1], ceil_mode=1),
        lambda x: F.avg_pool1d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False), values(2, 2, 400),
    )  # fmt: skip


@pytest.mark.parametrize("p", [1, 2, 3])
def test_pools_of_norms(check_torch, p):
    x = values(2, 3, 6, 7)
    x[0, 0, :3, :3] = 0
    check_torch(
        lambda x: node("LpPool", [x], kernel_shape=[2, 3], strides=[2, 2], p=p),
        lambda x: F.unfold(x.abs().pow(p), (2, 3), stride=2).reshape(2, 3, 6, 9).sum(2).clamp_min(1e-30).pow(1 / p)
        .reshape(2, 3, 3, 3),
        x,
    )  # fmt: skip
    check_torch(
        lambda x: node("GlobalLpPool", [x], p=p), lambda x: x.abs().pow(p).sum((2, 3), keepdim=True).pow(1 / p), x
    )  # fmt: skip


@pytest.mark.parametrize("rank", [1, 2])
def test_max_unpool(check_torch, rank):
    x = values(2, 3, *(3,) * rank)
    plane = 6**rank
    places = (
        np.random.default_rng(0)
        .permuted(np.tile(np.arange(plane), (6, 1)), axis=1)[:, : 3**rank]
        .reshape(x.shape)
    )
    flat = places + (np.arange(6) * plane).reshape(2, 3, *(1,) * rank)
    check_torch(
        lambda x: node("MaxUnpool", [x, x.graph.tensor(flat)], kernel_shape=[2] * rank, strides=[2] * rank),
        lambda x: UNPOOL[rank](x, torch.tensor(places), 2),
        x,
    )


def test_second_derivatives(check_torch):
    pools = [
        (lambda x: node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2]), lambda x: F.max_pool2d(x, 3, 2)),
        (lambda x: node("AveragePool", [x], kernel_shape=[3, 3], strides=[2, 2]), lambda x: F.avg_pool2d(x, 3, 2)),
        (lambda x: node("GlobalMaxPool", [x]), lambda x: F.adaptive_max_pool2d(x, 1)),
        (lambda x: node("GlobalLpPool", [x], p=3), lambda x: x.abs().pow(3).sum((2, 3), keepdim=True).pow(1 / 3)),
    ]  # fmt: skip

    def ours(x):
        found = [grad((pool(x) ** 3).sum(), x) for pool, _ in pools]
        return sum(((g * g).sum() for g in found[1:]), start=(found[0] * found[0]).sum())

    def theirs(x):
        found = [torch.autograd.grad((pool(x) ** 3).sum(), x, create_graph=True)[0] for _, pool in pools]
        return sum((g * g).sum() for g in found)

    check_torch(ours, theirs, values(2, 2, 7, 7), rtol=1e-3, atol=1e-3)
