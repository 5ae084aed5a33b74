"""Linear regression, by least squares, alone or with a penalty on the coefficients."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ravop.errors import ArgumentError
from ravop.graph.op import Op, Operand
from ravop.ops.catalogue import operator
from ravop.ops.learning.data import queries, samples, targets
from ravop.ops.linalg import lstsq, matmul, solve
from ravop.ops.linalg.matrices import unit
from ravop.ops.reduction import mean

__all__ = ["linear_regression", "ridge"]


class LinearModel(NamedTuple):
    """y = X · coef + intercept, for coef (d,) and a scalar."""

    coef: Op
    intercept: Op

    def predict(self, X: Operand) -> Op:  # noqa: N803 - the field's name
        """(n,): the prediction for each row of X (n, d)."""
        x, coef = queries(X, self.coef)
        return matmul(x, coef) + self.intercept


@operator
def linear_regression(X: Operand, y: Operand, fit_intercept: bool = True) -> LinearModel:  # noqa: N803
    """The coefficients of least Σ(X · coef + intercept − y)², for X (n, d) and y (n,); of several, the shortest.

    By the pseudo-inverse of the centred samples, see `lstsq`. → `coef`, `intercept` and `predict(X)`.

    Example:
        >>> R.linear_regression([[1.0], [2.0], [3.0]], [3.0, 5.0, 7.0]).predict([[10.0]])
        [21.0]
    """
    return _fitted(X, y, fit_intercept, lambda x, t: lstsq(x, t)[0])


@operator
def ridge(X: Operand, y: Operand, alpha: float = 1.0, fit_intercept: bool = True) -> LinearModel:  # noqa: N803
    """As `linear_regression`, with alpha · Σ coef² added to what is minimised: (XᵀX + alpha I) coef = Xᵀ y, centred.

    Hoerl and Kennard, "Ridge regression" (1970). Raises `ArgumentError` for an alpha below 0.

    Example:
        >>> R.ridge([[1.0], [2.0], [3.0]], [3.0, 5.0, 7.0], alpha=2.0).coef
        [1.0]
    """
    if not isinstance(alpha, int | float) or alpha < 0:
        raise ArgumentError(
            "alpha is how much large coefficients cost", expected="0 or more", received=repr(alpha)
        )

    def solved(x: Op, t: Op) -> Op:
        return solve(matmul(x.T, x) + alpha * unit(x, x.static_shape[1]), matmul(x.T, t))

    return _fitted(X, y, fit_intercept, solved)


def _fitted(X: Operand, y: Operand, fit_intercept: bool, solved: Callable[[Op, Op], Op]) -> LinearModel:  # noqa: N803
    x, t = targets(samples(X), y)
    if not fit_intercept:
        return LinearModel(solved(x, t), t.graph.tensor(0.0, t.dtype))
    middle, height = mean(x, 0), mean(t)
    coef = solved(x - middle, t - height)
    return LinearModel(coef, height - matmul(middle, coef))
