"""One-sided Jacobi sweeps: rotations that make the columns of matrices orthogonal to each other (Hestenes 1958).

All pairs of one round of a tournament are rotated at once (Brent and Luk 1985): the columns lie in two rows, opposite ones
meet, and after each round all but one move on by one place, so that after n − 1 rounds every pair has met and each column
is back in its place. Sweeps go on until all columns are orthogonal, as a `while_loop`.
"""

from __future__ import annotations

import math

import numpy as np

from ravop.graph.branches import while_loop
from ravop.graph.control import indices, scan
from ravop.graph.op import Op
from ravop.ops.arithmetic import abs
from ravop.ops.catalogue import node, scalar
from ravop.ops.compare import greater, greater_equal, maximum, where
from ravop.ops.elementary import sqrt
from ravop.ops.linalg.matrices import epsilon, turned, unit
from ravop.ops.linalg.products import matmul
from ravop.ops.padding import pad
from ravop.ops.reduction import max, sum
from ravop.ops.shaping import broadcast_to, concat

MAX_SWEEPS = 40
"""Six to ten are usual; convergence is quadratic."""


def orthogonalise(a: Op) -> Op:
    """The orthogonal V (B, n, n) that makes the columns of a V orthogonal, for a batch a (B, m, n)."""
    count, m, n = a.static_shape
    rotations = broadcast_to(unit(a, n), (count, n, n))
    if n == 1:
        return rotations
    stacked = concat([a, rotations], axis=1)  # (B, m + n, n): both get the same rotations
    if n % 2:
        stacked = pad(stacked, [(0, 0), (0, 0), (0, 1)])  # a column of zeros is never rotated
    players = n + n % 2
    tolerance = math.sqrt(epsilon(a)) * 0.1  # one sweep later it is squared

    def sweep(state: tuple[Op, Op]) -> tuple[Op, Op]:
        (columns, worst), _ = scan(
            lambda carry, _: (_round(carry[0], carry[1], m), None),
            (state[0], scalar(a, 0)),
            indices(a.graph, players - 1),
        )
        return columns, worst

    columns, _ = while_loop(
        lambda state: greater(state[1], tolerance), sweep, (stacked, scalar(a, 1)), max_iterations=MAX_SWEEPS
    )
    rotations = columns[:, m:, :n]
    # what rounding took from orthogonality is given back by one step of Newton and Schulz
    return rotations * 1.5 - matmul(rotations, matmul(turned(rotations), rotations)) * 0.5  # type: ignore[no-any-return]


def _round(columns: Op, worst: Op, m: int) -> tuple[Op, Op]:
    """Rotate all pairs of opposite columns, and move on. `worst` is the largest cosine between columns so far."""
    left, right = _halves(columns)
    lower, upper = left[:, :m], right[:, :m]
    a, b, c = (sum(x * y, 1, keepdims=True) for x, y in ((lower, lower), (upper, upper), (lower, upper)))
    size = sqrt(a) * sqrt(b)
    turning = greater(abs(c), size * epsilon(columns))
    one = scalar(columns, 1)
    cosine = where(turning, abs(c) / where(turning, size, one), scalar(columns, 0))
    zeta = (b - a) / where(turning, 2 * c, one)
    tangent = where(greater_equal(zeta, 0), one, -one) / (abs(zeta) + sqrt(1 + zeta * zeta))
    tangent = where(turning, tangent, scalar(columns, 0))
    cos = 1 / sqrt(1 + tangent * tangent)
    sin = cos * tangent
    turned = concat([cos * left - sin * right, sin * left + cos * right], axis=2)
    moved = node("Gather", [turned, columns.graph.tensor(_order(columns.static_shape[2]))], axis=2)
    return moved, maximum(worst, max(cosine))


def _halves(columns: Op) -> tuple[Op, Op]:
    half = columns.static_shape[2] // 2
    return columns[:, :, :half], columns[:, :, half:]


def _order(players: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Where each column comes from for the next round: column 0 stays, the others move on around the two rows."""
    half = players // 2
    ring = [*range(1, half), *range(players - 1, half - 1, -1)]
    order = np.zeros(players, dtype=np.int64)
    for place, source in zip(ring, ring[-1:] + ring[:-1], strict=True):
        order[place] = source
    return order
