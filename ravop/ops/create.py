"""Making ops from values, filled tensors, and ops of another dtype. Numbers at equal distances are in `ranges`, those
with a name in `constants`."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ravop.errors import ArgumentError, DTypeError
from ravop.graph.dtypes import FLOAT, as_array, as_dtype
from ravop.graph.graph import Graph, current_graph
from ravop.graph.op import STOP_GRADIENT, Op, Operand
from ravop.ops.arguments import make_dtype, whole, wholes
from ravop.ops.catalogue import also, as_op, creator, node, operator
from ravop.ops.catalogue import cast as to_dtype
from ravop.ops.shaping import broadcast_to, expand_like, is_static

__all__ = [
    "Scalar", "Tensor", "astype", "cast", "constant", "copy", "empty", "empty_like", "eye", "full", "full_like",
    "identity", "ones", "ones_like", "stop_gradient", "t", "zeros", "zeros_like",
]  # fmt: skip


@creator
def t(value: Operand | str, dtype: DTypeLike | None = None) -> Op:
    """`value` as an op of the current graph: a number, nested lists, an array, or JSON text of such. An op stays itself.

    Floats become float32 unless `dtype` says otherwise; integers int64. Up to 64 KiB it is a constant of the model, above
    that a graph input whose value is shipped once. Each call makes an op of its own.
    Raises `DTypeError` for anything that is not a tensor of numbers, `NoGraphError` without a graph.

    Example:
        >>> R.t("[[1, 2], [3, 4]]")
        [[1, 2], [3, 4]]
    """
    if isinstance(value, Op):
        return value if dtype is None else astype(value, dtype)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise DTypeError(
                "ravop.t makes a tensor, and this text is none: it is not JSON",
                expected="a number, (nested) lists of numbers, an array, an op, or JSON text such as '[1, 2]'",
                received=f"{reprlib.repr(value)} ({error})",
            ) from None
    return current_graph().variable(value, dtype)


constant = also("constant", t)
Scalar = also("Scalar", t)
Tensor = also("Tensor", t)


@operator
def astype(x: Operand, dtype: DTypeLike) -> Op:
    """x converted to `dtype`; floats lose their fraction when they become integers.

    Example:
        >>> R.astype([True, False], "float32")
        [1.0, 0.0]
    """
    return to_dtype(as_op(x), as_dtype(dtype))


cast = also("cast", astype)


@operator
def copy(x: Operand) -> Op:
    """x itself: ops do not change, so that no copy is needed.

    Example:
        >>> R.copy([1, 2])
        [1, 2]
    """
    return as_op(x)


@operator
def stop_gradient(x: Operand) -> Op:
    """x itself, as a constant to `ravop.grad`: nothing flows back through it.

    In the graph: an `Identity` whose node has `STOP_GRADIENT` among its `metadata_props`.

    Example:
        >>> R.stop_gradient([1, 2])
        [1, 2]
    """
    op = node("Identity", [as_op(x)])
    made = op.value.producer()
    assert made is not None
    made.metadata_props[STOP_GRADIENT] = "1"
    return op


@creator
def full(shape: int | Sequence[int], value: Operand, dtype: DTypeLike | None = None) -> Op:
    """A tensor of this shape, all elements `value`; float32 for a float, int64 for an int, bool for a bool. A tensor as value
    is broadcast to the shape.

    Example:
        >>> R.full((2, 2), 7)
        [[7, 7], [7, 7]]
    """
    if isinstance(value, int | float):
        return filled(current_graph(), shape, value, dtype)
    return broadcast_to(t(value, dtype), sizes_of(shape))


def filled(
    graph: Graph, shape: int | Sequence[int], value: float | bool, dtype: DTypeLike | None = None
) -> Op:
    """As `full`, in a graph that need not be the current one."""
    sizes = sizes_of(shape)
    filling = as_array(value, dtype)
    if filling.ndim:
        raise ArgumentError(
            "full takes one value", expected="a number", received=f"shape {list(filling.shape)}"
        )
    if math.prod(sizes) <= _SMALL:
        return graph.constant(np.full(sizes, filling))
    return graph.apply("ConstantOfShape", [graph.integers(sizes)], {"value": filling.reshape(1)})[0]


_SMALL = 16
"""Elements up to which a constant is smaller than a node that makes it."""


@creator
def zeros(shape: int | Sequence[int], dtype: DTypeLike | None = None) -> Op:
    """A tensor of zeros, float32 unless `dtype` says otherwise.

    Example:
        >>> R.zeros((2, 2))
        [[0.0, 0.0], [0.0, 0.0]]
    """
    return full(shape, 0, make_dtype(dtype, FLOAT))


@creator
def ones(shape: int | Sequence[int], dtype: DTypeLike | None = None) -> Op:
    """A tensor of ones, float32 unless `dtype` says otherwise.

    Example:
        >>> R.ones(3)
        [1.0, 1.0, 1.0]
    """
    return full(shape, 1, make_dtype(dtype, FLOAT))


@operator
def full_like(x: Operand, value: Operand, dtype: DTypeLike | None = None) -> Op:
    """A tensor of the shape and dtype of x, all elements `value`. A tensor as value is broadcast to the shape.

    Example:
        >>> R.full_like([1, 2, 3], 7)
        [7, 7, 7]
        >>> R.full_like([[1.0, 2.0], [3.0, 4.0]], [7.0, 8.0])
        [[7.0, 8.0], [7.0, 8.0]]
    """
    op = as_op(x)
    of = make_dtype(dtype, op.dtype)
    if not isinstance(value, int | float):
        return expand_like(to_dtype(as_op(value), of), op)
    if is_static(op):
        return filled(op.graph, op.static_shape, value, of)
    return expand_like(op.graph.tensor(value, of), op)


@operator
def zeros_like(x: Operand, dtype: DTypeLike | None = None) -> Op:
    """Zeros of the shape and dtype of x.

    Example:
        >>> R.zeros_like([1, 2, 3])
        [0, 0, 0]
    """
    return full_like(x, 0, dtype)


@operator
def ones_like(x: Operand, dtype: DTypeLike | None = None) -> Op:
    """Ones of the shape and dtype of x.

    Example:
        >>> R.ones_like([1, 2, 3])
        [1, 1, 1]
    """
    return full_like(x, 1, dtype)


@creator
def empty(shape: int | Sequence[int], dtype: DTypeLike | None = None) -> Op:
    """A tensor of this shape, whatever its elements: zeros here.

    Example:
        >>> R.empty(3)
        [0.0, 0.0, 0.0]
    """
    return zeros(shape, dtype)


@operator
def empty_like(x: Operand, dtype: DTypeLike | None = None) -> Op:
    """A tensor of the shape and dtype of x, whatever its elements: zeros here.

    Example:
        >>> R.empty_like([1, 2, 3])
        [0, 0, 0]
    """
    return zeros_like(x, dtype)


@creator
def eye(rows: int, columns: int | None = None, k: int = 0, dtype: DTypeLike | None = None) -> Op:
    """Ones on the diagonal of a (rows, columns) matrix of zeros, or k places right of it.

    Example:
        >>> R.eye(2, 3)
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    made = node("EyeLike", [zeros((rows, rows if columns is None else columns))], k=whole(k, "k"))
    return to_dtype(made, make_dtype(dtype, FLOAT))


@creator
def identity(n: int, dtype: DTypeLike | None = None) -> Op:
    """The (n, n) matrix with ones on the diagonal.

    Example:
        >>> R.identity(2)
        [[1.0, 0.0], [0.0, 1.0]]
    """
    return eye(n, dtype=dtype)


def sizes_of(shape: int | Sequence[int]) -> tuple[int, ...]:
    sizes = wholes(shape, "a size")
    if any(size < 0 for size in sizes):
        raise ArgumentError("a size cannot be negative", expected="0 or more", received=list(sizes))
    return sizes
