"""Order statistics: median, percentile, mode."""

from __future__ import annotations

import numpy as np

from ravop.errors import ArgumentError
from ravop.graph.control import scan
from ravop.graph.dtypes import INT
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import Axes, as_op, axes_of, floats, node, operator
from ravop.ops.compare import where
from ravop.ops.create import full_like
from ravop.ops.shaping import expand_dims, reshape, transpose
from ravop.ops.sorting import sort

__all__ = ["median", "mode", "percentile", "quantile"]


@operator
def median(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The middle element along `axis`, or the mean of the two in the middle; a float."""
    return quantile(x, 0.5, axis, keepdims)


@operator
def percentile(x: Operand, q: float | list[float], axis: Axes = None, keepdims: bool = False) -> Op:
    """The value below which q per cent of the elements along `axis` lie, interpolated linearly; a new
    first axis for a list of q.
    """
    return quantile(x, (np.asarray(q, dtype=np.float64) / 100).tolist(), axis, keepdims)


@operator
def quantile(x: Operand, q: float | list[float], axis: Axes = None, keepdims: bool = False) -> Op:
    """As `percentile`, with q from 0 to 1."""
    wanted = np.asarray(q, dtype=np.float64)
    if wanted.ndim > 1 or not wanted.size or not ((wanted >= 0) & (wanted <= 1)).all():
        raise ArgumentError(
            "q is out of range", expected="a number from 0 to 100 per cent, or a list of them", received=q
        )
    op = floats(x)
    axes = axes_of(op, axis)
    ordered = sort(_last(op, axes), -1)
    count = ordered.static_shape[-1]
    if not count:
        raise ArgumentError(
            "nothing has no quantile", expected="at least one element", received=list(op.shape)
        )
    place = wanted * (count - 1)
    below = np.floor(place).astype(np.int64)
    low, high = (
        node("Gather", [ordered, op.graph.tensor(i)], axis=ordered.ndim - 1)
        for i in (below, np.minimum(below + 1, count - 1))
    )
    part = op.graph.tensor(place - below, op.dtype)
    found = low + (high - low) * part if (place != below).any() else low
    if wanted.ndim:
        found = transpose(found, [found.ndim - 1, *range(found.ndim - 1)])
    return expand_dims(found, [a + wanted.ndim for a in axes]) if keepdims and axes else found


@operator
def mode(x: Operand, axis: int | None = None, keepdims: bool = False) -> Op:
    """The most frequent element along `axis`, the smallest of several; of all elements for None."""
    op = as_op(x)
    axes = axes_of(op, axis)
    ordered = sort(_last(op, axes), -1)
    steps = transpose(ordered, [ordered.ndim - 1, *range(ordered.ndim - 1)])

    def longest(carry: tuple[Op, Op, Op, Op], value: Op) -> tuple[tuple[Op, Op, Op, Op], None]:
        last, run, best, best_run = carry
        run = where(value == last, run + 1, 1)
        better = run > best_run
        return (value, run, where(better, value, best), where(better, run, best_run)), None

    none = full_like(steps[0], 0, INT)
    (_, _, best, _), _ = scan(longest, (steps[0], none, steps[0], none), steps)
    return expand_dims(best, axes) if keepdims and axes else best


def _last(op: Op, axes: tuple[int, ...]) -> Op:
    """`op` with `axes` moved to the end and made one."""
    others = [a for a in range(op.ndim) if a not in axes]
    sizes = op.static_shape
    moved = transpose(op, [*others, *axes]) if op.ndim else op
    return reshape(
        moved, [*(sizes[a] for a in others), int(np.prod([sizes[a] for a in axes], dtype=np.int64))]
    )
