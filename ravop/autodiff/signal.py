"""The gradient of the discrete Fourier transform, which is linear: it goes back by the transform the other way."""

from __future__ import annotations

import numpy as np

from ravop.autodiff.rules import Grads, NodeView, rule
from ravop.autodiff.shape import cut, pad
from ravop.graph.op import Op
from ravop.ops.catalogue import node


@rule("DFT")
def dft(n: NodeView, g: Op) -> Grads:
    """With y = F x the gradient is conj(F)ᵀ g, which is the inverse transform times its length, and the other way round."""
    x, inverse, onesided = n.x, n.attribute("inverse", 0), n.attribute("onesided", 0)
    if inverse and onesided:
        raise n.error("the inverse of one side is not supported")
    length, place = n.known(1, "dft_length"), n.known(2, "axis")
    axis = (place[0] if place else -2) % x.ndim
    size = x.static_shape[axis]
    count = length[0] if length else size
    if onesided:  # the other side was not given, so nothing comes from it
        g = _ending(g, axis, count)
    back = node("DFT", [g, None, g.graph.constant(np.array(axis))], inverse=1 - inverse)
    back = back / count if inverse else back * count
    back = _ending(back, axis, size) if count <= size else cut(back, axis, 0, size)
    return [back if x.shape[-1] == 2 else cut(back, x.ndim - 1, 0, 1)]


def _ending(op: Op, axis: int, size: int) -> Op:
    """`op` with zeros behind it along an axis."""
    after = [0] * op.ndim
    after[axis] = size - op.static_shape[axis]
    return pad(op, [0] * op.ndim, after)
