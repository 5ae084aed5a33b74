"""Gradients of normalizations."""

from __future__ import annotations

import math

from ravop.autodiff.convolution import channel_sum
from ravop.autodiff.rules import Grads, NodeView, reshape, rule, sum_to
from ravop.graph.op import Op
from ravop.ops.catalogue import integers, node
from ravop.ops.nn import batch_normalization_training


@rule("BatchNormalization")
def batch_normalization(
    n: NodeView, g: Op | None, by_mean: Op | None = None, by_var: Op | None = None
) -> Grads:
    if not n.attribute("training_mode", 0):
        return _with_given_statistics(n, g) if g is not None else []
    if by_mean is not None or by_var is not None:
        raise n.error("its running statistics pass no gradient on")
    return _with_batch_statistics(n, g) if g is not None else []


def _with_given_statistics(n: NodeView, g: Op) -> Grads:
    """y = (x - mean) · k · scale + bias with k = 1 / √(var + ε)."""
    x, scale, mean, var = n.x, n.input(1), n.input(3), n.input(4)
    k = 1 / node("Sqrt", [var + n.attribute("epsilon", 1e-5)])
    g_sum = channel_sum(g)
    by_scale = channel_sum(g * (x - _per_channel(mean, x))) * k
    return [
        g * _per_channel(scale * k, x), by_scale, g_sum, -(g_sum * scale * k), by_scale * scale * k * k * -0.5
    ]  # fmt: skip


def _with_batch_statistics(n: NodeView, g: Op) -> Grads:
    """Ioffe & Szegedy 2015: with x̂ = (x - mean)·k and k = 1 / √(var + ε),
    dx = scale·k·(g - mean(g) - x̂·mean(g·x̂)), means over all axes but the channels'.

    The last two parts are a batch normalization of x themselves: one pass over memory, where writing them out takes four.
    """
    x, scale = n.x, n.input(1)
    share = x.static_shape[1] / math.prod(x.static_shape)
    epsilon = n.attribute("epsilon", 1e-5)
    mean, var = _batch_statistics(n)
    k = 1 / node("Sqrt", [var + epsilon])
    by_scale, by_bias = channel_sum(g * (x - _per_channel(mean, x))) * k, channel_sum(g)
    slope = scale * k
    correction = node(
        "BatchNormalization",
        [x, slope * by_scale * -share, slope * by_bias * -share, mean, var],
        epsilon=epsilon,
    )
    return [g * _per_channel(slope, x) + correction, by_scale, by_bias]


def _batch_statistics(n: NodeView) -> tuple[Op, Op]:
    """The mean and biased variance of each channel: the node's own outputs where it mixes nothing else into them."""
    if n.attribute("momentum", 0.9) == 0:
        return n.outputs[1], n.outputs[2]
    _, mean, var = batch_normalization_training(n.x, n.input(1), n.input(2))
    return mean, var


def _per_channel(values: Op, like: Op) -> Op:
    """(C,) as (C, 1, …), which broadcasts over (N, C, …)."""
    return reshape(values, (*values.shape, *(1,) * (like.ndim - 2)))


@rule("LayerNormalization")
def layer_normalization(n: NodeView, g: Op | None, *others: Op | None) -> Grads:
    """Ba, Kiros & Hinton 2016: as batch normalization, with the means over the trailing axes from `axis` on."""
    if g is None or any(other is not None for other in others):
        raise n.error("its mean and deviation pass no gradient on")
    x, scale = n.x, n.input(1)
    axes = integers(x, range(n.axis(-1), x.ndim))
    centred = x - node("ReduceMean", [x, axes])
    k = 1 / node("Sqrt", [node("ReduceMean", [centred * centred, axes]) + n.attribute("epsilon", 1e-5)])
    normal = centred * k
    inner = g * scale
    by_x = (
        inner - node("ReduceMean", [inner, axes]) - normal * node("ReduceMean", [inner * normal, axes])
    ) * k
    bias = n.optional(2)
    return [by_x, sum_to(g * normal, scale), sum_to(g, bias) if bias is not None else None]
