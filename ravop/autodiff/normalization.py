"""Gradients of normalizations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ravop.autodiff.convolution import channel_sum
from ravop.autodiff.rules import Grads, NodeView, expand, number, reshape, rule, sum_to, total
from ravop.autodiff.spreading import band_sum
from ravop.graph.op import Op
from ravop.ops.catalogue import cast, integers, node
from ravop.ops.nn import batch_normalization_training


@rule("BatchNormalization")
def batch_normalization(
    n: NodeView, g: Op | None, by_mean: Op | None = None, by_var: Op | None = None
) -> Grads:
    if not n.attribute("training_mode", 0):
        return _with_given_statistics(n, g) if g is not None else []
    found: list[Op | None] = [None] * 3 if g is None else [*_with_batch_statistics(n, g)]
    if by_mean is None and by_var is None:
        return found
    return _with_running_statistics(n, found, by_mean, by_var)


def _with_running_statistics(
    n: NodeView, found: list[Op | None], by_mean: Op | None, by_var: Op | None
) -> Grads:
    """Running statistics are momentum·old + (1 - momentum)·(the batch's mean, or its biased variance)."""
    x, momentum = n.x, n.attribute("momentum", 0.9)
    share = (1 - momentum) * x.static_shape[1] / math.prod(x.static_shape)
    parts = [] if found[0] is None else [found[0]]
    if by_mean is not None:
        parts.append(expand(_per_channel(by_mean * share, x), x.static_shape))
    if by_var is not None:
        mean, _ = _batch_statistics(n)
        parts.append(_per_channel(by_var * (2 * share), x) * (x - _per_channel(mean, x)))
    old = [None if by is None else by * momentum for by in (by_mean, by_var)]
    return [total(parts), *found[1:], *old]


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


@dataclass(frozen=True)
class Standard:
    """`normal` is x with mean 0 and variance 1 over `axes`, `k` one over its deviation, `size` how many elements that are."""

    normal: Op
    k: Op
    axes: tuple[int, ...]
    size: int

    def mean(self, op: Op) -> Op:
        return node("ReduceMean", [op, integers(op, self.axes)])

    def back(self, g: Op) -> Op:
        """dx for the gradient of `normal`: k·(g - mean(g) - normal·mean(g·normal)), as Ioffe & Szegedy 2015."""
        return (g - self.mean(g) - self.normal * self.mean(g * self.normal)) * self.k


def standardized(x: Op, axes: Sequence[int], epsilon: float) -> Standard:
    op = integers(x, axes)
    centred = x - node("ReduceMean", [x, op])
    k = 1 / node("Sqrt", [node("ReduceMean", [centred * centred, op]) + epsilon])
    size = math.prod(x.static_shape[axis] for axis in axes)
    return Standard(centred * k, k, tuple(axes), size)


@rule("LayerNormalization")
def layer_normalization(
    n: NodeView, g: Op | None, by_mean: Op | None = None, by_k: Op | None = None
) -> Grads:
    """Ba, Kiros & Hinton 2016, over the trailing axes from `axis` on; the mean and 1/deviation are outputs too."""
    x, scale, bias = n.x, n.input(1), n.optional(2)
    standard = standardized(x, range(n.axis(-1), x.ndim), n.attribute("epsilon", 1e-5))
    parts = []
    if g is not None:
        parts.append(standard.back(g * scale))
    if by_mean is not None:
        parts.append(expand(by_mean / standard.size, x.static_shape))
    if by_k is not None:  # d k / dx = -k² · normal / size
        parts.append(by_k * standard.k * standard.k * standard.normal * (-1 / standard.size))
    by_x = total([cast(part, x.dtype) for part in parts])
    if g is None:
        return [by_x]
    return [by_x, sum_to(g * standard.normal, scale), None if bias is None else sum_to(g, bias)]


@rule("InstanceNormalization")
def instance_normalization(n: NodeView, g: Op) -> Grads:
    """Ulyanov, Vedaldi & Lempitsky 2016: each channel of each image by its own mean and variance."""
    x, scale = n.x, n.input(1)
    standard = standardized(x, range(2, x.ndim), n.attribute("epsilon", 1e-5))
    by_x = standard.back(g * _per_channel(scale, x))
    return [by_x, channel_sum(g * standard.normal), channel_sum(g)]


@rule("GroupNormalization")
def group_normalization(n: NodeView, g: Op) -> Grads:
    """Wu & He 2018: `num_groups` groups of channels, each by its own mean and variance; scale and bias are (C,)."""
    x, scale = n.x, n.input(1)
    batch = x.static_shape[0]
    groups = int(n.attribute("num_groups"))
    grouped = (batch, groups, math.prod(x.static_shape[1:]) // groups)
    standard = standardized(reshape(x, grouped), [2], n.attribute("epsilon", 1e-5))
    by_x = reshape(standard.back(reshape(g * _per_channel(scale, x), grouped)), x.static_shape)
    return [by_x, channel_sum(g * reshape(standard.normal, x.static_shape)), channel_sum(g)]


@rule("LRN")
def local_response_normalization(n: NodeView, g: Op) -> Grads:
    """Krizhevsky, Sutskever & Hinton 2012. With s = bias + alpha/size · Σ x² over channels nearby and y = x·s^-beta:
    dx = g·s^-beta - 2·alpha·beta/size · x · Σ (g·y/s) over the channels that x is near to."""
    x, size = n.x, int(n.attribute("size"))
    alpha, beta, bias = n.attribute("alpha", 1e-4), n.attribute("beta", 0.75), n.attribute("bias", 1.0)
    before, after = (size - 1) // 2, size // 2
    s = band_sum(x * x, before, after) * (alpha / size) + bias
    around = band_sum(g * n.y / s, after, before)
    return [g * node("Pow", [s, number(s, -beta)]) - x * around * (2 * alpha * beta / size)]


@rule("LpNormalization")
def lp_normalization(n: NodeView, g: Op) -> Grads:
    """With y = x/‖x‖: dx = (g - ŷ·Σ g·y)/‖x‖, where ŷ is y for p = 2 and sign(x) for p = 1; 0 where the norm is 0."""
    x, p = n.x, int(n.attribute("p", 2))
    axes = integers(x, [n.axis(-1)])
    norm = node("ReduceL1" if p == 1 else "ReduceL2", [x, axes])
    nothing = node("Equal", [norm, number(norm, 0)])
    direction = node("Sign", [x]) if p == 1 else n.y
    inner = node("ReduceSum", [g * n.y, axes])
    slope = (g - direction * inner) / node("Where", [nothing, number(norm, 1), norm])
    return [node("Where", [nothing, number(g, 0), slope])]
