"""Reductions over axes. `axis` is one axis, several, or None for all; `keepdims` keeps them with length 1."""

from __future__ import annotations

import math

from ravop.errors import ArgumentError, ShapeError
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
)
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
    """The sum over `axis`.

    Example:
        >>> R.sum([[1, 2], [3, 4]], axis=0)
        [4, 6]
    """
    return _reduce("ReduceSum", summands(x), axis, keepdims)


@operator
def prod(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The product over `axis`.

    Example:
        >>> R.prod([1, 2, 3])
        6
    """
    return _reduce("ReduceProd", summands(x), axis, keepdims)


@operator
def mean(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The arithmetic mean over `axis`, a float.

    Example:
        >>> R.mean([[1, 2], [3, 4]], axis=1)
        [1.5, 3.5]
    """
    return _reduce("ReduceMean", floats(x), axis, keepdims)


@operator
def max(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The largest element along `axis`.

    Example:
        >>> R.max([[1, 2], [3, 4]], axis=0)
        [3, 4]
    """
    return _extreme("ReduceMax", as_op(x), axis, keepdims)


@operator
def min(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """The smallest element along `axis`.

    Example:
        >>> R.min([[1, 2], [3, 4]], axis=0)
        [1, 2]
    """
    return _extreme("ReduceMin", as_op(x), axis, keepdims)


def _extreme(op_type: str, op: Op, axis: Axes, keepdims: bool) -> Op:
    if any_empty(op, axis):
        raise ShapeError("nothing has no largest or smallest element", received=list(op.shape))
    axes = axes_of(op, axis)
    return exact(op_type, [op], after=[integers(op, axes)], keepdims=int(keepdims)) if axes else op


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
    return _reduce("ReduceMin", booleans(x), axis, keepdims)


@operator
def any(x: Operand, axis: Axes = None, keepdims: bool = False) -> Op:
    """Whether any element along `axis` is true.

    Example:
        >>> R.any([True, False])
        True
    """
    return _reduce("ReduceMax", booleans(x), axis, keepdims)


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
    """The standard deviation along `axis`: √variance.

    Example:
        >>> R.std([1, 2, 3, 4])
        1.118
    """
    return node("Sqrt", [variance(x, axis, keepdims, ddof)])


@operator
def average(x: Operand, axis: Axes = None, weights: Operand | None = None, keepdims: bool = False) -> Op:
    """The mean weighted by `weights`: of the shape of x, or one for each element along a single axis.

    Example:
        >>> R.average([1, 2, 3], weights=[3, 1, 0])
        1.25
    """
    if weights is None:
        return mean(x, axis, keepdims)
    op, weight = common(floats(x), weights)
    if weight.shape != op.shape:
        axes = axes_of(op, axis)
        if axis is None or len(axes) != 1 or weight.shape != (op.shape[axes[0]],):
            raise ShapeError("these weights do not fit",
                expected=f"{list(op.shape)}, or one weight for each element along one axis",
                             received=list(weight.shape))  # fmt: skip
        others = [a for a in range(op.ndim) if a != axes[0]]
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
    """int64 index of the first largest element along `axis`; of the flattened x for None.

    Example:
        >>> R.argmax([3, 9, 9])
        1
    """
    return _arg("ArgMax", summands(x), axis, keepdims)


@operator
def argmin(x: Operand, axis: int | None = None, keepdims: bool = False) -> Op:
    """int64 index of the first smallest element along `axis`; of the flattened x for None.

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
