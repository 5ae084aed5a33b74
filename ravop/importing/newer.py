"""Newer forms of operators → those of `OPSET`: operators, dtypes and rules that came later, and that ONNX does not define by
operators that were there before. Also what engines refuse of today's operators, written out by others.

Source: the operator changelog of ONNX (`Changelog.md` and the schemas of the `onnx` package).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ravop.errors import UnsupportedOnnxError
from ravop.graph.dtypes import BOOL, DType, from_elem_type, is_float, to_ir
from ravop.importing.values import Node, Value, dtype_of, handles, shape_of

if TYPE_CHECKING:
    from ravop.importing.walk import Walk

_LARGEST = np.iinfo(np.int64).max


def _cast(walk: Walk, value: Value, dtype: DType) -> Value:
    return value if dtype_of(value) == dtype else walk.node("Cast", value, to=int(to_ir(dtype)))


def _sliced(walk: Walk, value: Value, axis: int, start: int, end: int, step: int = 1) -> Any:
    return walk.node("Slice", value, *(np.array([number]) for number in (start, end, axis, step)))


# ── integers and bits ────────────────────────────────────────────────────────────────────────────────────────────────
@handles("BitCast", first=26)
def bit_cast(walk: Walk, node: Node) -> Sequence[Value]:
    """Between integers of one size a Cast keeps the bits; nothing in `OPSET` looks at the bits of floats."""
    value, dtype = node.input(0), from_elem_type(node.attributes["to"])
    given = dtype_of(value)
    if is_float(given) != is_float(dtype) or (is_float(given) and given != dtype):
        raise UnsupportedOnnxError(
            "BitCast between floats and integers is not supported",
            expected="integers, before and after",
            received=f"{given} to {dtype}",
            hint="use Cast, or do it before",
        )
    return [_cast(walk, value, dtype)]


@handles("BitShift", first=28)
def bit_shift(walk: Walk, node: Node) -> Sequence[Value] | None:
    """Of signed integers: that of the unsigned ones; for a shift to the right around a flip of the bits of negative ones."""
    x, shift = node.inputs
    dtype = dtype_of(x)
    if dtype.kind != "i":
        return None
    unsigned = np.dtype(f"uint{8 * dtype.itemsize}")
    right = node.attributes["direction"] == "RIGHT"
    zero = np.zeros((), dtype)
    fill = walk.node("Where", walk.node("Less", x, zero), zero - 1, zero) if right else zero
    flipped = walk.node("BitwiseXor", x, fill)
    shifted = walk.node(
        "BitShift", _cast(walk, flipped, unsigned), _cast(walk, shift, unsigned), **node.attributes
    )
    within = walk.node(
        "And",
        walk.node("GreaterOrEqual", shift, zero),
        walk.node("Less", shift, np.array(8 * dtype.itemsize, dtype)),
    )
    moved = walk.node("BitwiseXor", _cast(walk, shifted, dtype), fill)
    return [walk.node("Where", within, moved, fill)]


@handles("Mod")
def mod(walk: Walk, node: Node) -> Sequence[Value] | None:
    """Of floats with the divisor's sign: the remainder with the dividend's, moved by the divisor where signs differ."""
    a, b = node.inputs
    if node.attributes.get("fmod") or not is_float(dtype_of(b)):
        return None
    zero = np.zeros((), dtype_of(b))
    rest = walk.node("Mod", a, b, fmod=1)
    differ = walk.node("Xor", walk.node("Less", rest, zero), walk.node("Less", b, zero))
    moves = walk.node("And", differ, walk.node("Not", walk.node("Equal", rest, zero)))
    return [walk.node("Where", moves, walk.node("Add", rest, b), rest)]


# ── along an axis ────────────────────────────────────────────────────────────────────────────────────────────────────
@handles("CumProd", first=26)
def cum_prod(walk: Walk, node: Node) -> Sequence[Value]:
    """Products over 2, 4, 8 … elements, each from two halves."""
    x = node.input(0)
    rank = len(shape_of(x))
    axis = walk.integers(node.input(1), "the axis of CumProd")[0] % rank
    length = shape_of(x)[axis]
    if not isinstance(length, int):
        raise UnsupportedOnnxError(
            "CumProd needs an axis of known length", received=f"{dtype_of(x)}{list(shape_of(x))}"
        )
    one, pads = np.ones((), dtype_of(x)), np.zeros(2 * rank, np.int64)

    def delayed(value: Value, by: int) -> Any:
        pads[axis] = by
        return walk.node("Pad", _sliced(walk, value, axis, 0, length - by), pads.copy(), one)

    def turned(value: Value) -> Value:
        return _sliced(walk, value, axis, -1, -_LARGEST, -1) if node.attributes.get("reverse") else value

    found = turned(x)
    if node.attributes.get("exclusive") and length:
        found = delayed(found, 1)
    for power in range(max(length - 1, 0).bit_length()):
        found = walk.node("Mul", found, delayed(found, 2**power))
    return [turned(found)]


@handles("TensorScatter", first=24)
def tensor_scatter(walk: Walk, node: Node) -> Sequence[Value]:
    """A ScatterElements along the axis, from each sample's own index on."""
    cache, update, first = node.input(0), node.input(1), node.input(2)
    rank = len(shape_of(cache))
    axis = node.attributes.get("axis", -2) % rank
    length, size = shape_of(update)[axis], shape_of(cache)[axis]
    if not isinstance(length, int) or not isinstance(size, int):
        raise UnsupportedOnnxError("TensorScatter needs axes of known length")
    indices: Value = np.arange(length).reshape([-1 if n == axis else 1 for n in range(rank)])
    if first is not None:
        per_sample = walk.node("Reshape", first, np.array([-1] + [1] * (rank - 1)))
        indices = walk.node("Add", per_sample, indices)
    if node.attributes.get("mode") == "circular":
        indices = walk.node("Mod", indices, np.array(size))
    shape = shape_of(update)
    target = walk.node("Shape", update) if None in shape else np.array(shape)
    return [walk.node("ScatterElements", cache, walk.node("Expand", indices, target), update, axis=axis)]


