"""What the taps of a kernel meet: copies of an image (or any tensor), padded and moved, that lie under all windows."""

from __future__ import annotations

from collections.abc import Sequence

from ravop.autodiff.shape import pad
from ravop.autodiff.windows import Windows
from ravop.graph.op import Op
from ravop.ops.catalogue import integers, node


def padded(op: Op, windows: Windows, first: int) -> Op:
    """`op`, whose spatial axes begin at `first`, with the padding, and without what no window reaches."""
    others = (0,) * (op.ndim - first - len(windows.kernel))
    after = [after - leftover for after, leftover in zip(windows.after, windows.leftover, strict=True)]
    return pad(op, (*(0,) * first, *windows.before, *others), (*(0,) * first, *after, *others))


def moved(op: Op, axis: int, tap: int, windows: Windows, spatial: int) -> Op:
    """What the kernel's tap meets along a spatial axis, which is `axis` of the padded `op`."""
    start, stride = tap * windows.dilations[spatial], windows.strides[spatial]
    length = (windows.count[spatial] - 1) * stride + 1
    if (start, stride, length) == (0, 1, op.shape[axis]):
        return op
    return node("Slice", [op, *(integers(op, [v]) for v in (start, start + length, axis, stride))])


def copies(op: Op, first: int, windows: Windows) -> list[Op]:
    """For every tap of the kernel, in the order of its weights, what it meets; `op` is padded."""
    found = [op]
    for spatial, length in enumerate(windows.kernel):
        found = [
            moved(each, first + spatial, tap, windows, spatial) for each in found for tap in range(length)
        ]
    return found


def joined(ops: Sequence[Op], axis: int) -> Op:
    return ops[0] if len(ops) == 1 else node("Concat", list(ops), axis=axis)
