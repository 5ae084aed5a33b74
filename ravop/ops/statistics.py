"""Order statistics: median, percentile, mode."""

from __future__ import annotations

import numpy as np

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.control import scan
from ravop.graph.dtypes import INT
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import Axes, axes_of, length_of
from ravop.ops.catalogue import as_op, floats, node, operator
from ravop.ops.compare import where
from ravop.ops.create import full_like
from ravop.ops.shaping import expand_dims, flatten, folded, reshape, squeeze, transpose
from ravop.ops.sorting import sort

__all__ = ["corrcoef", "cov", "median", "mode", "percentile", "quantile"]


@operator
def median(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The middle element along `axis`, or the mean of the two in the middle; a float.

    Example:
        >>> R.median([1, 2, 4, 9])
        3.0
    """
    return quantile(x, 0.5, axis, keepdims)


@operator
def percentile(x: Operand, q: float | list[float], axis: Axes = None, keepdims: bool = False) -> Op:
    """The value below which q per cent of the elements along `axis` lie, interpolated linearly; a new
    first axis for a list of q.

    Example:
        >>> R.percentile([1, 2, 3, 4], [25, 50])
        [1.75, 2.5]
    """
    return quantile(x, (np.asarray(q, dtype=np.float64) / 100).tolist(), axis, keepdims)


@operator
def quantile(x: Operand, q: float | list[float], axis: Axes = None, keepdims: bool = False) -> Op:
    """As `percentile`, with q from 0 to 1.

    Example:
        >>> R.quantile([1, 2, 3, 4], 0.25)
        1.75
    """
    wanted = np.asarray(q, dtype=np.float64)
    if wanted.ndim > 1 or not wanted.size or not ((wanted >= 0) & (wanted <= 1)).all():
        raise ArgumentError(
            "q is out of range", expected="a number from 0 to 100 per cent, or a list of them", received=q
        )
    op = floats(x)
    axes = axes_of(op, axis)
    ordered = sort(_last(op, axes), -1)
    count = length_of(ordered, -1)
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
    """The most frequent element along `axis`, the smallest of several; of all elements for None.

    Example:
        >>> R.mode([3, 1, 3])
        3
    """
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
    return folded(transpose(op, [*others, *axes]), len(others))


@operator
def cov(x: Operand, rowvar: bool = True, bias: bool = False, ddof: int | None = None) -> Op:
    """The covariances of the rows of x (of its columns without `rowvar`): the mean products of their distances from their means,
    divided by n − 1, by n with `bias`, or by n − ddof.

    Example:
        >>> R.cov([[1, 2, 3], [3, 1, 0]])
        [[1.0, -1.5], [-1.5, 2.3333]]
    """
    op = floats(x)
    if op.ndim > 2 or not op.ndim:
        raise ShapeError("cov takes a matrix or a vector", expected="1 or 2 axes", received=list(op.shape))
    rows = reshape(op, (1, -1)) if op.ndim == 1 else op if rowvar else transpose(op)
    count = length_of(rows, 1)
    divisor = count - ((0 if bias else 1) if ddof is None else ddof)
    if divisor <= 0:
        raise ArgumentError("too few elements for this divisor", expected="more than one", received=count)
    away = rows - node("ReduceMean", [rows, rows.graph.integers([1])], keepdims=1)
    return squeeze(
        node("MatMul", [away, transpose(away)]) / divisor, [n for n in (0, 1) if rows.shape[0] == 1]
    )


@operator
def corrcoef(x: Operand, rowvar: bool = True) -> Op:
    """The correlation coefficients of the rows of x (of its columns without `rowvar`): covariances over both deviations.

    Example:
        >>> R.corrcoef([[1, 2, 3], [3, 1, 0]])
        [[1.0, -0.982], [-0.982, 1.0]]
    """
    together = cov(x, rowvar)
    if not together.ndim:
        return together / together
    n = length_of(together, 0)
    spread = node(
        "Sqrt", [node("Gather", [flatten(together), together.graph.tensor(np.arange(n) * (n + 1))], axis=0)]
    )
    return together / expand_dims(spread, 1) / spread
