"""Gradients of operators that sample or overlay places of an image: `GridSample` and `Col2Im`."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Sequence

import numpy as np

from ravop.autodiff.functions import swept
from ravop.autodiff.rules import Grads, NodeView, number, reshape, rule, total
from ravop.graph.dtypes import INT
from ravop.graph.op import Op
from ravop.ops.catalogue import cast, integers, node


@rule("GridSample")
def grid_sample(n: NodeView, g: Op) -> Grads:
    """That of the definition: each point's neighbours, weighted by how near they are; the grid has a gradient too."""
    mode = n.attribute("mode", "linear")
    if mode == "cubic":
        raise n.error("mode 'cubic' is not written yet")
    x, grid = n.x, n.input(1)
    batch, channels, *sizes = x.static_shape
    points = grid.static_shape[1:-1]
    count = math.prod(points)
    places = [
        _place(n, _component(grid, len(sizes) - 1 - axis, (batch, count)), size)
        for axis, size in enumerate(sizes)
    ]
    flat = reshape(x, (batch, channels, math.prod(sizes)))
    if mode == "nearest":
        parts = [_picked(flat, [node("Round", [place]) for place in places], sizes, None)]
    else:
        lower = [node("Floor", [place]) for place in places]
        parts = []
        for corner in itertools.product((0, 1), repeat=len(sizes)):
            near = [a + 1 if c else a for a, c in zip(lower, corner, strict=True)]
            shares = [p - a if c else 1 - (p - a) for p, a, c in zip(places, lower, corner, strict=True)]
            parts.append(_picked(flat, near, sizes, functools.reduce(operator.mul, shares)))
    out = reshape(total(parts), (batch, channels, *points))
    return swept([out], [g], n.inputs, n.wants)


def _component(grid: Op, which: int, shape: tuple[int, ...]) -> Op:
    return reshape(node("Gather", [grid, grid.graph.constant(np.array(which))], axis=-1), shape)


def _place(n: NodeView, u: Op, size: int) -> Op:
    """From -1 … 1 to the numbers of the elements along an axis, brought inside as the padding mode says."""
    aligned = bool(n.attribute("align_corners", 0))
    place = (u + 1) * ((size - 1) / 2) if aligned else ((u + 1) * size - 1) / 2
    padding = n.attribute("padding_mode", "zeros")
    if padding == "reflection":
        low, span = (0.0, size - 1.0) if aligned else (-0.5, float(size))
        if span == 0:
            return place * 0
        far = node("Abs", [place - low])
        turns = node("Floor", [far / span])
        rest = far - turns * span
        odd = turns - node("Floor", [turns / 2]) * 2
        place = rest + odd * (span - rest * 2) + low
    if padding != "zeros":
        place = node("Clip", [place, number(place, 0), number(place, size - 1)])
    return place


def _picked(flat: Op, near: Sequence[Op], sizes: Sequence[int], share: Op | None) -> Op:
    """The elements at whole numbers `near`, times their shares; 0 for places outside."""
    batch, channels, _ = flat.static_shape
    at: Op | None = None
    for place, size in zip(near, sizes, strict=True):
        zero, last = number(place, 0), number(place, size - 1)
        kept = node("Clip", [place, zero, last])
        inside = cast(node("Equal", [kept, place]), place.dtype)
        share = inside if share is None else share * inside
        at = cast(kept, INT) if at is None else at * size + cast(kept, INT)
    assert at is not None
    assert share is not None
    count = at.static_shape[-1]
    rows = node("Expand", [reshape(at, (batch, 1, count)), integers(flat, (batch, channels, count))])
    return node("GatherElements", [flat, rows], axis=2) * reshape(share, (batch, 1, count))


@rule("Col2Im")
def col2im(n: NodeView, g: Op) -> Grads:
    """Each element of a column gets the gradient of the place that it was added to."""
    image, kernel = n.known(1, "image_shape") or (), n.known(2, "block_shape") or ()
    rank = len(image)
    strides, dilations = (n.attribute(name, (1,) * rank) for name in ("strides", "dilations"))
    pads = n.attribute("pads", (0,) * (2 * rank))
    padded = [size + pads[i] + pads[rank + i] for i, size in enumerate(image)]
    steps = [
        (p - d * (k - 1) - 1) // s + 1 for p, k, s, d in zip(padded, kernel, strides, dilations, strict=True)
    ]
    within, origins = np.indices(kernel).reshape(rank, -1, 1), np.indices(steps).reshape(rank, 1, -1)
    places = np.zeros((1, 1), np.int64)
    for i, size in enumerate(padded):
        places = places * size + within[i] * dilations[i] + origins[i] * strides[i]
    batch, channels = g.static_shape[:2]
    around = [0, 0, *pads[:rank], 0, 0, *pads[rank:]]
    whole = node("Pad", [g, integers(g, around)]) if any(pads) else g
    flat = reshape(whole, (batch, channels, math.prod(padded)))
    return [reshape(node("Gather", [flat, g.graph.tensor(places)], axis=2), n.x.static_shape)]
