"""k-means clustering."""

from __future__ import annotations

import math
from typing import NamedTuple

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.branches import while_loop
from ravop.graph.control import scan
from ravop.graph.dtypes import INT
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import whole
from ravop.ops.catalogue import cast, common, floats, node, operator, scalar
from ravop.ops.compare import less_equal, maximum, minimum, where
from ravop.ops.learning.data import members, queries, samples
from ravop.ops.learning.neighbours import squared_distances
from ravop.ops.linalg import matmul
from ravop.ops.randomness import random_uniform
from ravop.ops.reduction import argmin, mean, sum, variance
from ravop.ops.shaping import concat, expand_dims

__all__ = ["kmeans"]


class Clusters(NamedTuple):
    """`centers` (k, d), `labels` (n,) int64, `inertia`: the sum of squared distances to the nearest center, `n_iter`."""

    centers: Op
    labels: Op
    inertia: Op
    n_iter: Op

    def predict(self, X: Operand) -> Op:  # noqa: N803 - the field's name
        """(n,): the number of the nearest center for each row of X (n, d), int64."""
        x, centers = queries(X, self.centers)
        return argmin(squared_distances(x, centers), 1)


@operator
def kmeans(
    X: Operand,  # noqa: N803
    n_clusters: int = 8,
    init: Operand | None = None,
    max_iter: int = 300,
    tol: float = 1e-4,
) -> Clusters:
    """The k-means clusters of X (n, d), by Lloyd's method (1982), until the centers move less than `tol`.

    Args:
        n_clusters: how many.
        init: the first centers (n_clusters, d); None: drawn by greedy k-means++ (Arthur and
            Vassilvitskii 2007), with the graph's seed.
        max_iter: at most so many rounds.
        tol: of the mean variance of the features, as in scikit-learn.
    A center without samples stays where it is. Raises `ArgumentError`, `ShapeError` for numbers and centers that do not fit.

    Example:
        >>> R.kmeans([[0.0], [1.0], [9.0], [10.0]], 2, init=[[0.0], [9.0]]).centers
        [[0.5], [9.5]]
    """
    x = samples(X)
    n, d = x.static_shape
    count = whole(n_clusters, "n_clusters")
    if not 1 <= count <= n:
        raise ArgumentError("every cluster needs a sample", expected=f"1 to {n}", received=count)
    if init is None:
        start = _plus_plus(x, count)
    else:
        x, start = common(x, floats(init))
        if start.shape != (count, d):
            raise ShapeError("these centers do not fit", expected=[count, d], received=list(start.shape))
    limit = mean(variance(x, 0)) * tol

    def step(state: tuple[Op, Op, Op]) -> tuple[Op, Op, Op]:
        centers, _, rounds = state
        member = members(argmin(squared_distances(x, centers), 1), count, x)
        sizes = expand_dims(sum(member, 0), 1)
        means = matmul(member.T, x) / maximum(sizes, scalar(x, 1))
        moved = where(sizes > 0, means, centers)
        return moved, sum((moved - centers) ** 2), rounds + 1

    centers, _, rounds = while_loop(
        lambda state: state[1] > limit,
        step,
        (start, limit + 1, x.graph.tensor(0)),
        max_iterations=whole(max_iter, "max_iter"),
    )
    distances = squared_distances(x, centers)
    nearest = argmin(distances, 1)
    own = matmul(members(nearest, count, x), centers)
    return Clusters(centers, nearest, sum((x - own) ** 2), rounds)


def _plus_plus(x: Op, count: int) -> Op:
    """Samples, each the best of a few drawn with probabilities in proportion to the squared distances from those before it."""
    n = x.static_shape[0]
    tries = 2 + int(math.log(count))
    draws = cast(random_uniform(scalar(x, 0), size=(count, tries)), x.dtype)
    chosen = expand_dims(x[cast(draws[0, 0] * n, INT)], 0)
    if count == 1:
        return chosen

    def step(near: Op, draw: Op) -> tuple[Op, Op]:
        summed = expand_dims(node("CumSum", [near, x.graph.tensor(0)]), 1)
        # how many sums are below a draw is the number of its sample; rounding must not lead past the last
        found = minimum(sum(cast(less_equal(summed, draw * summed[-1]), INT), 0), n - 1)
        candidates = node("Gather", [x, found], axis=0)
        left = minimum(expand_dims(near, 1), maximum(squared_distances(x, candidates), scalar(x, 0)))
        best = argmin(sum(left, 0))
        return node("Gather", [left, best], axis=1), node("Gather", [candidates, best], axis=0)

    start = maximum(squared_distances(x, chosen)[:, 0], scalar(x, 0))
    _, others = scan(step, start, draws[1:])
    return concat([chosen, others], axis=0)