_TIME_FIRST = {0: (1, 0, 2), 5: (1, 0, 2), 6: (1, 0, 2)}
"""How the axes of a recurrent operator's inputs are turned, by position, and below those of its outputs."""
_SAMPLES_FIRST = ((2, 0, 1, 3), (1, 0, 2), (1, 0, 2))


@handles("GRU", "LSTM", "RNN", first=14)
def batchwise(walk: Walk, node: Node) -> Sequence[Value] | None:
    """Samples in the first axis (layout 1), which engines lack: transposed."""
    if not node.attributes.pop("layout", 0):
        return None
    for position, axes in _TIME_FIRST.items():
        value = node.input(position)
        if value is not None:
            node.place(position, walk.node("Transpose", value, perm=axes))
    node.declared = ()
    made = walk.emit(node)
    return [
        walk.node("Transpose", value, perm=_SAMPLES_FIRST[position]) for position, value in enumerate(made)
    ]


# ── windows and statistics ───────────────────────────────────────────────────────────────────────────────────────────
@handles("AveragePool", "LpPool", "MaxPool", first=19)
def ceil_mode(walk: Walk, node: Node) -> Sequence[Value] | None:
    """Since opset 22 no window starts in the padding at the end: such windows, which `OPSET` has, are cut off."""
    shape, kernel = shape_of(node.input(0))[2:], node.attributes["kernel_shape"]
    explicit = node.attributes.get("auto_pad", "NOTSET") == "NOTSET"
    if not node.attributes.get("ceil_mode") or not explicit or not all(isinstance(d, int) for d in shape):
        return None
    rank = len(kernel)
    pads = node.attributes.get("pads", [0] * 2 * rank)
    strides, dilations = (node.attributes.get(name, [1] * rank) for name in ("strides", "dilations"))
    old, new = [], []
    for axis, size in enumerate(shape):
        assert isinstance(size, int)
        room = size + pads[axis] + pads[axis + rank] - dilations[axis] * (kernel[axis] - 1) - 1
        old.append(math.ceil(room / strides[axis]) + 1)
        new.append(old[-1] - ((old[-1] - 1) * strides[axis] >= size + pads[axis]))
    if old == new:
        return None
    node.declared = ()
    ends = np.array(new)
    return [
        walk.node("Slice", value, np.zeros_like(ends), ends, np.arange(2, 2 + rank))
        for value in walk.emit(node)
    ]


@handles("MeanVarianceNormalization")
def mean_variance(walk: Walk, node: Node) -> Sequence[Value]:
    """(x - mean) / (standard deviation + 1e-9), as ONNX defines it; what it defines cannot be checked at `OPSET`."""
    x = node.input(0)
    axes = np.array(node.attributes.get("axes", [0, 2, 3]))
    mean = walk.node("ReduceMean", x, axes)
    square = walk.node("ReduceMean", walk.node("Mul", x, x), axes)
    deviation = walk.node("Sqrt", walk.node("Sub", square, walk.node("Mul", mean, mean)))
    small = np.array(1e-9, dtype_of(x))
    return [walk.node("Div", walk.node("Sub", x, mean), walk.node("Add", deviation, small))]


@handles("ReduceMax", "ReduceMin", first=20)
def of_booleans(walk: Walk, node: Node) -> Sequence[Value] | None:
    """Engines give no largest of no booleans; that of numbers is at hand."""
    if dtype_of(node.input(0)) != BOOL:
        return None
    node.inputs[0] = walk.node("Cast", node.input(0), to=int(ir.DataType.FLOAT))
    node.declared = ()
    zero = np.zeros((), np.float32)
    return [walk.node("Greater", value, zero) for value in walk.emit(node)]
