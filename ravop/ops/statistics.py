"""Order statistics: median, percentile, mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.control import scan
from ravop.graph.dtypes import INT
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import Axes, axes_of, length_of
from ravop.ops.catalogue import as_op, floats, node, operator, scalar
from ravop.ops.compare import where
from ravop.ops.create import filled, full_like
from ravop.ops.logic import isnan
from ravop.ops.shaping import expand_dims, flatten, folded, reshape, squeeze, transpose
from ravop.ops.sorting import sort
from ravop.protocol.tensors import Array

__all__ = ["corrcoef", "cov", "median", "mode", "percentile", "quantile"]


Method = Literal["linear", "lower", "higher", "nearest", "midpoint"]


@operator
def median(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The middle element along `axis`, or the mean of the two in the middle; a float, NaN where one is NaN.

    Example:
        >>> R.median([1, 2, 4, 9])
        3.0
    """
    return quantile(x, 0.5, axis, keepdims)


@operator
def percentile(
    x: Operand, q: ArrayLike, axis: Axes = None, keepdims: bool = False, method: Method = "linear"
) -> Op:
    """The value below which q per cent of the elements along `axis` lie; the axes of q come in front.

    Where that is between two elements, `method` tells what: "linear" between them, their "midpoint", the "lower", the "higher",
    or the "nearest" of them. NaN where one is NaN.

    Example:
        >>> R.percentile([1, 2, 3, 4], [25, 50])
        [1.75, 2.5]
    """
    return quantile(x, np.asarray(q, dtype=np.float64) / 100, axis, keepdims, method)


@operator
def quantile(
    x: Operand, q: ArrayLike, axis: Axes = None, keepdims: bool = False, method: Method = "linear"
) -> Op:
    """As `percentile`, with q from 0 to 1.

    Example:
        >>> R.quantile([1, 2, 3, 4], 0.25, method="lower")
        1.0
    """
    wanted = np.asarray(q, dtype=np.float64)
    if not wanted.size or not ((wanted >= 0) & (wanted <= 1)).all():
        raise ArgumentError(
            "q is out of range", expected="a number from 0 to 100 per cent, or a list of them", received=q
        )
    if method not in _PARTS:
        raise ArgumentError("unknown method", expected=", ".join(_PARTS), received=repr(method))
    op = floats(x)
    axes = axes_of(op, axis)
    found = _quantile(_last(op, axes), wanted, method)
    return expand_dims(found, [a + wanted.ndim for a in axes]) if keepdims and axes else found


_PARTS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda part: part,
    "lower": np.zeros_like,
    "higher": np.ceil,
    "nearest": np.round,
    "midpoint": lambda part: np.where(part > 0, 0.5, 0.0),
}
"""How far to go from the element below to the one above, by how far the place is between them."""


def _quantile(op: Op, wanted: Array, method: str) -> Op:
    """Along the last axis; the axes of `wanted` come in front."""
    count = length_of(op, -1)
    if not count:
        return filled(op.graph, (*wanted.shape, *op.static_shape[:-1]), np.nan, op.dtype)
    place = wanted * (count - 1)
    if method == "nearest":  # of two that are as near, the one with an even index
        place = np.round(place)
    below = np.floor(place).astype(np.int64)
    part = _PARTS[method](place - below)
    ordered = sort(op, -1)
    low, high = (
        node("Gather", [ordered, op.graph.tensor(i)], axis=ordered.ndim - 1)
        for i in (below, np.minimum(below + 1, count - 1))
    )
    found = low + (high - low) * op.graph.tensor(part, op.dtype) if part.any() else low
    last = node(
        "Gather", [ordered, op.graph.tensor(np.full([1] * wanted.ndim, count - 1))], axis=ordered.ndim - 1
    )
    found = where(isnan(last), scalar(op, np.nan), found)  # sorting puts NaNs there
    first = found.ndim - wanted.ndim
    return transpose(found, [*range(first, found.ndim), *range(first)]) if wanted.ndim else found


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
