"""Gradients of pooling (N, C, spatial…)."""

from __future__ import annotations

import itertools
import math

import numpy as np

from ravop.autodiff.rules import Grads, NodeView, expand, number, reshape, rule
from ravop.autodiff.windows import Windows, windows_of
from ravop.graph.dtypes import INT
from ravop.graph.op import Op
from ravop.ops.catalogue import integers, node


@rule("MaxPool")
def max_pool(n: NodeView, g: Op, _: Op | None = None) -> Grads:
    """To the first maximum of each window, as PyTorch has it: the forward node is made to tell where it was."""
    if n.attribute("storage_order", 0):
        raise n.error("storage_order 1 is not supported")
    x, where = n.x, _indices(n)
    windows = windows_of(n, n.attribute("kernel_shape"), x.static_shape[2:], n.y.static_shape[2:])
    flat = reshape(where, (math.prod(where.static_shape),)), reshape(g, (math.prod(g.static_shape),))
    empty = expand(number(g, 0), (math.prod(x.static_shape),))
    reduction = "none" if windows.disjoint else "add"
    return [reshape(node("ScatterElements", [empty, *flat], axis=0, reduction=reduction), x.shape)]


def _indices(n: NodeView) -> Op:
    """The node's second output: the place of each maximum in the flattened input."""
    if len(n.outputs) > 1:
        return n.outputs[1]
    return n.y.graph.add_outputs(n.node, [(INT, n.y.shape)], n.y.scope)[0]


@rule("AveragePool")
def average_pool(n: NodeView, g: Op) -> Grads:
    """Each gradient, divided by how many elements its window counted, spread evenly over the window."""
    x = n.x
    windows = windows_of(n, n.attribute("kernel_shape"), x.static_shape[2:], n.y.static_shape[2:])
    share = g * (1 / _counts(windows, bool(n.attribute("count_include_pad", 0)))).astype(g.dtype)
    planes = reshape(share, (math.prod(g.static_shape[:2]), 1, *windows.count))
    ones = expand(number(g, 1), (1, 1, *windows.kernel))
    # With ceil_mode the last window may reach over the padding: what falls there is cut off.
    over = tuple(max(-r, 0) for r in windows.leftover)
    spread = node(
        "ConvTranspose", [planes, ones], kernel_shape=windows.kernel, strides=windows.strides, dilations=windows.dilations,
        pads=windows.before + tuple(a + o for a, o in zip(windows.after, over, strict=True)),
        output_padding=tuple(max(r, 0) for r in windows.leftover),
    )  # fmt: skip
    return [reshape(spread, x.shape)]


def _counts(windows: Windows, include_padding: bool) -> np.ndarray:
    """How many elements each window averages, of shape `windows.count`."""
    along = []
    for i, size in enumerate(windows.size):
        low, high = (-windows.before[i], size + windows.after[i]) if include_padding else (0, size)
        starts = [c * windows.strides[i] - windows.before[i] for c in range(windows.count[i])]
        taps = [k * windows.dilations[i] for k in range(windows.kernel[i])]
        along.append([sum(low <= start + tap < high for tap in taps) for start in starts])
    return np.array([math.prod(counts) for counts in itertools.product(*along)], dtype=float).reshape(windows.count)


@rule("GlobalAveragePool")
def global_average_pool(n: NodeView, g: Op) -> Grads:
    return [expand(g * (1 / math.prod(n.x.static_shape[2:])), n.x.static_shape)]


@rule("GlobalMaxPool")
def global_max_pool(n: NodeView, g: Op) -> Grads:
    chosen = node("Equal", [n.x, n.y]).astype(g.dtype)
    axes = integers(g, range(2, g.ndim))
    return [chosen * (g / node("ReduceSum", [chosen, axes], keepdims=1))]
