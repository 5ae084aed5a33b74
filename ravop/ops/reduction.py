"""Reductions over axes. `axis` is one axis, several, or None for all; `keepdims` keeps them with length 1."""

from __future__ import annotations

import math

import numpy as np

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.dtypes import is_float
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import Axes, axes_of, axis_of, lengths_of
from ravop.ops.catalogue import (
    also,
    as_op,
    booleans,
    common,
    exact,
    floats,
    integers,
    node,
    numbers,
    operator,
    scalar,
    summands,
    total,
)
from ravop.ops.create import filled
from ravop.ops.shaping import expand_like

__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "average", "logsumexp", "max", "mean", "min", "prod", "ptp", "std", "sum",
    "var", "variance",
]  # fmt: skip


def _reduce(op_type: str, op: Op, axis: Axes, keepdims: bool) -> Op:
    axes = axes_of(op, axis)
    if not axes:
        return op
    return node(op_type, [op, integers(op, axes)], keepdims=int(keepdims))


@operator
def sum(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The sum over `axis`; of booleans and integers int64, of unsigned ones uint64.

    Example:
        >>> R.sum([[1, 2], [3, 4]], axis=0)
        [4, 6]
    """
    op = as_op(x)
    return total(_reduce("ReduceSum", summands(op), axis, keepdims), op)


@operator
def prod(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The product over `axis`, of the dtype that `sum` gives.

    Example:
        >>> R.prod([1, 2, 3])
        6
    """
    op = as_op(x)
    return total(_reduce("ReduceProd", summands(op), axis, keepdims), op)


@operator
def mean(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The arithmetic mean over `axis`, a float; NaN of nothing.

    Example:
        >>> R.mean([[1, 2], [3, 4]], axis=1)
        [1.5, 3.5]
    """
    op = floats(x)
    if any_empty(op, axis):
        return _of_nothing(op, axis, keepdims, math.nan)
    return _reduce("ReduceMean", op, axis, keepdims)


@operator
def max(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The largest element along `axis`; NaN where one is NaN.

    Example:
        >>> R.max([[1, 2], [3, 4]], axis=0)
        [3, 4]
    """
    return _extreme("ReduceMax", as_op(x), axis, keepdims)


@operator
def min(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The smallest element along `axis`; NaN where one is NaN.

    Example:
        >>> R.min([[1, 2], [3, 4]], axis=0)
        [1, 2]
    """
    return _extreme("ReduceMin", as_op(x), axis, keepdims)


def _extreme(op_type: str, op: Op, axis: Axes, keepdims: bool) -> Op:
    if any_empty(op, axis):
        raise ShapeError("nothing has no largest or smallest element", received=list(op.shape))
    axes = axes_of(op, axis)
    if not axes:
        return op
    found = exact(op_type, [op], after=[integers(op, axes)], keepdims=int(keepdims))
    if not is_float(op.dtype):
        return found
    # Engines differ in whether they see NaNs. A sum of magnitudes is NaN where one of them is, and else never; it takes a
    # third of the time that a reduction of truth values does.
    lost = node("IsNaN", [_reduce("ReduceSum", node("Abs", [op]), axis, keepdims)])
    return node("Where", [lost, scalar(op, math.nan), found])


def any_empty(op: Op, axis: Axes) -> bool:
    """Whether one of these axes has no elements."""
    return 0 in [op.shape[a] for a in axes_of(op, axis)]


@operator
def all(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """Whether all elements along `axis` are true.

    Example:
        >>> R.all([True, False])
        False
    """
    return _asked("ReduceMin", booleans(x), axis, keepdims)


@operator
def any(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """Whether any element along `axis` is true.

    Example:
        >>> R.any([True, False])
        True
    """
    return _asked("ReduceMax", booleans(x), axis, keepdims)


def _asked(op_type: str, op: Op, axis: Axes, keepdims: bool) -> Op:
    if any_empty(op, axis):
        return _of_nothing(op, axis, keepdims, op_type == "ReduceMin")
    return _reduce(op_type, op, axis, keepdims)


def _of_nothing(op: Op, axis: Axes, keepdims: bool, value: float | bool) -> Op:
    """What a reduction over no elements gives, in its shape: engines give nothing, or something else."""
    axes = axes_of(op, axis)
    sizes = [1 if a in axes else size for a, size in enumerate(op.static_shape) if keepdims or a not in axes]
    return filled(op.graph, sizes, value, op.dtype)


@operator
def variance(x: Operand, axis: Axes = None, keepdims: bool = False, ddof: int = 0) -> Op:
    """The mean squared distance from the mean along `axis`; divided by n − ddof.

    Example:
        >>> R.variance([1, 2, 3, 4])
        1.25
    """
    op = floats(x)
    centred = node("Sub", [op, mean(op, axis, keepdims=True)])
    spread = mean(node("Mul", [centred, centred]), axis, keepdims)
    if not ddof:
        return spread
    count = math.prod(lengths_of(op, axes_of(op, axis)))
    if count <= ddof:
        raise ArgumentError("too few elements for this ddof", expected=f"more than {ddof}", received=count)
    return node("Mul", [spread, scalar(op, count / (count - ddof))])


@operator
def std(x: Operand, axis: Axes = None, keepdims: bool = False, ddof: int = 0) -> Op:
    """The standard deviation along `axis`: √variance. Its gradient is 0 where x is constant.

    Example:
        >>> R.std([1, 2, 3, 4])
        1.118
    """
    return root(variance(x, axis, keepdims, ddof))


def root(squares: Op) -> Op:
    """√ of a sum or mean of squares; where that is 0 the sum itself, so that the gradient is 0 and not 0 / 0."""
    none = node("Equal", [squares, scalar(squares, 0)])
    return node("Where", [none, squares, node("Sqrt", [node("Where", [none, scalar(squares, 1), squares])])])


@operator
def average(x: Operand, axis: Axes = None, weights: Operand | None = None, keepdims: bool = False) -> Op:
    """The mean weighted by `weights`: of the shape of x, or of the shape that x has along `axis`.

    Example:
        >>> R.average([1, 2, 3], weights=[3, 1, 0])
        1.25
    """
    if weights is None:
        return mean(x, axis, keepdims)
    op, weight = common(floats(x), weights)
    if weight.shape != op.shape:
        axes = axes_of(op, axis)
        if axis is None or weight.shape != tuple(op.shape[a] for a in axes):
            raise ShapeError("these weights do not fit",
                expected=f"{list(op.shape)}, or its lengths along the axes given",
                             received=list(weight.shape))  # fmt: skip
        weight = node("Transpose", [weight], perm=np.argsort(axes).tolist()) if len(axes) > 1 else weight
        others = [a for a in range(op.ndim) if a not in axes]
        weight = node("Unsqueeze", [weight, integers(op, others)]) if others else weight
        weight = expand_like(weight, op)
    return node("Div", [sum(node("Mul", [op, weight]), axis, keepdims), sum(weight, axis, keepdims)])


@operator
def logsumexp(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """log Σ exp x along `axis`, without overflow.

    Example:
        >>> R.logsumexp([0, 1000])
        1000.0
    """
    return _reduce("ReduceLogSumExp", floats(x), axis, keepdims)


@operator
def argmax(x: Operand, axis: int | None = None, keepdims: bool = False) -> Op:
    """int64 index of the first largest element along `axis`; of the flattened x for None. Where one is NaN, engines differ:
    `nanargmax` leaves them out.

    Example:
        >>> R.argmax([3, 9, 9])
        1
    """
    return _arg("ArgMax", summands(x), axis, keepdims)


@operator
def argmin(x: Operand, axis: int | None = None, keepdims: bool = False) -> Op:
    """int64 index of the first smallest element along `axis`; of the flattened x for None. Where one is NaN, engines differ:
    `nanargmin` leaves them out.

    Example:
        >>> R.argmin([3, 9, 1])
        2
    """
    return _arg("ArgMin", summands(x), axis, keepdims)


def _arg(op_type: str, op: Op, axis: int | None, keepdims: bool) -> Op:
    if any_empty(op, axis):
        raise ShapeError("nothing has no largest or smallest element", received=list(op.shape))
    if axis is not None:
        return node(op_type, [op], axis=axis_of(op, axis), keepdims=int(keepdims))
    found = node(op_type, [node("Reshape", [op, integers(op, [-1])])], axis=0, keepdims=0)
    return node("Reshape", [found, integers(op, [1] * op.ndim)]) if keepdims else found


@operator
def ptp(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The largest less the smallest element along `axis`.

    Example:
        >>> R.ptp([3, 9, 1])
        8
    """
    op = numbers(x)
    return node("Sub", [max(op, axis, keepdims), min(op, axis, keepdims)])


amax, amin = also("amax", max), also("amin", min)
var = also("var", variance)
