"""What models hold and engines take or define differently from ONNX's checker: in the form that both take.

`forms` does the same where only engines differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ravop.graph.dtypes import BOOL, FLOAT, to_ir
from ravop.importing.values import Node, Value, dtype_of, handles, shape_of

if TYPE_CHECKING:
    from ravop.importing.walk import Walk


@handles("Range")
def range_of_vectors(walk: Walk, node: Node) -> None:
    """Start, limit and step may be vectors of one element."""
    for position, value in enumerate(node.inputs):
        if shape_of(value) == (1,):
            node.place(position, walk.node("Reshape", value, np.zeros(0, np.int64)))


@handles("MeanVarianceNormalization")
def mean_variance(walk: Walk, node: Node) -> Sequence[Value]:
    """(x - mean) / (standard deviation + 1e-9), as ONNX defines it; types of what it defines cannot be inferred at `OPSET`."""
    x = node.input(0)
    axes = np.array(node.attributes.get("axes", [0, 2, 3]))
    mean = walk.node("ReduceMean", x, axes)
    square = walk.node("ReduceMean", walk.node("Mul", x, x), axes)
    deviation = walk.node("Sqrt", walk.node("Sub", square, walk.node("Mul", mean, mean)))
    small = np.array(1e-9, dtype_of(x))
    return [walk.node("Div", walk.node("Sub", x, mean), walk.node("Add", deviation, small))]


@handles("ReduceMax", "ReduceMin", first=20)
def of_booleans(walk: Walk, node: Node) -> Sequence[Value] | None:
    """Engines know no largest of no booleans, but one of no numbers."""
    if dtype_of(node.input(0)) != BOOL:
        return None
    node.place(0, walk.node("Cast", node.input(0), to=int(to_ir(FLOAT))))
    node.declared = ()
    zero = np.zeros((), FLOAT)
    return [walk.node("Greater", value, zero) for value in walk.emit(node)]


@handles("AveragePool", "LpPool", first=22)
def counted_padding(walk: Walk, node: Node) -> Sequence[Value] | None:
    """No window begins in the padding at the end, since opset 22: where padding counts, such windows are cut off."""
    spatial, kernel = shape_of(node.input(0))[2:], node.attributes["kernel_shape"]
    sizes = [size for size in spatial if isinstance(size, int)]
    explicit = node.attributes.get("auto_pad", "NOTSET") == "NOTSET"
    if not (node.attributes.get("ceil_mode") and explicit) or len(sizes) != len(spatial):
        return None
    rank = len(kernel)
    pads = node.attributes.get("pads") or [0] * 2 * rank
    strides, dilations = (node.attributes.get(name) or [1] * rank for name in ("strides", "dilations"))
    before, after = [], []
    for axis, size in enumerate(sizes):
        room = size + pads[axis] + pads[axis + rank] - dilations[axis] * (kernel[axis] - 1) - 1
        before.append(math.ceil(room / strides[axis]) + 1)
        after.append(before[-1] - ((before[-1] - 1) * strides[axis] >= size + pads[axis]))
    if before == after:
        return None
    node.declared = ()
    ends = np.array(after)
    axes = np.arange(2, 2 + rank)
    return [walk.node("Slice", value, np.zeros_like(ends), ends, axes) for value in walk.emit(node)]


@handles("ConvInteger")
def zero_of_each_filter(walk: Walk, node: Node) -> Sequence[Value] | None:
    """A zero point of each filter, where engines take one for all: what it adds to every weight is taken off afterwards."""
    x, weights, zero = node.input(0), node.input(1), node.input(3)
    if zero is None or shape_of(zero) in ((), (1,)):
        return None
    shape = [size for size in shape_of(weights) if isinstance(size, int)]
    if len(shape) != len(shape_of(weights)):
        return None
    each = walk.node("Cast", zero, to=int(to_ir(np.dtype(np.int32))))
    each = walk.node("Reshape", each, np.array([-1] + [1] * (len(shape) - 2)))
    made = walk.node("ConvInteger", x, weights, node.input(2), **node.attributes)
    sums = walk.node("ConvInteger", x, np.ones(shape, dtype_of(weights)), node.input(2), **node.attributes)
    return [walk.node("Sub", made, walk.node("Mul", sums, each))]
