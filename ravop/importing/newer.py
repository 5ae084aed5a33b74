"""Operators, and forms of them, that came after `OPSET` and that ONNX does not define by others: by operators of `OPSET`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ravop.errors import UnsupportedOnnxError
from ravop.graph.dtypes import from_elem_type, to_ir
from ravop.importing.values import Node, Value, dtype_of, handles, shape_of

if TYPE_CHECKING:
    from ravop.importing.walk import Walk

_TO_THE_BEGINNING = np.iinfo(np.int64).min


def _known(node: Node, value: Value) -> tuple[int, ...]:
    shape = shape_of(value)
    sizes = tuple(dim for dim in shape if isinstance(dim, int))
    if len(sizes) != len(shape):
        raise UnsupportedOnnxError(f"{node.op_type} needs a known shape", received=list(shape),
                                   hint="give the model inputs of known shapes")  # fmt: skip
    return sizes


@handles("BitCast")
def bit_cast(walk: Walk, node: Node) -> Sequence[Value]:
    array = walk.static(node.input(0))
    if array is None:
        raise UnsupportedOnnxError("BitCast cannot be imported: no operator of opset 21 reads the bits of a number",
                                   hint="cast by value, or compute the bits before")  # fmt: skip
    return [array.view(from_elem_type(node.attributes["to"]))]


@handles("CumProd")
def cum_prod(walk: Walk, node: Node) -> Sequence[Value]:
    """By doubling: each step multiplies with what lies 1, 2, 4, … elements before (Hillis and Steele 1986)."""
    y = node.input(0)
    shape = _known(node, y)
    (axis,) = walk.integers(node.input(1), "the axis of CumProd")
    axis %= len(shape)
    size = shape[axis]
    turn = [np.array([n]) for n in (-1, _TO_THE_BEGINNING, axis, -1)]
    if node.attributes.get("reverse", 0):
        y = walk.node("Slice", y, *turn)
    if node.attributes.get("exclusive", 0):
        y = _shifted(walk, y, 1, axis, size)
    step = 1
    while step < size:
        y = walk.node("Mul", y, _shifted(walk, y, step, axis, size))
        step *= 2
    return [walk.node("Slice", y, *turn) if node.attributes.get("reverse", 0) else y]


def _shifted(walk: Walk, x: Value, step: int, axis: int, size: int) -> Any:
    """`x` moved on by `step` elements, with ones before."""
    kept = walk.node("Slice", x, np.array([0]), np.array([size - step]), np.array([axis]))
    one = np.ones((), dtype=dtype_of(x))
    return walk.node("Pad", kept, np.array([step, 0]), one, np.array([axis]))


@handles("BitShift", first=28)
def bit_shift(walk: Walk, node: Node) -> Sequence[Value] | None:
    """Signed integers: shifted as unsigned ones, negative ones to the right as the complement of their complement."""
    x, by = node.inputs
    signed = dtype_of(x)
    if signed.kind != "i":
        return None
    wide = int(to_ir(np.dtype(np.uint64)))
    direction, back = node.attributes["direction"], int(to_ir(signed))
    shifts = walk.node("Cast", by, to=wide)
    if direction == "LEFT":
        moved = walk.node("BitShift", walk.node("Cast", x, to=wide), shifts, direction=direction)
        return [walk.node("Cast", moved, to=back)]
    negative = walk.node("Less", x, np.zeros((), dtype=signed))
    positive = walk.node("Where", negative, walk.node("BitwiseNot", x), x)
    moved = walk.node("BitShift", walk.node("Cast", positive, to=wide), shifts, direction=direction)
    moved = walk.node("Cast", moved, to=back)
    return [walk.node("Where", negative, walk.node("BitwiseNot", moved), moved)]


@handles("TensorScatter")
def tensor_scatter(walk: Walk, node: Node) -> Sequence[Value]:
    """The update at consecutive places of the axis from each sample's own start on; circular: again from the beginning."""
    past, update = node.inputs[:2]
    sizes, moved = _known(node, past), _known(node, update)
    axis = node.attributes.get("axis", -2) % len(sizes)
    along = np.arange(moved[axis], dtype=np.int64).reshape(
        [-1 if a == axis else 1 for a in range(len(sizes))]
    )
    places: Value = along
    if node.input(2) is not None:
        starts = walk.node("Cast", node.input(2), to=int(to_ir(np.dtype(np.int64))))
        places = walk.node(
            "Add", walk.node("Reshape", starts, np.array([-1] + [1] * (len(sizes) - 1))), along
        )
    if node.attributes.get("mode", "linear") == "circular":
        places = walk.node("Mod", places, np.array(sizes[axis], dtype=np.int64))
    return [
        walk.node("ScatterElements", past, walk.node("Expand", places, np.array(moved)), update, axis=axis)
    ]


@handles("SpaceToDepth", first=28)
def space_to_depth(walk: Walk, node: Node) -> Sequence[Value] | None:
    if node.attributes.pop("mode", "DCR") == "DCR":
        return None
    block = node.attributes["blocksize"]
    n, c, h, w = _known(node, node.input(0))
    cut = walk.node("Reshape", node.input(0), np.array([n, c, h // block, block, w // block, block]))
    moved = walk.node("Transpose", cut, perm=[0, 1, 3, 5, 2, 4])
    return [walk.node("Reshape", moved, np.array([n, c * block * block, h // block, w // block]))]


@handles("DequantizeLinear", first=23)
def dequantize(walk: Walk, node: Node) -> Sequence[Value] | None:
    to = node.attributes.pop("output_dtype", 0)
    if not to or from_elem_type(to) == dtype_of(node.input(1)):
        return None
    node.declared = ()
    return [walk.node("Cast", walk.emit(node)[0], to=to)]
