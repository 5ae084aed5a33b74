"""The gradient of `Resize`: interpolation is a linear map along each axis, so back means by its transposed matrix.

The matrices follow the operator's definition (ONNX, Resize 19): where a point of the output lies on the input, and the
weights of the neighbours there. They are made from shapes alone while the graph is defined.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ravop.autodiff.rules import Grads, NodeView, rule
from ravop.autodiff.spreading import along
from ravop.graph.op import Op
from ravop.protocol.tensors import Array


class Axis(NamedTuple):
    """How one axis is resized."""

    size: int
    out: int
    scale: float
    mode: str
    coordinates: str
    nearest: str
    cubic: float
    exclude_outside: bool
    antialias: bool
    start: float
    end: float


@rule("Resize")
def resize(n: NodeView, g: Op) -> Grads:
    for number, axis in _axes(n).items():
        if axis.size != axis.out or axis.scale != 1.0 or axis.coordinates == "tf_crop_and_resize":
            g = along(g, number, matrix(axis))
    return [g]


def _axes(n: NodeView) -> dict[int, Axis]:
    shape, out = n.x.static_shape, n.y.static_shape
    chosen = [axis % n.x.ndim for axis in n.attribute("axes", range(n.x.ndim))]
    roi, scales = (_numbers(n, 1), _numbers(n, 2))
    sizes = n.known(3, "sizes")
    ratios = list(scales) if scales else [out[axis] / shape[axis] for axis in chosen]
    policy = n.attribute("keep_aspect_ratio_policy", "stretch")
    if sizes and policy != "stretch":
        pick = min if policy == "not_larger" else max
        ratios = [pick(size / shape[axis] for size, axis in zip(sizes, chosen, strict=True))] * len(chosen)
    return {
        axis: Axis(
            shape[axis], out[axis], ratios[i], n.attribute("mode", "nearest"),
            n.attribute("coordinate_transformation_mode", "half_pixel"),
            n.attribute("nearest_mode", "round_prefer_floor"), n.attribute("cubic_coeff_a", -0.75),
            bool(n.attribute("exclude_outside", 0)), bool(n.attribute("antialias", 0)),
            roi[i] if roi else 0.0, roi[i + len(chosen)] if roi else 1.0,
        )
        for i, axis in enumerate(chosen)
    }  # fmt: skip


def _numbers(n: NodeView, position: int) -> tuple[float, ...]:
    op = n.optional(position)
    if op is None:
        return ()
    if op.constant is None:
        raise n.error("its region and its scales must be constants")
    return tuple(float(v) for v in np.ravel(op.constant))


@functools.lru_cache(maxsize=256)
def matrix(axis: Axis) -> Array:
    """(out, size): the weight of each point of the input in each point of the output."""
    x = _positions(axis)
    shrink = min(axis.scale, 1.0) if axis.antialias and axis.mode != "nearest" else 1.0
    if axis.mode == "nearest":
        places = _NEAREST[axis.nearest](x)[:, None]
        weights = np.ones(places.shape)
    else:
        reach = {"linear": 1, "cubic": 2}[axis.mode]
        span = math.ceil(reach / shrink)
        places = np.floor(x)[:, None] + np.arange(1 - span, span + 1)
        weights = _kernel(axis, (places - x[:, None]) * shrink)
    inside = (places >= 0) & (places <= axis.size - 1)
    if axis.exclude_outside:
        weights = weights * inside
    if axis.mode != "nearest":
        weights = weights / weights.sum(axis=1, keepdims=True)
    made = np.zeros((axis.out, axis.size))
    rows = np.broadcast_to(np.arange(axis.out)[:, None], places.shape)
    np.add.at(made, (rows, np.clip(places, 0, axis.size - 1).astype(np.int64)), weights)
    if axis.coordinates == "tf_crop_and_resize":
        made[(x < 0) | (x > axis.size - 1)] = 0
    return made


def _positions(axis: Axis) -> Array:
    """Where each point of the output lies on the input."""
    j = np.arange(axis.out, dtype=np.float32).astype(np.float64)
    last = axis.size - 1
    match axis.coordinates:
        case "asymmetric":
            return j / axis.scale
        case "align_corners":
            return j * last / (axis.out - 1) if axis.out > 1 else j * 0
        case "tf_crop_and_resize":
            if axis.out == 1:
                return np.full(1, 0.5 * (axis.start + axis.end) * last)
            return axis.start * last + j * (axis.end - axis.start) * last / (axis.out - 1)
        case "pytorch_half_pixel" if axis.out == 1:
            return j * 0
        case "half_pixel_symmetric":
            adjusted = axis.out / (axis.scale * axis.size)
            return axis.size / 2 * (1 - adjusted) + (j + 0.5) / axis.scale - 0.5
    return (j + 0.5) / axis.scale - 0.5


_NEAREST: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _kernel(axis: Axis, t: Array) -> Array:
    """The weight of a neighbour at distance t: a hat, or the cubic of Keys (1981) with the coefficient a."""
    t = np.abs(t)
    if axis.mode == "linear":
        hat: Array = np.maximum(1 - t, 0)
        return hat
    a = axis.cubic
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    weights: Array = np.where(t <= 1, near, np.where(t < 2, far, 0))
    return weights
