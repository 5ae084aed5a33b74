"""Statistics of data that several clients hold, from what each of them tells: its mean or variance, and of how many elements.

The formulas are those of pooled samples (Chan, Golub and LeVeque 1983).
"""

from __future__ import annotations

from collections.abc import Sequence

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import common, floats, integers, node, operator
from ravop.ops.shaping import reshape, stack

__all__ = ["federated_mean", "federated_standard_deviation", "federated_variance"]


@operator
def federated_mean(means: Sequence[Operand] | Operand, counts: Operand | None = None) -> Op:
    """The mean of all clients' elements, from each client's mean: weighted by `counts`, how many elements each has (equally many
    for None).

    Example:
        >>> R.federated_mean([2.0, 5.0], counts=[1, 2])
        4.0
    """
    values = _stacked(means)
    if counts is None:
        return node("ReduceMean", [values, integers(values, [0])], keepdims=0)
    parts = _parts(values, counts)
    return node("ReduceSum", [node("Mul", [values, parts]), integers(values, [0])], keepdims=0)


@operator
def federated_variance(
    variances: Sequence[Operand] | Operand,
    means: Sequence[Operand] | Operand | None = None,
    counts: Operand | None = None,
) -> Op:
    """The variance of all clients' elements, from each client's variance and mean: the mean of the variances, and the variance of
    the means, both weighted by `counts`. Without `means` the clients' means count as equal.

    Example:
        >>> R.federated_variance([1.0, 2.0], means=[2.0, 5.0], counts=[1, 2])
        3.6667
    """
    within = federated_mean(variances, counts)
    if means is None:
        return within
    values = _stacked(means)
    away = node("Sub", [values, federated_mean(values, counts)])
    return node("Add", [within, federated_mean(node("Mul", [away, away]), counts)])


@operator
def federated_standard_deviation(
    variances: Sequence[Operand] | Operand,
    means: Sequence[Operand] | Operand | None = None,
    counts: Operand | None = None,
) -> Op:
    """The standard deviation of all clients' elements: √`federated_variance`.

    Example:
        >>> R.federated_standard_deviation([1.0, 2.0], means=[2.0, 5.0], counts=[1, 2])
        1.9149
    """
    return node("Sqrt", [federated_variance(variances, means, counts)])


def _stacked(values: Sequence[Operand] | Operand) -> Op:
    """One value for each client along the first axis."""
    op = floats(values if not isinstance(values, list | tuple) else stack(*values))
    if not op.ndim or op.shape[0] == 0:
        raise ArgumentError(
            "a value for each client is needed", expected="at least one", received=list(op.shape)
        )
    return op


def _parts(values: Op, counts: Operand) -> Op:
    """Each client's part of all elements, with the axes of `values`."""
    number = common(counts, values)[0]
    if number.shape != values.shape[:1]:
        raise ShapeError(
            "each client has one count", expected=list(values.shape[:1]), received=list(number.shape)
        )
    whole = node("ReduceSum", [number], keepdims=0)
    return reshape(node("Div", [number, whole]), [-1] + [1] * (values.ndim - 1))
