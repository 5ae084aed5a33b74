"""Gradients of convolutions (N, C, spatial…), with strides, padding, dilations and groups."""

from __future__ import annotations

from ravop.autodiff.rules import Grads, NodeView, permute, reduce_sum, reshape, rule
from ravop.autodiff.shape import pad
from ravop.autodiff.windows import Windows, windows_of
from ravop.graph.op import Op
from ravop.ops.catalogue import node


@rule("Conv")
def conv(n: NodeView, g: Op) -> Grads:
    x, weight = n.x, n.input(1)
    group = n.attribute("group", 1)
    windows = windows_of(n, weight.static_shape[2:], x.static_shape[2:], n.y.static_shape[2:])
    return [
        input_gradient(g, weight, windows, group) if n.wanted(0) else None,
        weight_gradient(x, g, windows, group) if n.wanted(1) else None,
        channel_sum(g) if n.wanted(2) else None,
    ]


@rule("ConvTranspose")
def conv_transpose(n: NodeView, g: Op) -> Grads:
    """A transposed convolution is the input gradient of one that goes from Y to X, so the roles are swapped."""
    x, weight = n.x, n.input(1)
    group = n.attribute("group", 1)
    if n.attribute("output_shape") is not None or n.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise n.error("output_shape and auto_pad are not supported")
    windows = windows_of(n, weight.static_shape[2:], n.y.static_shape[2:], x.static_shape[2:])
    return [
        node("Conv", [g, weight], **_attributes(windows, group)) if n.wanted(0) else None,
        weight_gradient(g, x, windows, group) if n.wanted(1) else None,
        channel_sum(g) if n.wanted(2) else None,
    ]


def _attributes(windows: Windows, group: int) -> dict[str, object]:
    return {
        "kernel_shape": windows.kernel, "strides": windows.strides, "dilations": windows.dilations,
        "pads": windows.pads, "group": group,
    }  # fmt: skip


def channel_sum(g: Op) -> Op:
    """(N, C, …) summed over all axes but the channels': (C,)."""
    return reduce_sum(g, [0, *range(2, g.ndim)], keepdims=False)


def input_gradient(g: Op, weight: Op, windows: Windows, group: int) -> Op:
    """Each output's gradient spread over its window: a transposed convolution by the same weights."""
    return node("ConvTranspose", [g, weight], **_attributes(windows, group), output_padding=windows.leftover)


def weight_gradient(x: Op, g: Op, windows: Windows, group: int) -> Op:
    """For each tap of the kernel, the correlation of x, moved by that tap, with g.

    That is a convolution of x by g in which batch and channels change places, and strides and dilations too.
    """
    (batch, channels, *size), count = x.static_shape, g.static_shape[2:]
    spatial = list(range(3, 3 + len(size)))
    split = reshape(x, (batch, group, channels // group, *size))
    swapped = reshape(permute(split, [2, 1, 0, *spatial]), (channels // group, group * batch, *size))
    # What no window reaches is left out, so that exactly the kernel's taps come out.
    swapped = pad(swapped, [0, 0, *windows.before], [0, 0, *(a - r for a, r in zip(windows.after, windows.leftover, strict=True))])
    kernel = permute(g, [1, 0, *range(2, g.ndim)])
    found = node(
        "Conv", [swapped, kernel], kernel_shape=count, strides=windows.dilations, dilations=windows.strides, group=group
    )
    return permute(found, [1, 0, *range(2, found.ndim)])
