"""Numbers at equal distances, or in equal ratios, and the grids that they span. Computed in float64, float32 when done."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.dtypes import FLOAT, as_dtype
from ravop.graph.graph import current_graph
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import make_dtype
from ravop.ops.catalogue import as_op, creator, node, operator, scalar
from ravop.ops.catalogue import cast as to_dtype
from ravop.ops.create import sizes_of
from ravop.ops.shaping import broadcast_to, reshape

__all__ = ["arange", "geomspace", "linspace", "logspace", "meshgrid"]

_DOUBLE = np.dtype(np.float64)


@creator
def arange(
    start: int | float, stop: int | float | None = None, step: int | float = 1, dtype: DTypeLike | None = None
) -> Op:
    """start, start + step, … below stop, as `numpy.arange`: int64 for integers, else float32.

    Example:
        >>> R.arange(1, 10, 3)
        [1, 4, 7]
    """
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
        made = to_dtype(_ramp(count, float(start), float(step)), FLOAT)
    return made if dtype is None else to_dtype(made, as_dtype(dtype))


@creator
def linspace(
    start: float, stop: float, num: int = 50, endpoint: bool = True, dtype: DTypeLike | None = None
) -> Op:
    """`num` numbers at equal distances from start to stop, which is the last of them with `endpoint`; float32 unless `dtype`
    says otherwise.

    Example:
        >>> R.linspace(0, 1, 5)
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    return to_dtype(_line(start, stop, num, endpoint), make_dtype(dtype, FLOAT))


def _line(start: float, stop: float, num: int, endpoint: bool) -> Op:
    (count,) = sizes_of(num)
    gaps = count - 1 if endpoint else count
    return _ramp(count, float(start), (stop - start) / gaps if gaps > 0 else 0.0)


@creator
def logspace(
    start: float,
    stop: float,
    num: int = 50,
    endpoint: bool = True,
    base: float = 10.0,
    dtype: DTypeLike | None = None,
) -> Op:
    """`base` to the power of `num` numbers at equal distances from start to stop.

    Example:
        >>> R.logspace(0, 2, 3)
        [1.0, 10.0, 100.0]
    """
    powers = _line(start, stop, num, endpoint)
    return to_dtype(node("Pow", [scalar(powers, base), powers]), make_dtype(dtype, FLOAT))


@creator
def geomspace(
    start: float, stop: float, num: int = 50, endpoint: bool = True, dtype: DTypeLike | None = None
) -> Op:
    """`num` numbers in equal ratios from start to stop, neither of them 0 and both of one sign.

    Example:
        >>> R.geomspace(1, 8, 4)
        [1.0, 2.0, 4.0, 8.0]
    """
    if start == 0 or stop == 0 or (start < 0) != (stop < 0):
        raise ArgumentError(
            "a geometric sequence does not pass zero",
            expected="start and stop of one sign, not 0",
            received=f"{start} and {stop}",
        )
    powers = _line(math.log(abs(start)), math.log(abs(stop)), num, endpoint)
    made = node("Mul", [node("Exp", [powers]), scalar(powers, math.copysign(1, start))])
    return to_dtype(made, make_dtype(dtype, FLOAT))


def _ramp(count: int, start: float, step: float) -> Op:
    """start + step · (0, 1, …, count − 1), float64."""
    steps = to_dtype(arange(count), _DOUBLE)
    return node("Add", [node("Mul", [steps, scalar(steps, step)]), scalar(steps, start)])


@operator
def meshgrid(*vectors: Operand, indexing: Literal["xy", "ij"] = "xy") -> tuple[Op, ...]:
    """The coordinates of the grid that vectors span, one op for each: the first along the second axis for "xy", as in
    pictures, and along the first for "ij".

    Example:
        >>> R.meshgrid([1, 2, 3], [4, 5])
        ([[1, 2, 3], [1, 2, 3]], [[4, 4, 4], [5, 5, 5]])
    """
    if indexing not in ("xy", "ij"):
        raise ArgumentError("unknown indexing", expected="xy or ij", received=repr(indexing))
    ops = [as_op(vector) for vector in vectors]
    if any(op.ndim > 1 for op in ops):
        raise ShapeError(
            "a grid is spanned by vectors", expected="1 axis each", received=[op.ndim for op in ops]
        )
    places = list(range(len(ops)))
    if indexing == "xy" and len(ops) > 1:
        places[:2] = [1, 0]
    counts = [op.static_shape[0] if op.ndim else 1 for op in ops]
    sizes = [counts[places.index(axis)] for axis in range(len(ops))]
    return tuple(
        broadcast_to(reshape(op, [-1 if axis == place else 1 for axis in range(len(ops))]), sizes)
        for op, place in zip(ops, places, strict=True)
    )
