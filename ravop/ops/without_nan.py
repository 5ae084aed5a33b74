"""Reductions that leave NaNs out, and replacing them. `axis` and `keepdims` as in `reduction`; integers have no NaNs."""

from __future__ import annotations

import numpy as np

from ravop.graph.dtypes import is_float
from ravop.graph.op import Op, Operand
from ravop.ops import reduction
from ravop.ops.arguments import Axes
from ravop.ops.catalogue import as_op, floats, node, operator, scalar
from ravop.ops.compare import where
from ravop.ops.logic import isnan
from ravop.ops.series import cumsum

__all__ = [
    "nan_to_num", "nanargmax", "nanargmin", "nancumsum", "nanmax", "nanmean", "nanmin", "nanprod", "nanstd", "nansum", "nanvar",
]  # fmt: skip


def _filled(x: Operand, value: float) -> Op:
    op = as_op(x)
    return where(isnan(op), scalar(op, value), op) if is_float(op.dtype) else op


@operator
def nan_to_num(x: Operand, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Op:
    """x with `nan` in place of NaNs, and for infinities `posinf` and `neginf`, or the largest numbers of the dtype.

    Example:
        >>> R.nan_to_num([1, np.nan, np.inf], posinf=9)
        [1.0, 0.0, 9.0]
    """
    op = as_op(x)
    if not is_float(op.dtype):
        return op
    limit = float(np.finfo(op.dtype).max)
    for old, new in (
        (np.inf, limit if posinf is None else posinf),
        (-np.inf, -limit if neginf is None else neginf),
    ):
        op = node("Where", [node("Equal", [op, scalar(op, old)]), scalar(op, new), op])
    return _filled(op, nan)


@operator
def nansum(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The sum over `axis` of what is not NaN.

    Example:
        >>> R.nansum([1, np.nan, 3])
        4.0
    """
    return reduction.sum(_filled(x, 0), axis, keepdims)


@operator
def nanprod(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The product over `axis` of what is not NaN.

    Example:
        >>> R.nanprod([2, np.nan, 3])
        6.0
    """
    return reduction.prod(_filled(x, 1), axis, keepdims)


@operator
def nancumsum(x: Operand, axis: int | None = None) -> Op:
    """The running sum along `axis`, NaNs as zeros.

    Example:
        >>> R.nancumsum([1, np.nan, 3])
        [1.0, 1.0, 4.0]
    """
    return cumsum(_filled(x, 0), axis)


@operator
def nanmean(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The mean over `axis` of what is not NaN; NaN where nothing is.

    Example:
        >>> R.nanmean([[1, np.nan], [3, 4]], axis=0)
        [2.0, 4.0]
    """
    op = floats(x)
    return node("Div", [nansum(op, axis, keepdims), _count(op, axis, keepdims)])


def _count(op: Op, axis: Axes, keepdims: bool) -> Op:
    """How many are not NaN, in the dtype of `op`."""
    return reduction.sum(where(isnan(op), scalar(op, 0), scalar(op, 1)), axis, keepdims)


@operator
def nanvar(x: Operand, axis: Axes = None, keepdims: bool = False, ddof: int = 0) -> Op:
    """The variance over `axis` of what is not NaN; divided by how many those are, less ddof.

    Example:
        >>> R.nanvar([1, np.nan, 3])
        1.0
    """
    op = floats(x)
    away = node("Sub", [op, nanmean(op, axis, keepdims=True)])
    squares = where(isnan(op), scalar(op, 0), node("Mul", [away, away]))
    count = node("Sub", [_count(op, axis, keepdims), scalar(op, ddof)])
    spread = node("Div", [reduction.sum(squares, axis, keepdims), count])
    return where(node("Greater", [count, scalar(op, 0)]), spread, scalar(op, np.nan))


@operator
def nanstd(x: Operand, axis: Axes = None, keepdims: bool = False, ddof: int = 0) -> Op:
    """The standard deviation over `axis` of what is not NaN: √nanvar.

    Example:
        >>> R.nanstd([1, np.nan, 3])
        1.0
    """
    return reduction.root(nanvar(x, axis, keepdims, ddof))


@operator
def nanmax(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The largest element along `axis` that is not NaN; NaN where nothing is.

    Example:
        >>> R.nanmax([1, np.nan, 3])
        3.0
    """
    return _extreme(x, axis, keepdims, -np.inf)


@operator
def nanmin(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The smallest element along `axis` that is not NaN; NaN where nothing is.

    Example:
        >>> R.nanmin([1, np.nan, 3])
        1.0
    """
    return _extreme(x, axis, keepdims, np.inf)


def _extreme(x: Operand, axis: Axes, keepdims: bool, lost: float) -> Op:
    op = as_op(x)
    reduce = reduction.max if lost < 0 else reduction.min
    if not is_float(op.dtype):
        return reduce(op, axis, keepdims)
    found = reduce(_filled(op, lost), axis, keepdims)
    return where(reduction.all(isnan(op), axis, keepdims), scalar(op, np.nan), found)


@operator
def nanargmax(x: Operand, axis: int | None = None, keepdims: bool = False) -> Op:
    """int64 index of the first largest element along `axis` that is not NaN.

    Example:
        >>> R.nanargmax([1, np.nan, 3])
        2
    """
    return reduction.argmax(_filled(x, -np.inf), axis, keepdims)


@operator
def nanargmin(x: Operand, axis: int | None = None, keepdims: bool = False) -> Op:
    """int64 index of the first smallest element along `axis` that is not NaN.

    Example:
        >>> R.nanargmin([1, np.nan, 3])
        0
    """
    return reduction.argmin(_filled(x, np.inf), axis, keepdims)
