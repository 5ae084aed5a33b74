"""Products of matrices, vectors and tensors, with NumPy's names and meaning."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Any

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.infer import Dim
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import axis_of, length_of, lengths_of, whole, wholes
from ravop.ops.arithmetic import mul
from ravop.ops.catalogue import as_op, common, exact, integers, node, numbers, operator
from ravop.ops.linalg.matrices import formed

__all__ = [
    "cross", "dot", "inner", "kron", "matmul", "multi_dot", "outer", "tensordot", "vdot",
]  # fmt: skip


@operator
def matmul(a: Operand, b: Operand) -> Op:
    """The matrix product of (…, n, k) and (…, k, m), batches broadcast, as NumPy's `@`; vectors as well.

    Example:
        >>> R.matmul([[1, 2], [3, 4]], [[0, 1], [1, 0]])
        [[2, 1], [4, 3]]
    """
    x, y = common(a, b)
    if not x.ndim or not y.ndim:
        raise ShapeError("matmul needs matrices or vectors", expected="at least 1 axis",
            received=f"{list(x.shape)} and {list(y.shape)}",
                         hint="multiply by a scalar with *")  # fmt: skip
    return _product(x, y)


def _product(x: Op, y: Op) -> Op:
    """The matrix product; a vector behind a matrix becomes a matrix of one column, as ONNX Runtime's fusion of a transposed
    matrix with the product gets vectors wrong (1.31)."""
    lengths = {x.shape[-1], y.shape[0]}
    wrong = len(lengths) == 2 and all(isinstance(length, int) for length in lengths)
    if x.ndim == 1 or y.ndim > 1 or wrong:  # the error is to tell the shapes that were given
        return exact("MatMul", [x, y])
    last = integers(y, [-1])
    return node("Squeeze", [exact("MatMul", [x, node("Unsqueeze", [y, last])]), last])


@operator
def dot(a: Operand, b: Operand) -> Op:
    """NumPy's dot: the sum over the last axis of a and the last but one of b; a product where one is a scalar.

    Example:
        >>> R.dot([1, 2, 3], [4, 5, 6])
        32
    """
    x, y = common(a, b)
    if not x.ndim or not y.ndim:
        return mul(x, y)
    if (x.ndim <= 2 and y.ndim <= 2) or y.ndim == 1:
        return _product(x, y)
    if x.shape[-1] != y.shape[-2]:
        raise ShapeError(
            "dot sums over axes of equal length", expected=f"(…, {x.shape[-1]}, m)", received=list(y.shape)
        )
    letters = string.ascii_lowercase
    left, right = letters[: x.ndim - 1], letters[x.ndim - 1 : x.ndim + y.ndim - 2]
    return exact("Einsum", [x, y], equation=f"{left}z,{right[:-1]}z{right[-1]}->{left}{right}")


@operator
def vdot(a: Operand, b: Operand) -> Op:
    """The dot product of all elements of a with all of b, laid out in a row.

    Example:
        >>> R.vdot([[1, 2], [3, 4]], [[1, 0], [0, 1]])
        5
    """
    x, y = (_row(op) for op in common(a, b))
    return exact("MatMul", [x, y])


@operator
def inner(a: Operand, b: Operand) -> Op:
    """The sum of products over the last axes: (…, k) and (…, k) give the axes of a, then those of b.

    Example:
        >>> R.inner([[1, 2], [3, 4]], [1, 1])
        [3, 7]
    """
    x, y = common(a, b)
    return tensordot(x, y, ((-1,), (-1,))) if x.ndim and y.ndim else mul(x, y)


@operator
def outer(a: Operand, b: Operand) -> Op:
    """All products of an element of a with one of b, each laid out in a row: (size of a, size of b).

    Example:
        >>> R.outer([1, 2], [3, 4, 5])
        [[3, 4, 5], [6, 8, 10]]
    """
    x, y = (_row(op) for op in common(a, b))
    return mul(node("Unsqueeze", [x, integers(x, [1])]), node("Unsqueeze", [y, integers(y, [0])]))


@operator
def tensordot(a: Operand, b: Operand, axes: int | Sequence[Any] = 2) -> Op:
    """The sum of products over pairs of axes, as NumPy: the last `axes` of a with the first of b, or (axes of a, axes of b).

    One matrix product of the tensors folded up. Raises `ShapeError` where a pair of axes differs in length.

    Example:
        >>> R.tensordot([[1, 2], [3, 4]], [[1, 0], [0, 1]])
        5
    """
    x, y = common(a, b)
    left, right = _axis_pairs(x, y, axes)
    pairs = list(zip(lengths_of(x, left), lengths_of(y, right), strict=True))
    if any(one != other for one, other in pairs):
        raise ShapeError(
            "tensordot sums over axes of equal length", expected="equal lengths in each pair", received=pairs
        )
    x_rest = [axis for axis in range(x.ndim) if axis not in left]
    y_rest = [axis for axis in range(y.ndim) if axis not in right]
    length = math.prod(one for one, _ in pairs)
    rows, columns = ([op.shape[axis] for axis in rest] for op, rest in ((x, x_rest), (y, y_rest)))
    folded = exact(
        "MatMul",
        [
            formed(_permuted(x, [*x_rest, *left]), [_count(rows), length]),
            formed(_permuted(y, [*right, *y_rest]), [length, _count(columns)]),
        ],
    )
    return formed(folded, [*rows, *columns])


def _count(lengths: Sequence[Dim]) -> Dim:
    known = [length for length in lengths if isinstance(length, int)]
    return math.prod(known) if len(known) == len(lengths) else None


def _axis_pairs(x: Op, y: Op, axes: int | Sequence[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(axes, Sequence):
        if len(axes) != 2:
            raise ArgumentError("axes are a pair", expected="(axes of a, axes of b)", received=axes)
        left = tuple(axis_of(x, axis) for axis in wholes(axes[0], "an axis"))
        right = tuple(axis_of(y, axis) for axis in wholes(axes[1], "an axis"))
    else:
        count = whole(axes, "axes")
        if not 0 <= count <= min(x.ndim, y.ndim):
            raise ArgumentError(
                "there are not so many axes", expected=f"0 to {min(x.ndim, y.ndim)}", received=count
            )
        left, right = tuple(range(x.ndim - count, x.ndim)), tuple(range(count))
    if len(left) != len(right) or len(set(left)) < len(left) or len(set(right)) < len(right):
        raise ArgumentError(
            "the axes do not pair up", expected="as many different axes of a as of b", received=axes
        )
    return left, right


@operator
def kron(a: Operand, b: Operand) -> Op:
    """The Kronecker product: each element of a times all of b, in blocks; the shorter shape gets axes of 1 in front.

    Example:
        >>> R.kron([1, 10], [[1, 2], [3, 4]])
        [[1, 2, 10, 20], [3, 4, 30, 40]]
    """
    x, y = common(a, b)
    ndim = max(x.ndim, y.ndim)
    left, right = ([1] * (ndim - op.ndim) + list(op.static_shape) for op in (x, y))
    spread = mul(
        formed(x, [size for dim in left for size in (dim, 1)]),
        formed(y, [size for dim in right for size in (1, dim)]),
    )
    return formed(spread, [one * other for one, other in zip(left, right, strict=True)])


@operator
def cross(a: Operand, b: Operand, axis: int = -1) -> Op:
    """The cross product of vectors of three elements along `axis`; the other axes broadcast.

    Example:
        >>> R.cross([1, 0, 0], [0, 1, 0])
        [0, 0, 1]
    """
    x, y = (numbers(op) for op in common(a, b))
    for op in (x, y):
        if not op.ndim or op.shape[axis_of(op, axis)] != 3:
            raise ShapeError("a cross product takes vectors of three elements", expected=f"3 along axis {axis}",
                             received=f"{list(x.shape)} and {list(y.shape)}")  # fmt: skip
    (x1, x2), (y1, y2) = ([_rolled(op, order, axis) for order in ([1, 2, 0], [2, 0, 1])] for op in (x, y))
    return node("Sub", [node("Mul", [x1, y2]), node("Mul", [x2, y1])])


def _rolled(op: Op, order: list[int], axis: int) -> Op:
    return node("Gather", [op, integers(op, order)], axis=axis_of(op, axis))


@operator
def multi_dot(*tensors: Any) -> Op:
    """The product of several matrices, in the order of fewest multiplications; the first and last may be vectors.

    By dynamic programming over the chain (Cormen et al., Introduction to Algorithms, 15.2). Takes the matrices one by one,
    or a list of them.

    Example:
        >>> R.multi_dot([[1, 2]], [[3], [4]], [[5, 6]])
        [[55, 66]]
    """
    given = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], list | tuple) else list(tensors)
    if len(given) < 2:
        raise ArgumentError("multi_dot multiplies two matrices or more", received=f"{len(given)}")
    ops = [as_op(tensor) for tensor in given]
    first, last = ops[0].ndim == 1, ops[-1].ndim == 1
    ops[0] = node("Unsqueeze", [ops[0], integers(ops[0], [0])]) if first else ops[0]
    ops[-1] = node("Unsqueeze", [ops[-1], integers(ops[-1], [1])]) if last else ops[-1]
    if any(op.ndim != 2 for op in ops):
        raise ShapeError("multi_dot multiplies matrices", expected="2 axes each; 1 for the first and the last",
                         received=[list(op.shape) for op in ops])  # fmt: skip
    product = _chain(
        ops, _best_cuts([length_of(op, 0) for op in ops] + [length_of(ops[-1], 1)]), 0, len(ops) - 1
    )
    dropped = [axis for axis, is_vector in ((0, first), (1, last)) if is_vector]
    return node("Squeeze", [product, integers(product, dropped)]) if dropped else product


def _best_cuts(sizes: list[int]) -> dict[tuple[int, int], int]:
    """For each chain i…j of matrices sizes[i] × sizes[i + 1], after which matrix to cut it."""
    count = len(sizes) - 1
    cost = {(i, i): 0 for i in range(count)}
    cuts = {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            cost[i, j], cuts[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)
            )
    return cuts


def _chain(ops: list[Op], cuts: dict[tuple[int, int], int], i: int, j: int) -> Op:
    if i == j:
        return ops[i]
    cut = cuts[i, j]
    return matmul(_chain(ops, cuts, i, cut), _chain(ops, cuts, cut + 1, j))


def _row(op: Op) -> Op:
    return op if op.ndim == 1 else node("Reshape", [op, integers(op, [-1])])


def _permuted(op: Op, order: Sequence[int]) -> Op:
    return op if list(order) == list(range(op.ndim)) else node("Transpose", [op], perm=list(order))
