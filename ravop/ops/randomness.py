"""Random numbers as a pure function of the graph's seed: the same values on every engine, machine and retry.

Stateless and counter-based, from standard integer operators: element i of a draw is a 32-bit hash of i and of
the draw's key (`ravop.graph.keys`); draws differ by op and by the iteration of the loops around it. Who wants
numbers that do not depend on the graph they are drawn in, such as a training run that is continued in another
one, gives a `random_key`. The hash is `lowbias32` (C. Wellons, "Prospecting for Hash Functions", 2018), of
which the upper bits are used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from ravop.errors import ArgumentError
from ravop.graph.dtypes import BOOL, FLOAT, INT, as_dtype
from ravop.graph.graph import Graph, graph_of
from ravop.graph.keys import KEY, draw_key, step_key
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import whole, wholes
from ravop.ops.arithmetic import add, mul, sub
from ravop.ops.catalogue import as_op, cast, creator, node
from ravop.ops.compare import less
from ravop.ops.create import filled
from ravop.protocol.tensors import Array

__all__ = ["bernoulli", "permutation", "random", "random_key", "random_normal", "random_uniform"]

Sizes = int | Sequence[int]
_COLUMNS = 1024
_SHIFT_1, _FACTOR_1, _SHIFT_2, _FACTOR_2, _SHIFT_3 = 16, 0x7FEB_352D, 15, 0x846C_A68B, 16


@creator
def random_key(seed: int, number: int, step: Operand) -> Op:
    """What a random op draws from when it is given as `key`: uint32[2], from these three alone.

    The same key gives the same numbers, in whatever graph and loop. `number` tells apart the draws of one
    step, and `step` is an int64 scalar.

    Example:
        >>> R.random_key(7, 1, 0)
        [1745263053, 954651122]
    """
    counter = as_op(step)
    return step_key(counter.graph, whole(seed, "seed"), whole(number, "number"), counter)


@creator
def random_uniform(low: Operand = 0.0, high: Operand = 1.0, size: Sizes = (), key: Op | None = None) -> Op:
    """Uniform numbers, float32, of shape `size`: from low, below high (24 random bits).

    Example:
        >>> R.random_uniform(-1, 1, size=3)
        [-0.7789, -0.3075, 0.3239]
    """
    graph = graph_of(low, high, key)
    unit = _unit(graph, _sizes(size), key)
    if type(low) in (int, float) and low == 0:
        return unit if type(high) in (int, float) and high == 1 else mul(unit, high)
    return add(mul(unit, sub(high, low)), low)


@creator
def random(size: Sizes = (), key: Op | None = None) -> Op:
    """Uniform numbers in [0, 1), float32, of shape `size`.

    Example:
        >>> R.random(size=3)
        [0.1105, 0.3462, 0.662]
    """
    return random_uniform(size=size, key=key)


@creator
def random_normal(mean: Operand = 0.0, std: Operand = 1.0, size: Sizes = (), key: Op | None = None) -> Op:
    """Normal numbers, float32, of shape `size`, by Box and Muller (1958); none lies beyond 5.8 standard
    deviations.

    Example:
        >>> R.random_normal(size=3)
        [-1.1026, 1.4557, -1.7857]
        >>> R.random_normal(mean=[0.0, 9.0, 0.0], std=2.0, size=3)
        [-2.2053, 11.9113, -3.5715]
    """
    graph = graph_of(mean, std, key)
    sizes = _sizes(size)
    count = math.prod(sizes)
    half = (count + 1) // 2
    bits = cast(_right(_hash(graph, 2 * half, key), 8), FLOAT)
    first, second = graph.apply("Split", [bits, graph.integers([half, half])], {"axis": 0})
    logarithm = node("Log", [mul(add(first, 1.0), 2.0**-24)])
    radius = node("Sqrt", [mul(logarithm, -2.0)])
    angle = mul(second, 2 * math.pi * 2.0**-24)
    numbers = node("Concat", [mul(radius, node("Cos", [angle])), mul(radius, node("Sin", [angle]))], axis=0)
    made = _formed(numbers, 2 * half, sizes)
    made = made if type(std) in (int, float) and std == 1 else mul(made, std)
    return made if type(mean) in (int, float) and mean == 0 else add(made, mean)


@creator
def bernoulli(
    p: Operand = 0.5,
    size: Sizes = (),
    dtype: DTypeLike = BOOL,
    key: Op | None = None,
    part: tuple[int, int] | None = None,
) -> Op:
    """True, or 1 of another dtype, with probability p (a number, or an op that broadcasts to `size`), else
    false.

    With `part` = (start, total), and p a number: those elements of a draw of `total` that begin at `start`, all of them
    laid out in a row, and only they are computed.

    Example:
        >>> R.bernoulli(0.5, size=4)
        [True, True, False, True]
    """
    graph = graph_of(p, key)
    wanted = as_dtype(dtype)
    sizes = _sizes(size)
    start, total = (0, math.prod(sizes)) if part is None else part
    if not 0 <= start <= total - math.prod(sizes):
        raise ArgumentError(
            "the draw has no such part",
            expected=f"{math.prod(sizes)} elements from start on, of total",
            received=f"part={part}",
        )
    if not isinstance(p, int | float):
        if part is not None:
            raise ArgumentError("a part is drawn with one probability", expected="a number", received=repr(p))
        return cast(less(_unit(graph, sizes, key), p), wanted)
    if not 0 <= p <= 1:
        raise ArgumentError("p is a probability", expected="0 to 1", received=p)
    threshold = round(p * 2**32)
    if threshold == 2**32:
        return filled(graph, sizes, 1, wanted)
    chosen = node("Less", [_hash(graph, math.prod(sizes), key, start, total), _word(graph, threshold)])
    return cast(_formed(chosen, math.prod(sizes), sizes), wanted)


@creator
def permutation(n: int, key: Op | None = None) -> Op:
    """0, 1, …, n − 1 in random order, int64.

    Example:
        >>> R.permutation(5)
        [3, 0, 4, 1, 2]
    """
    (count,) = _sizes(n)
    graph = graph_of(key)
    keys = cast(_right(_hash(graph, count, key), 1), INT)
    return graph.apply("TopK", [keys, graph.integers([count])], {"axis": 0, "largest": 0})[1]


def _sizes(size: Sizes) -> tuple[int, ...]:
    sizes = wholes(size, "a size")
    if any(s < 1 for s in sizes):
        raise ArgumentError(
            "random ops need at least one element", expected="sizes of 1 or more", received=list(sizes)
        )
    return sizes


def _unit(graph: Graph, sizes: tuple[int, ...], key: Op | None) -> Op:
    """Uniform in [0, 1)."""
    count = math.prod(sizes)
    bits = cast(_right(_hash(graph, count, key), 8), FLOAT)
    return _formed(mul(bits, 2.0**-24), count, sizes)


def _formed(op: Op, count: int, sizes: tuple[int, ...]) -> Op:
    """The first elements of a vector, in the shape `sizes`."""
    wanted = math.prod(sizes)
    if wanted != count:
        op = op[:wanted]
    return op if op.shape == sizes else node("Reshape", [op, op.graph.integers(sizes)])


def _hash(graph: Graph, count: int, key: Op | None, start: int = 0, total: int = 0) -> Op:
    """`count` hashes, uint32, of a draw with this key, or with a new one: those from `start` on, of `total` when that
    is more than `count`.

    Counters are pairs of row and column, whose words are combined with the key's before the sums are hashed:
    per element only the last steps are computed. The last step of the hash is left out, as it touches the
    lower bits only.
    """
    columns = min(max(count, total), _COLUMNS)
    above = start // columns
    rows = -(-(start + count) // columns) - above
    start -= above * columns
    first, second = graph.apply(
        "Split", [draw_key(graph) if key is None else key, graph.integers([1, 1])], {"axis": 0}
    )
    across = node("BitwiseXor", [graph.constant(_words(np.arange(columns))), first])
    down = node("BitwiseXor", [_counters(graph, above, rows), second])
    x = (
        node("Add", [node("Reshape", [down, graph.integers([rows, 1])]), across])
        if rows > 1
        else node("Add", [down, across])
    )
    x = node("BitwiseXor", [x, _right(x, _SHIFT_1)])
    x = node("Mul", [x, _word(graph, _FACTOR_1)])
    x = node("BitwiseXor", [x, _right(x, _SHIFT_2)])
    x = node("Mul", [x, _word(graph, _FACTOR_2)])
    if rows > 1:
        x = node("Reshape", [x, graph.integers([rows * columns])])
    return x if rows * columns == count else x[start : start + count]


def _counters(graph: Graph, first: int, count: int) -> Op:
    """Hashes of 2³¹ + first, 2³¹ + first + 1, …, uint32: a constant, or computed where that would be large."""
    start = 2**31 + first
    if count <= _COLUMNS:
        return graph.constant(_words(np.arange(start, start + count)))
    numbers = [graph.constant(np.array(n, dtype=np.int64)) for n in (start, start + count, 1)]
    x = cast(graph.apply("Range", numbers)[0], KEY)
    for shift, factor in ((_SHIFT_1, _FACTOR_1), (_SHIFT_2, _FACTOR_2)):
        x = node("Mul", [node("BitwiseXor", [x, _right(x, shift)]), _word(graph, factor)])
    return node("BitwiseXor", [x, _right(x, _SHIFT_3)])


def _words(counters: Array) -> Array:
    """`lowbias32` of each."""
    x = counters.astype(KEY)
    x = (x ^ (x >> np.uint32(_SHIFT_1))) * np.uint32(_FACTOR_1)
    x = (x ^ (x >> np.uint32(_SHIFT_2))) * np.uint32(_FACTOR_2)
    return x ^ (x >> np.uint32(_SHIFT_3))


def _right(x: Op, bits: int) -> Op:
    return node("BitShift", [x, _word(x.graph, bits)], direction="RIGHT")


def _word(graph: Graph, value: int) -> Op:
    return graph.constant(np.array([value], dtype=KEY))
