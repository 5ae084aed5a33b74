"""Forms of operators that engines compute differently or not at all → forms that mean the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ravop.graph.dtypes import is_float
from ravop.graph.op import Op
from ravop.importing.values import Node, Value, dtype_of, handles, shape_of

if TYPE_CHECKING:
    from ravop.importing.walk import Walk


@handles("Div")
def div(walk: Walk, node: Node) -> Sequence[Value] | None:
    """Of integers without what stops a program: x / 0 as 0, and the least integer / −1 as itself."""
    if is_float(dtype_of(node.inputs[0])):
        return None
    divisor, factor = _divisor(walk, node.inputs[1])
    if factor is None:
        return None
    return [walk.node("Mul", walk.node("Div", node.inputs[0], divisor), factor)]


def _divisor(walk: Walk, by: Value) -> tuple[Value, Value]:
    """An integer divisor with 1 in place of 0 and −1, and that with 1 elsewhere; None where there are none of those."""
    dtype = dtype_of(by)
    unfit = [0, -1] if dtype.kind == "i" else [0]
    known = by.constant if isinstance(by, Op) else by
    one = np.ones((), dtype=dtype)
    if isinstance(known, np.ndarray):
        places = np.isin(known, unfit)
        if not places.any():
            return by, None
        return np.where(places, one, known), np.where(places, known, one)
    found, *more = [walk.node("Equal", by, np.array(number, dtype=dtype)) for number in unfit]
    for other in more:
        found = walk.node("Or", found, other)
    return walk.node("Where", found, one, by), walk.node("Where", found, by, one)


@handles("Mod")
def mod(walk: Walk, node: Node) -> Sequence[Value] | None:
    """Of floats with the sign of the divisor: the remainder with the dividend's sign, moved by one divisor where it differs."""
    a, b = node.inputs
    if not is_float(dtype_of(a)):
        node.place(1, _divisor(walk, b)[0])
        return None
    if node.attributes.get("fmod", 0):
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
