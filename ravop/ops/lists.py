"""Raven's operators on lists, and applying an operator to each element."""

from __future__ import annotations

from collections.abc import Callable

from ravop.errors import ArgumentError
from ravop.graph.control import scan
from ravop.graph.dtypes import INT
from ravop.graph.op import CATALOGUE, Op, Operand
from ravop.ops.catalogue import as_op, cast, operator
from ravop.ops.shaping import concat, flatten, stack

__all__ = ["combine_to_list", "foreach", "join_to_list", "ravint"]


@operator
def foreach(x: Operand, operation: str | Callable[[Op], Op]) -> Op:
    """The results of an operator, by name or as a function, on each element along the first axis of x, stacked."""
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
    """Tensors of one shape as the elements of a new first axis."""
    return stack(*tensors)


@operator
def join_to_list(a: Operand, b: Operand) -> Op:
    """The elements of a and then of b, as a vector, as `numpy.append`."""
    return concat(flatten(a), flatten(b))


@operator
def ravint(x: Operand) -> Op:
    """x as int64, without fractions."""
    return cast(as_op(x), INT)
