"""Older forms of operators → those of `OPSET`: mostly attributes that became inputs, and defaults that changed.

Source: the operator changelog of ONNX (`Changelog.md` and the schemas of the `onnx` package).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ravop.errors import UnsupportedOnnxError
from ravop.importing.values import Node, Value, dtype_of, handles, shape_of

if TYPE_CHECKING:
    from ravop.importing.walk import Walk

_INPUTS: dict[tuple[str, int], tuple[tuple[str, int, Any], ...]] = {
    ("Squeeze", 12): (("axes", 1, np.int64),),
    ("Unsqueeze", 12): (("axes", 1, np.int64),),
    ("ReduceSum", 12): (("axes", 1, np.int64),),
    **{
        (f"Reduce{kind}", 17): (("axes", 1, np.int64),)
        for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
    },
    ("Split", 12): (("split", 1, np.int64),),
    ("Slice", 9): (("starts", 1, np.int64), ("ends", 2, np.int64), ("axes", 3, np.int64)),
    ("TopK", 9): (("k", 1, np.int64),),
    ("Pad", 10): (("pads", 1, np.int64), ("value", 2, None)),
    ("Clip", 10): (("min", 1, None), ("max", 2, None)),
    ("Dropout", 11): (("ratio", 1, np.float32),),
    ("Upsample", 8): (("scales", 1, np.float32),),
    ("DFT", 19): (("axis", 2, np.int64),),
}
"""Attributes of an operator, up to a version, that are inputs at `OPSET`: name, position, dtype (None for the data's)."""


def _move(walk: Walk, node: Node, moves: Sequence[tuple[str, int, Any]]) -> None:
    for name, position, dtype in moves:
        value = node.attributes.pop(name, None)
        if value is not None:
            array = np.array(value, dtype=dtype_of(node.input(0)) if dtype is None else dtype)
            node.place(position, array.reshape(1) if node.op_type == "TopK" else array)


def _mover(moves: Sequence[tuple[str, int, Any]]) -> Any:
    return lambda walk, node: _move(walk, node, moves)


@handles("DFT", last=19)
def dft(walk: Walk, node: Node) -> None:
    node.attributes.setdefault("axis", 1)


for (_op_type, _last), _moves in _INPUTS.items():
    handles(_op_type, last=_last)(_mover(_moves))


@handles("Slice", last=9)
def slice_axes(walk: Walk, node: Node) -> None:
    """Without axes, the first ones: as many as starts."""
    starts = node.input(1)
    if node.input(3) is None and isinstance(starts, np.ndarray):
        node.place(3, np.arange(len(starts)))


@handles("Split", last=17)
def split(walk: Walk, node: Node) -> None:
    if node.input(1) is None:
        node.attributes["num_outputs"] = len(node.outputs)


@handles("Upsample", last=9)
def upsample(walk: Walk, node: Node) -> None:
    """A Resize that counts sizes from the corner of the first pixel and takes the pixel before."""
    scales = node.input(1)
    mode = node.attributes.get("mode", "nearest")
    node.op_type, node.inputs = "Resize", [node.input(0), None, scales]
    node.attributes = {"mode": mode, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


@handles("Resize", last=10)
def resize(walk: Walk, node: Node) -> None:
    if len(node.inputs) == 2:
        upsample(walk, node)


@handles("Resize", last=12)
def resize_modes(walk: Walk, node: Node) -> None:
    if node.attributes.get("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        raise UnsupportedOnnxError(
            "Resize in the mode tf_half_pixel_for_nn is not supported", hint="export for opset 13 or later"
        )


@handles("Resize")
def resize_empty(walk: Walk, node: Node) -> None:
    """Older files give empty tensors for what is left out."""
    for position in (1, 2, 3):
        value = node.input(position)
        if value is not None and math.prod(d if isinstance(d, int) else 1 for d in shape_of(value)) == 0:
            node.place(position, None)


@handles("Softmax", "LogSoftmax", "Hardmax", last=12)
def softmax(walk: Walk, node: Node) -> Sequence[Value] | None:
    """Over all axes from `axis` on at once, as a matrix."""
    x = node.input(0)
    dims = shape_of(x)
    axis = node.attributes.get("axis", 1)
    axis += len(dims) if axis < 0 else 0
    node.attributes["axis"] = -1
    if axis == len(dims) - 1:
        return None
    flat = walk.node("Flatten", x, axis=axis)
    shape = walk.node("Shape", x) if None in dims else np.array(dims, dtype=np.int64)
    return [walk.node("Reshape", walk.node(node.op_type, flat, axis=-1), shape)]


@handles("BatchNormalization", last=13)
def batch_normalization(walk: Walk, node: Node) -> None:
    """In training where running statistics are asked for; `spatial` is the default of today."""
    if not node.attributes.pop("spatial", 1):
        raise UnsupportedOnnxError(
            "BatchNormalization of single features (spatial=0) is not supported",
            hint="export for opset 9 or later",
        )
    node.attributes.pop("is_test", None)
    node.outputs = node.outputs[:3]
    node.declared = node.declared[:3]
    if any(node.outputs[1:]):
        node.attributes["training_mode"] = 1


@handles("GridSample", last=19)
def grid_sample(walk: Walk, node: Node) -> None:
    modes = {"bilinear": "linear", "bicubic": "cubic"}
    node.attributes["mode"] = modes.get(mode := node.attributes.get("mode", "bilinear"), mode)


@handles("RoiAlign", last=15)
def roi_align(walk: Walk, node: Node) -> None:
    node.attributes["coordinate_transformation_mode"] = "output_half_pixel"


@handles("Scatter")
def scatter(walk: Walk, node: Node) -> None:
    node.op_type = "ScatterElements"
