"""Forms of operators that engines compute differently or not at all → forms that mean the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ravop.graph.dtypes import is_float
from ravop.importing.values import Node, Value, dtype_of, handles, shape_of

if TYPE_CHECKING:
    from ravop.importing.walk import Walk


@handles("Mod")
def mod(walk: Walk, node: Node) -> Sequence[Value] | None:
    """Of floats with the sign of the divisor: the remainder with the dividend's sign, moved by one divisor where it differs."""
    a, b = node.inputs
    if node.attributes.get("fmod", 0) or not is_float(dtype_of(a)):
        return None
    zero = np.zeros((), dtype=dtype_of(a))
    rest = walk.node("Mod", a, b, fmod=1)
    apart = walk.node("Xor", walk.node("Less", rest, zero), walk.node("Less", b, zero))
    moved = walk.node("And", apart, walk.node("Not", walk.node("Equal", rest, zero)))
    return [walk.node("Where", moved, walk.node("Add", rest, b), rest)]


@handles("LSTM", "GRU", "RNN")
def batch_first(walk: Walk, node: Node) -> Sequence[Value] | None:
    """With the batch as the first axis (layout 1): transposed around the operator."""
    if not node.attributes.pop("layout", 0):
        return None
    swapped = {0: [1, 0, 2], 5: [1, 0, 2], 6: [1, 0, 2]}
    for position, perm in swapped.items():
        if node.input(position) is not None:
            node.place(position, walk.node("Transpose", node.input(position), perm=perm))
    node.declared = ()
    y, *states = walk.emit(node)
    return [
        walk.node("Transpose", y, perm=[2, 0, 1, 3]),
        *(walk.node("Transpose", s, perm=[1, 0, 2]) for s in states),
    ]


@handles("MaxPool", "AveragePool", "LpPool")
def ceil_mode(walk: Walk, node: Node) -> None:
    """Windows that begin in the padding at the end do not count: as ends of the padding, where it is not counted."""
    get = node.attributes.get
    spatial = shape_of(node.input(0))[2:]
    if not get("ceil_mode", 0) or get("auto_pad", "NOTSET") != "NOTSET" or get("count_include_pad", 0):
        return
    rank = len(spatial)
    strides, dilations = get("strides") or [1] * rank, get("dilations") or [1] * rank
    pads = list(get("pads") or [0] * 2 * rank)
    for axis, size in enumerate(spatial):
        if not isinstance(size, int):
            return
        window = (node.attributes["kernel_shape"][axis] - 1) * dilations[axis] + 1
        room = size + pads[axis] + pads[axis + rank] - window
        windows = math.ceil(room / strides[axis]) + 1
        if (windows - 1) * strides[axis] >= size + pads[axis]:
            windows -= 1
        pads[axis + rank] += max(0, (windows - 1) * strides[axis] - room)
        if pads[axis + rank] >= window:
            return
        # Where the last window was dropped, what is left over is less than a stride, and no window begins in it.
    node.attributes |= {"pads": pads, "ceil_mode": 0}
