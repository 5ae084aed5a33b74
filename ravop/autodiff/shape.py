"""Gradients of operators that only move elements: shapes, axes, pieces, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ravop.autodiff.rules import Grads, NodeView, expand, number, permute, reduce_sum, reshape, rule, sum_to
from ravop.graph.op import Op
from ravop.ops.catalogue import integers, node


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshaped(n: NodeView, g: Op) -> Grads:
    return [reshape(g, n.x.shape)]


@rule("Transpose")
def transpose(n: NodeView, g: Op) -> Grads:
    order = n.attribute("perm", tuple(reversed(range(n.x.ndim))))
    return [permute(g, np.argsort(order).tolist())]


@rule("Expand")
def expand_rule(n: NodeView, g: Op) -> Grads:
    return [sum_to(g, n.x)]


@rule("Tile")
def tile(n: NodeView, g: Op) -> Grads:
    """The sum over the copies: with each axis split into (copies, length), over the former."""
    copies = n.known(1, "repeats") or ()
    split = [size for count, dim in zip(copies, n.x.static_shape, strict=True) for size in (count, dim)]
    return [reduce_sum(reshape(g, tuple(split)), range(0, 2 * n.x.ndim, 2), keepdims=False)]


@rule("Concat")
def concat(n: NodeView, g: Op) -> Grads:
    axis = n.axis(0)
    lengths = [n.input(i).static_shape[axis] for i in range(len(n.inputs))]
    return _pieces(g, axis, lengths, n.wants)


def _pieces(g: Op, axis: int, lengths: Sequence[int], wants: Sequence[bool]) -> list[Op | None]:
    starts = np.cumsum([0, *lengths]).tolist()
    return [
        cut(g, axis, start, start + length) if wanted else None
        for start, length, wanted in zip(starts, lengths, wants, strict=False)
    ]


def cut(op: Op, axis: int, start: int, stop: int, step: int = 1) -> Op:
    """`op[start:stop:step]` along one axis."""
    return node("Slice", [op, *(integers(op, [v]) for v in (start, stop, axis, step))])


@rule("Split")
def split(n: NodeView, *grads: Op | None) -> Grads:
    pieces = [
        g if g is not None else node("Expand", [number(y, 0), integers(y, y.static_shape)])
        for g, y in zip(grads, n.outputs, strict=True)
    ]
    return [node("Concat", pieces, axis=n.axis(0))]


@rule("Slice")
def slice_rule(n: NodeView, g: Op) -> Grads:
    """Back to where the elements came from, zeros elsewhere: by padding, after spreading along axes with steps."""
    shape = n.x.static_shape
    if any(op is not None and op.constant is None for op in n.inputs[1:]):
        return [_slice_at(n, g)]
    starts, ends = n.known(1, "starts") or (), n.known(2, "ends") or ()
    axes = [axis % n.x.ndim for axis in n.known(3, "axes") or range(len(starts))]
    steps = n.known(4, "steps") or (1,) * len(starts)
    before, after = [0] * n.x.ndim, [0] * n.x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        first, length, step = _taken(shape[axis], start, end, step)
        if step < 0:
            g = cut(g, axis, -1, np.iinfo(np.int64).min, -1)
            first, step = first + (length - 1) * step, -step
        if step > 1 and length > 1:
            g = _spread(g, axis, step)
        before[axis] = first
        after[axis] = shape[axis] - first - (length - 1) * step - 1 if length else shape[axis] - first
    return [pad(g, before, after)]


def _slice_at(n: NodeView, g: Op) -> Op:
    """For limits that only the run can tell: the same slice of the elements' numbers says where each goes."""
    x = n.x
    count = math.prod(x.static_shape)
    first, stop, step = (x.graph.constant(np.array(v)) for v in (0, count, 1))
    numbers = reshape(node("Range", [first, stop, step]), x.static_shape)
    places = node("Slice", [numbers, *n.inputs[1:]])
    flat = expand(number(g, 0), (count,))
    return reshape(
        node("ScatterElements", [flat, reshape(places, (None,)), reshape(g, (None,))], axis=0), x.static_shape
    )


def _taken(size: int, start: int, end: int, step: int) -> tuple[int, int, int]:
    """(first index, how many, step) of a slice: ONNX clamps as Python does, with its own way to write the end of a reversal."""
    stop = None if step < 0 and end < -size else end
    indices = range(*slice(start, stop, step).indices(size))
    return (indices.start if len(indices) else 0), len(indices), step


def _spread(g: Op, axis: int, step: int) -> Op:
    """`step - 1` zeros between the elements along an axis."""
    shape = g.static_shape
    unit = reshape(g, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    room = [0] * unit.ndim
    room[axis + 1] = step - 1
    wide = reshape(pad(unit, [0] * unit.ndim, room), (*shape[:axis], shape[axis] * step, *shape[axis + 1 :]))
    return cut(wide, axis, 0, (shape[axis] - 1) * step + 1)


def pad(op: Op, before: Sequence[int], after: Sequence[int]) -> Op:
    """`op` with zeros around it; a negative count takes elements away."""
    cut = [axis for axis in range(op.ndim) if before[axis] < 0 or after[axis] < 0]
    if cut:
        shape = op.static_shape
        starts = [max(-before[axis], 0) for axis in cut]
        ends = [shape[axis] - max(-after[axis], 0) for axis in cut]
        op = node("Slice", [op, integers(op, starts), integers(op, ends), integers(op, cut)])
    added = [max(count, 0) for count in (*before, *after)]
    return node("Pad", [op, integers(op, added)]) if any(added) else op


@rule("Trilu")
def trilu(n: NodeView, g: Op) -> Grads:
    return [node("Trilu", [g, n.optional(1)], upper=n.attribute("upper", 1))]


@rule("DepthToSpace")
def depth_to_space(n: NodeView, g: Op) -> Grads:
    size = n.attribute("blocksize")
    if n.attribute("mode", "DCR") == "DCR":
        return [node("SpaceToDepth", [g], blocksize=size)]
    batch, depth, height, width = n.x.static_shape
    blocks = reshape(g, (batch, depth // size**2, height, size, width, size))
    return [reshape(permute(blocks, [0, 1, 3, 5, 2, 4]), n.x.static_shape)]


@rule("SpaceToDepth")
def space_to_depth(n: NodeView, g: Op) -> Grads:
    return [node("DepthToSpace", [g], blocksize=n.attribute("blocksize"), mode="DCR")]


@rule("ReverseSequence")
def reverse_sequence(n: NodeView, g: Op) -> Grads:
    """Turned back the same way."""
    axes = {name: n.attribute(name, default) for name, default in (("batch_axis", 1), ("time_axis", 0))}
    return [node("ReverseSequence", [g, n.input(1)], **axes)]
