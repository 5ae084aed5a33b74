"""The minimum of a convex loss of linear predictions, by a truncated Newton method.

½ Σ penalty · W² + C · Σ loss(X W), W (p, k). Each step solves for Newton's direction by conjugate gradients (Nocedal and Wright,
Numerical Optimization, 7.1), preconditioned with the Hessian's diagonal, which needs products with X only; then the best of
some step lengths is taken, which costs no product with X, as predictions are linear. No step makes the loss larger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ravop.graph.branches import while_loop
from ravop.graph.op import Op
from ravop.ops.arithmetic import abs
from ravop.ops.catalogue import scalar
from ravop.ops.compare import maximum, where
from ravop.ops.create import filled
from ravop.ops.linalg import matmul
from ravop.ops.linalg.matrices import epsilon
from ravop.ops.reduction import argmin, max, sum
from ravop.ops.shaping import stack

STEP_LENGTHS = [1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 0.001]


class Loss(NamedTuple):
    """A loss of predictions z (…, n, k): its sum over samples and columns, and its derivatives by z."""

    total: Callable[[Op], Op]
    """(…, n, k) → (…)"""
    slope: Callable[[Op], Op]
    """First derivatives (n, k)."""
    curve: Callable[[Op, Op], Op]
    """(z, v) → the second derivative times v, (n, k)."""
    diagonal: Callable[[Op], Op]
    """Second derivatives by each element alone, (n, k)."""


def minimise(x: Op, columns: int, penalty: Op, c: float, loss: Loss, max_iter: int) -> Op:
    """W (p, columns) for x (n, p) and `penalty` (p, 1), starting at 0."""
    tiny = 10 * epsilon(x)
    xt = x.T

    def gradient(w: Op, z: Op) -> Op:
        return penalty * w + c * matmul(xt, loss.slope(z))

    def value(w: Op, z: Op) -> Op:
        return c * loss.total(z) + 0.5 * sum(penalty * w * w, (-2, -1))

    def direction(z: Op, g: Op) -> Op:
        scale = penalty + c * matmul(xt * xt, loss.diagonal(z))
        scale = maximum(scale, max(scale) * tiny)

        def going(state: tuple[Op, ...]) -> Op:
            return state[3] > energy * 1e-6

        def step(state: tuple[Op, ...]) -> tuple[Op, ...]:
            v, r, p, rz = state
            hp = penalty * p + c * matmul(xt, loss.curve(z, matmul(x, p)))
            curvature = sum(p * hp)
            length = where(curvature > 0, rz / curvature, scalar(v, 0))
            v, r = v + length * p, r - length * hp
            preconditioned = r / scale
            new = sum(r * preconditioned)
            return v, r, preconditioned + (new / rz) * p, where(curvature > 0, new, scalar(v, 0))

        r = -g
        start = r / scale
        energy = sum(r * start)
        none = filled(x.graph, g.static_shape, 0, g.dtype)
        found: Op = while_loop(
            going, step, (none, r, start, energy), max_iterations=4 * x.static_shape[1] + 20
        )[0]
        return found

    def improve(state: tuple[Op, Op, Op]) -> tuple[Op, Op, Op]:
        w, z, last = state
        d = direction(z, gradient(w, z))
        moved = matmul(x, d)
        lengths = x.graph.tensor(STEP_LENGTHS, x.dtype)
        values = stack([value(w + a * d, z + a * moved) for a in STEP_LENGTHS])
        best = lengths[argmin(values)]
        now = values[argmin(values)]
        better = now < last
        best = where(better, best, scalar(x, 0))
        # what was gained relative to the loss tells whether to go on
        gained = where(better, last - now, scalar(x, 0))
        return w + best * d, z + best * moved, where(gained > tiny * 0.1 * abs(now), now, scalar(x, -1))

    start = filled(x.graph, (x.static_shape[1], columns), 0, x.dtype)
    z = filled(x.graph, (x.static_shape[0], columns), 0, x.dtype)
    w, _, _ = while_loop(
        lambda state: state[2] >= 0, improve, (start, z, value(start, z) * 1.0), max_iterations=max_iter
    )
    return w  # type: ignore[no-any-return]
