"""Making ops from values, and ops of another dtype."""

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
from ravop.ops.catalogue import also, as_op, creator, make_dtype, node, operator, wholes
from ravop.ops.catalogue import cast as to_dtype

__all__ = [
    "Scalar", "Tensor", "arange", "astype", "cast", "epsilon", "eye", "full", "full_like", "inf", "linspace", "minus_one",
    "one", "ones", "ones_like", "pi", "stop_gradient", "t", "zeros", "zeros_like",
]  # fmt: skip


@creator
def t(value: Operand | str, dtype: DTypeLike | None = None) -> Op:
    """`value` as an op of the current graph: a number, nested lists, an array, or JSON text of such. An op stays itself.

    Floats become float32 unless `dtype` says otherwise; integers int64. Up to 64 KiB it is a constant of the model, above
    that a graph input whose value is shipped once. Each call makes an op of its own.
    Raises `DTypeError` for anything that is not a tensor of numbers, `NoGraphError` without a graph.
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


Scalar = also("Scalar", t)
Tensor = also("Tensor", t)


@operator
def astype(x: Operand, dtype: DTypeLike) -> Op:
    """x converted to `dtype`; floats lose their fraction when they become integers."""
    return to_dtype(as_op(x), as_dtype(dtype))


cast = astype


@operator
def stop_gradient(x: Operand) -> Op:
    """x itself, as a constant to `ravop.grad`: nothing flows back through it.

    In the graph: an `Identity` whose node has `STOP_GRADIENT` among its `metadata_props`.
    """
    op = node("Identity", [as_op(x)])
    made = op.value.producer()
    assert made is not None
    made.metadata_props[STOP_GRADIENT] = "1"
    return op


@creator
def full(shape: int | Sequence[int], value: float | bool, dtype: DTypeLike | None = None) -> Op:
    """A tensor of this shape, all elements `value`; float32 for a float, int64 for an int, bool for a bool."""
    return filled(current_graph(), shape, value, dtype)


def filled(
    graph: Graph, shape: int | Sequence[int], value: float | bool, dtype: DTypeLike | None = None
) -> Op:
    """As `full`, in a graph that need not be the current one."""
    sizes = _sizes(shape)
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
    """A tensor of zeros, float32 unless `dtype` says otherwise."""
    return full(shape, 0, make_dtype(dtype, FLOAT))


@creator
def ones(shape: int | Sequence[int], dtype: DTypeLike | None = None) -> Op:
    """A tensor of ones, float32 unless `dtype` says otherwise."""
    return full(shape, 1, make_dtype(dtype, FLOAT))


@operator
def full_like(x: Operand, value: float | bool, dtype: DTypeLike | None = None) -> Op:
    """A tensor of the shape and dtype of x, all elements `value`."""
    op = as_op(x)
    return filled(op.graph, op.static_shape, value, make_dtype(dtype, op.dtype))


@operator
def zeros_like(x: Operand, dtype: DTypeLike | None = None) -> Op:
    """Zeros of the shape and dtype of x."""
    return full_like(x, 0, dtype)


@operator
def ones_like(x: Operand, dtype: DTypeLike | None = None) -> Op:
    """Ones of the shape and dtype of x."""
    return full_like(x, 1, dtype)


@creator
def eye(rows: int, columns: int | None = None, dtype: DTypeLike | None = None) -> Op:
    """Ones on the diagonal of a (rows, columns) matrix of zeros."""
    made = node("EyeLike", [zeros((rows, rows if columns is None else columns))])
    return to_dtype(made, make_dtype(dtype, FLOAT))


@creator
def arange(
    start: int | float, stop: int | float | None = None, step: int | float = 1, dtype: DTypeLike | None = None
) -> Op:
    """start, start + step, … below stop, as `numpy.arange`: int64 for integers, else float32."""
    if stop is None:
        start, stop = 0, start
    if not step:
        raise ArgumentError("arange needs a step", expected="a number that is not 0", received=step)
    whole = all(isinstance(v, int | np.integer) for v in (start, stop, step))
    graph = current_graph()
    if whole:
        made = graph.apply(
            "Range", [graph.constant(np.array(int(v), dtype=np.int64)) for v in (start, stop, step)]
        )[0]
    else:
        count = max(0, math.ceil((stop - start) / step))
        made = _ramp(count, float(start), float(step))
    return made if dtype is None else to_dtype(made, as_dtype(dtype))


@creator
def linspace(start: float, stop: float, num: int = 50, dtype: DTypeLike | None = None) -> Op:
    """`num` numbers at equal distances from start to stop, both included; float32 unless `dtype` says otherwise."""
    (count,) = _sizes(num)
    step = (stop - start) / (count - 1) if count > 1 else 0.0
    return to_dtype(_ramp(count, float(start), step), make_dtype(dtype, FLOAT))


def _ramp(count: int, start: float, step: float) -> Op:
    """start + step · (0, 1, …, count − 1), computed in float64."""
    graph = current_graph()
    steps = to_dtype(arange(count), np.dtype(np.float64))
    scaled = node("Mul", [steps, graph.constant(np.array(step, dtype=np.float64))])
    return to_dtype(node("Add", [scaled, graph.constant(np.array(start, dtype=np.float64))]), FLOAT)


def _sizes(shape: int | Sequence[int]) -> tuple[int, ...]:
    sizes = wholes(shape, "a size")
    if any(size < 0 for size in sizes):
        raise ArgumentError("a size cannot be negative", expected="0 or more", received=list(sizes))
    return sizes


@creator
def epsilon(dtype: DTypeLike | None = None) -> Op:
    """1e-12, Raven's smallest number to divide by."""
    return t(1e-12, dtype)


@creator
def one() -> Op:
    """1, int64."""
    return t(1)


@creator
def minus_one() -> Op:
    """−1, int64."""
    return t(-1)


@creator
def inf() -> Op:
    """Infinity, float32."""
    return t(math.inf)


@creator
def pi() -> Op:
    """π, float32."""
    return t(math.pi)
