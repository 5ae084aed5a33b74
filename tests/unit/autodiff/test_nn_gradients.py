"""Convolution, pooling and normalization against PyTorch; hypothesis draws the geometry."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ravop.autodiff import grad
from ravop.ops.catalogue import node

few = settings(max_examples=25, deadline=None)


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@given(st.data())
@few
def test_conv(check_torch, data):
    draw = lambda *options: data.draw(st.sampled_from(options))  # noqa: E731
    rank, group, batch = draw(1, 2, 2), draw(1, 1, 2), draw(1, 3)
    channels, filters = group * draw(1, 2), group * draw(1, 3)
    kernel = tuple(draw(1, 2, 3) for _ in range(rank))
    strides, dilations = (tuple(draw(1, 2) for _ in range(rank)) for _ in range(2))
    pads = tuple(draw(0, 1) for _ in range(rank))
    size = tuple(draw(5, 6, 7) for _ in range(rank))
    theirs = {1: F.conv1d, 2: F.conv2d}[rank]

    def ours(x, w, b):
        return node("Conv", [x, w, b], strides=strides, dilations=dilations, pads=pads * 2, group=group)

    check_torch(
        ours, lambda x, w, b: theirs(x, w, b, strides, pads, dilations, group), values(batch, channels, *size),
        values(filters, channels // group, *kernel, seed=1), values(filters, seed=2),
    )  # fmt: skip


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


def test_three_dimensions(check_torch):
    check_torch(
        lambda x, w: node("Conv", [x, w], pads=[1, 0, 1, 1, 0, 1]), lambda x, w: F.conv3d(x, w, padding=(1, 0, 1)),
        values(2, 2, 4, 4, 3), values(3, 2, 3, 2, 3, seed=1),
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


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize(("stride", "pad", "extra"), [(1, 0, 0), (2, 1, 1), (2, 0, 0), (3, 1, 2)])
def test_transposed_conv(check_torch, group, stride, pad, extra):
    def ours(x, w, b):
        return node(
            "ConvTranspose",
            [x, w, b],
            strides=[stride] * 2,
            pads=[pad] * 4,
            output_padding=[extra] * 2,
            group=group,
        )

    check_torch(
        ours, lambda x, w, b: F.conv_transpose2d(x, w, b, stride, pad, extra, group), values(2, 4, 5, 4),
        values(4, 3, 3, 3, seed=1), values(3 * group, seed=2),
    )  # fmt: skip


def test_second_derivatives_of_conv(check_gradients):
    """Without float64 kernels this runs on the reference evaluator."""
    check_gradients(
        lambda x, w: node("Conv", [x, w], pads=[1, 1, 1, 1]) ** 2,
        values(1, 2, 3, 3),
        values(2, 2, 3, 3, seed=1),
        times=2,
    )


@given(st.data())
@few
def test_max_pool(check_torch, data):
    draw = lambda *options: data.draw(st.sampled_from(options))  # noqa: E731
    kernel, stride, ceil = (draw(2, 3), draw(1, 2)), (draw(1, 2, 3), draw(1, 2, 3)), draw(False, True)
    pad, size = (draw(0, 1), draw(0, 1) if kernel[1] > 1 else 0), (draw(6, 7), draw(6, 8))
    if kernel[1] == 1:
        pad = (pad[0], 0)
    # PyTorch leaves out a last window that would begin behind the data; ONNX keeps it until opset 22.
    ceil = ceil and all(
        -(-(n + 2 * p - k) // s) * s < n + p for n, p, k, s in zip(size, pad, kernel, stride, strict=True)
    )

    def ours(x):
        return node("MaxPool", [x], kernel_shape=kernel, strides=stride, pads=pad * 2, ceil_mode=int(ceil))

    check_torch(ours, lambda x: F.max_pool2d(x, kernel, stride, pad, ceil_mode=ceil), values(2, 3, *size))


@pytest.mark.parametrize(("size", "stride"), [(6, 2), (7, 2), (6, 1), (6, 3)])
def test_ties_go_to_the_first_maximum(check_torch, size, stride):
    x = np.random.default_rng(0).integers(0, 2, size=(4, 3, size, size))
    check_torch(
        lambda x: node("MaxPool", [x], kernel_shape=[2, 2], strides=[stride] * 2),
        lambda x: F.max_pool2d(x, 2, stride),
        x,
    )


def test_max_pool_in_other_dimensions(check_torch):
    check_torch(
        lambda x: node("MaxPool", [x], kernel_shape=[2], strides=[2]),
        lambda x: F.max_pool1d(x, 2),
        values(2, 3, 6),
    )
    check_torch(
        lambda x: node("MaxPool", [x], kernel_shape=[2, 2, 2], strides=[2, 2, 2]), lambda x: F.max_pool3d(x, 2),
        values(2, 2, 4, 4, 4),
    )  # fmt: skip


def test_max_pool_whose_output_is_used_twice_and_differentiated_twice(check_torch):
    def ours(x):
        y = node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
        return y * y + grad((y * y * y).sum(), x)[:, :, ::2, ::2]

    def theirs(x):
        y = F.max_pool2d(x, 2)
        (g,) = torch.autograd.grad((y * y * y).sum(), x, create_graph=True)
        return y * y + g[:, :, ::2, ::2]

    check_torch(ours, theirs, values(2, 2, 4, 4))


@given(st.data())
@few
def test_average_pool(check_torch, data):
    draw = lambda *options: data.draw(st.sampled_from(options))  # noqa: E731
    kernel, stride, pad = (draw(2, 3), draw(2, 3)), (draw(1, 2, 3), draw(1, 2, 3)), (draw(0, 1), draw(0, 1))
    size, padding_counts = (draw(6, 7), draw(6, 8)), draw(False, True)

    def ours(x):
        return node(
            "AveragePool",
            [x],
            kernel_shape=kernel,
            strides=stride,
            pads=pad * 2,
            count_include_pad=int(padding_counts),
        )

    check_torch(
        ours,
        lambda x: F.avg_pool2d(x, kernel, stride, pad, count_include_pad=padding_counts),
        values(2, 3, *size),
    )


def test_average_pool_with_ceil_mode(check_torch):
    check_torch(
        lambda x: node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        lambda x: F.avg_pool2d(x, 2, ceil_mode=True), values(2, 3, 5, 7),
    )  # fmt: skip


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
