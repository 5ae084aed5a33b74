"""Along a series: running sums, differences, convolution, interpolation."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.control import scan
from ravop.graph.dtypes import BOOL, FLOAT
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import axis_of, length_of, whole
from ravop.ops.axes import at_least, moveaxis, reverse
from ravop.ops.catalogue import as_op, cast, common, floats, integers, node, operator, scalar, summands, total
from ravop.ops.compare import maximum, minimum, not_equal
from ravop.ops.create import ones_like
from ravop.ops.shaping import axis_or_flat, flatten, reshape
from ravop.ops.sorting import searchsorted

__all__ = ["convolve", "correlate", "cumprod", "cumsum", "diff", "ediff1d", "interp", "trapezoid"]

Reach = Literal["full", "same", "valid"]


@operator
def cumsum(x: Operand, axis: int | None = None) -> Op:
    """The running sum along `axis`; of the flattened x for None. Its dtype is that of `sum`.

    Example:
        >>> R.cumsum([1, 2, 3])
        [1, 3, 6]
    """
    given = as_op(x)
    op, a = axis_or_flat(summands(given), axis)
    return total(node("CumSum", [op, op.graph.tensor(a)]), given)


@operator
def cumprod(x: Operand, axis: int | None = None) -> Op:
    """The running product along `axis`; of the flattened x for None. A loop along the axis, as ONNX has no operator for it.

    Example:
        >>> R.cumprod([1, 2, 3, 4])
        [1, 2, 6, 24]
    """
    given = as_op(x)
    op, a = axis_or_flat(summands(given), axis)
    if op.shape[a] == 0:
        return total(op, given)
    steps = moveaxis(op, a, 0)
    first = ones_like(steps[0])

    def multiply(product: Op, value: Op) -> tuple[Op, Op]:
        product = node("Mul", [product, value])
        return product, product

    return total(moveaxis(scan(multiply, first, steps)[1], 0, a), given)


@operator
def diff(x: Operand, n: int = 1, axis: int = -1) -> Op:
    """The differences of neighbours along `axis`, one fewer than elements; n times over. Of booleans, whether they differ.

    Example:
        >>> R.diff([1, 4, 9, 16])
        [3, 5, 7]
    """
    op, times = as_op(x), whole(n, "n")
    a = axis_of(op, axis)
    if times < 0:
        raise ArgumentError("differences are taken so often", expected="n of 0 or more", received=n)
    for length in itertools.islice(range(length_of(op, a), 0, -1), times):
        later, earlier = (_cut(op, a, start, start + length - 1) for start in (1, 0))
        op = not_equal(later, earlier) if op.dtype == BOOL else node("Sub", [later, earlier])
    return op


def _cut(op: Op, axis: int, start: int, stop: int) -> Op:
    return node("Slice", [op, *(integers(op, [bound]) for bound in (start, stop, axis))])


@operator
def ediff1d(x: Operand) -> Op:
    """The differences of neighbours in the flattened x.

    Example:
        >>> R.ediff1d([[1, 4], [9, 16]])
        [3, 5, 7]
    """
    return diff(flatten(as_op(x)))


@operator
def trapezoid(y: Operand, x: Operand | None = None, dx: float = 1.0, axis: int = -1) -> Op:
    """The integral of y along `axis` by the trapezoidal rule: at the places x, or at distances dx.

    Example:
        >>> R.trapezoid([1, 2, 3])
        4.0
    """
    op = floats(y)
    a = axis_of(op, axis)
    length = length_of(op, a)
    middle = node("Mul", [node("Add", [_cut(op, a, 1, length), _cut(op, a, 0, length - 1)]), scalar(op, 0.5)])
    if x is None:
        parts = node("Mul", [middle, scalar(op, dx)])
    else:
        middle, places = common(middle, x)
        if places.ndim == 1:
            places = reshape(places, [-1 if n == a else 1 for n in range(op.ndim)])
        parts = node("Mul", [middle, diff(places, axis=a)])
    return node("ReduceSum", [parts, integers(op, [a])], keepdims=0)


@operator
def convolve(x: Operand, v: Operand, mode: Reach = "full") -> Op:
    """The convolution of two vectors: Σⱼ x[i − j] v[j], as `numpy.convolve`. `mode`: every overlap, as long as the longer
    ("same"), or full overlaps only ("valid").

    Example:
        >>> R.convolve([1, 2, 3], [0, 1, 0.5])
        [0.0, 1.0, 2.5, 4.0, 1.5]
    """
    return _slid(x, v, mode, turned=True)


@operator
def correlate(x: Operand, v: Operand, mode: Reach = "valid") -> Op:
    """The correlation of two vectors: Σⱼ x[i + j] v[j], as `numpy.correlate`; `mode` as in `convolve`.

    Example:
        >>> R.correlate([1, 2, 3], [0, 1, 0.5])
        [3.5]
    """
    return _slid(x, v, mode, turned=False)


def _slid(x: Operand, v: Operand, mode: str, turned: bool) -> Op:
    """By ONNX's Conv, which correlates."""
    a, b = (at_least(op, 1) for op in common(x, v))
    out = a.dtype
    if a.ndim != 1 or b.ndim != 1 or 0 in (*a.shape, *b.shape):
        raise ShapeError("two vectors are needed", expected="1 axis each, not empty",
                         received=f"{list(a.shape)} and {list(b.shape)}")  # fmt: skip
    if mode not in ("full", "same", "valid"):
        raise ArgumentError("unknown mode", expected="full, same or valid", received=repr(mode))
    n, m = length_of(a, 0), length_of(b, 0)
    swapped = n < m
    if swapped:
        a, b, n, m = b, a, m, n
    if turned:
        b = reverse(b)
    before = {"full": m - 1, "same": m // 2, "valid": 0}[mode]
    after = {"full": m - 1, "same": m - 1 - before, "valid": 0}[mode]
    wide = a.dtype if a.dtype == np.float64 else FLOAT
    image, kernel = (cast(reshape(op, (1, 1, -1)), wide) for op in (a, b))
    made = reshape(node("Conv", [image, kernel], pads=[before, after]), (-1,))
    made = reverse(made) if swapped and not turned else made
    return cast(made, out)


@operator
def interp(x: Operand, xp: Operand, fp: Operand) -> Op:
    """The values at x of the lines through the points (xp, fp), xp rising; beyond them the first and last fp.

    Example:
        >>> R.interp([0.5, 2.5], [1, 2, 3], [3, 2, 0])
        [3.0, 1.0]
    """
    op, places, values = common(x, xp, fp, at_least=FLOAT)
    if places.ndim != 1 or places.shape != values.shape:
        raise ShapeError(
            "points are two vectors of one length", expected=list(places.shape), received=list(values.shape)
        )
    count = length_of(places, 0)
    if count == 1:
        return node("Expand", [values, node("Shape", [op])]) if op.ndim else reshape(values, ())
    right = minimum(maximum(searchsorted(places, op, "right"), 1), count - 1)
    left = node("Sub", [right, scalar(right, 1)])
    (x0, x1), (y0, y1) = (
        [node("Gather", [of, at], axis=0) for at in (left, right)] for of in (places, values)
    )
    held = minimum(maximum(op, places[0]), places[-1])
    part = node("Div", [node("Sub", [held, x0]), node("Sub", [x1, x0])])
    return node("Add", [y0, node("Mul", [part, node("Sub", [y1, y0])])])
