"""Raven's operators on lists, and applying an operator to each element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ravop.errors import ArgumentError
from ravop.graph.control import scan
from ravop.graph.dtypes import INT
from ravop.graph.op import CATALOGUE, Op, Operand
from ravop.ops.catalogue import as_op, cast, common, node, operator
from ravop.ops.indexing import index
from ravop.ops.shaping import broadcast_to, concat, flatten, reshape, stack

__all__ = ["cnn_add_at", "cnn_index", "cnn_index_2", "combine_to_list", "foreach", "join_to_list", "ravint"]


@operator
def foreach(x: Operand, operation: str | Callable[[Op], Op]) -> Op:
    """The results of an operator, by name or as a function, on each element along the first axis of x, stacked.

    Example:
        >>> R.foreach([[1, 2], [3, 4]], "sum")
        [3, 7]
    """
    function = CATALOGUE.get(operation) if isinstance(operation, str) else operation
    if function is None:
        raise ArgumentError(
            "there is no such operator",
            expected="the name of an operator, or a function",
            received=repr(operation),
        )
    _, results = scan(lambda _, element: (None, function(element)), None, as_op(x))
    return results  # type: ignore[no-any-return]


@operator
def combine_to_list(*tensors: Operand) -> Op:
    """Tensors of one shape as the elements of a new first axis.

    Example:
        >>> R.combine_to_list([1, 2], [3, 4])
        [[1, 2], [3, 4]]
    """
    return stack(*tensors)


@operator
def join_to_list(a: Operand, b: Operand) -> Op:
    """The elements of a and then of b, as a vector, as `numpy.append`.

    Example:
        >>> R.join_to_list([1, 2], [3])
        [1, 2, 3]
    """
    return concat(flatten(a), flatten(b))


@operator
def ravint(x: Operand) -> Op:
    """x as int64, without fractions.

    Example:
        >>> R.ravint([1.5, -1.5])
        [1, -1]
    """
    return cast(as_op(x), INT)


@operator
def cnn_index(x: Operand, channels: Operand, rows: Operand, columns: Operand) -> Op:
    """x[:, channels, rows, columns] of images (N, C, H, W): the columns of a convolution, from the indices of its windows.

    Example:
        >>> R.cnn_index(np.arange(8).reshape(1, 2, 2, 2), [0, 1], [0, 0], [1, 1])
        [[1, 5]]
    """
    return index(x, np.s_[:, _place(channels), _place(rows), _place(columns)])


@operator
def cnn_index_2(x: Operand, top: int, bottom: int, left: int, right: int) -> Op:
    """x[:, :, top:bottom, left:right] of images (N, C, H, W): what is left of them without their padding.

    Example:
        >>> R.cnn_index_2(np.arange(9).reshape(1, 1, 3, 3), 1, 3, 0, 2)
        [[[[3, 4], [6, 7]]]]
    """
    return index(x, np.s_[:, :, top:bottom, left:right])


@operator
def cnn_add_at(x: Operand, values: Operand, channels: Operand, rows: Operand, columns: Operand) -> Op:
    """x with `values` added at [:, channels, rows, columns], as often as a place is named: the reverse of `cnn_index`.

    Example:
        >>> R.cnn_add_at(np.zeros((1, 1, 2, 2)), [[1, 2]], [0, 0], [1, 1], [0, 0])
        [[[[0.0, 0.0], [3.0, 0.0]]]]
    """
    op, added = common(x, values)
    places = reshape(op.graph.tensor(np.arange(np.prod(op.static_shape))), op.static_shape)
    chosen = cnn_index(places, channels, rows, columns)
    new = broadcast_to(added, chosen.static_shape)
    flat = node("ScatterElements", [flatten(op), flatten(chosen), flatten(new)], axis=0, reduction="add")
    return reshape(flat, op.static_shape)


def _place(value: Operand) -> Any:
    """An index as `x[...]` takes it: a constant stays one, so that it is checked."""
    return value if not isinstance(value, Op) or value.constant is None else value.constant
