"""Linear classifiers and regressors fitted by Newton's method: logistic regression and linear support vector machines."""

from __future__ import annotations

from typing import Any, NamedTuple

from ravop.errors import ArgumentError
from ravop.graph.op import Op, Operand
from ravop.ops.activation import sigmoid, softmax, softplus
from ravop.ops.arguments import whole
from ravop.ops.arithmetic import abs, sign
from ravop.ops.catalogue import cast, operator, scalar
from ravop.ops.compare import greater, maximum
from ravop.ops.create import filled
from ravop.ops.learning.data import Labels, labels, queries, samples, targets
from ravop.ops.learning.linear import LinearModel
from ravop.ops.learning.newton import Loss, minimise
from ravop.ops.linalg import matmul
from ravop.ops.reduction import argmax, logsumexp, mean, sum
from ravop.ops.shaping import concat, expand_dims

__all__ = ["logistic_regression", "svm_svc", "svm_svr"]


class LinearClassifier(NamedTuple):
    """`coef` (k, d) and `intercept` (k,): k = 1 for two classes, else the number of classes."""

    coef: Op
    intercept: Op
    labels: Labels

    def decision_function(self, X: Operand) -> Op:  # noqa: N803 - the field's name
        """(n,) for two classes, positive for the second; else (n, classes), largest for the one chosen."""
        x, coef = queries(X, self.coef)
        scores = matmul(x, coef.T) + self.intercept
        return scores[:, 0] if self.coef.static_shape[0] == 1 else scores

    def predict(self, X: Operand) -> Op:  # noqa: N803
        """(n,): the label for each row of X (n, d), int64."""
        scores = self.decision_function(X)
        if scores.ndim == 2:
            return self.labels.named(argmax(scores, 1))
        return self.labels.named(cast(greater(scores, 0), self.labels.codes.dtype))

    def predict_proba(self, X: Operand) -> Op:  # noqa: N803
        """(n, classes): the probability of each class, as logistic regression sees it."""
        scores = self.decision_function(X)
        if scores.ndim == 2:
            return softmax(scores, -1)
        second = expand_dims(sigmoid(scores), 1)
        return concat([1 - second, second], axis=1)


@operator
def logistic_regression(
    X: Operand,  # noqa: N803
    y: Any,
    C: float = 1.0,  # noqa: N803
    fit_intercept: bool = True,
    n_classes: int | None = None,
    max_iter: int = 100,
) -> LinearClassifier:
    """Logistic regression of labels y (n,) on X (n, d): least ½ Σ coef² + C · Σ −log p(y), of two classes or several at once.

    As scikit-learn's with its default penalty; the intercept is not penalised. By a truncated Newton method (see Bishop,
    Pattern Recognition and Machine Learning, 4.3.3 and 4.3.4). Features of like size converge in fewer steps.

    Args:
        y: integers: any where they are known; 0 … n_classes − 1, with `n_classes`, where they are an op.
        C: how much the data counts against the penalty.
    Returns: `coef`, `intercept`, `predict(X)`, `predict_proba(X)`, `decision_function(X)`.
    Raises ShapeError, DTypeError, ArgumentError for samples and labels that do not fit.

    Example:
        >>> R.logistic_regression([[0.0], [1.0], [3.0], [4.0]], [0, 0, 1, 1]).predict([[0.5], [3.5]])
        [0, 1]
    """
    x = samples(X)
    given = labels(x, y, n_classes)
    chosen = given.chosen(x)
    loss = _binary(chosen[:, 1:]) if given.classes == 2 else _multinomial(chosen)
    return _classifier(x, given, C, loss, fit_intercept, free=True, max_iter=max_iter)


def _binary(second: Op) -> Loss:
    def curve(z: Op, v: Op) -> Op:
        p = sigmoid(z)
        return p * (1 - p) * v

    return Loss(
        lambda z: sum(softplus(z) - second * z), lambda z: sigmoid(z) - second, curve,
        lambda z: curve(z, scalar(z, 1)),
    )  # fmt: skip


def _multinomial(chosen: Op) -> Loss:
    def curve(z: Op, v: Op) -> Op:
        p = softmax(z, -1)
        return p * (v - sum(p * v, -1, keepdims=True))

    def diagonal(z: Op) -> Op:
        p = softmax(z, -1)
        return p * (1 - p)

    return Loss(
        lambda z: sum(logsumexp(z, -1)) - sum(chosen * z), lambda z: softmax(z, -1) - chosen, curve, diagonal
    )


@operator
def svm_svc(
    X: Operand,  # noqa: N803
    y: Any,
    C: float = 1.0,  # noqa: N803
    n_classes: int | None = None,
    max_iter: int = 100,
) -> LinearClassifier:
    """A linear support vector machine for labels y (n,): least ½ Σ coef² + C · Σ max(0, 1 ∓ score)², one class against the rest.

    The squared hinge loss and the penalised intercept are those of scikit-learn's `LinearSVC` (Fan et al., "LIBLINEAR", 2008);
    solved in the primal (Chapelle, "Training a support vector machine in the primal", 2007). Arguments, results and errors as
    `logistic_regression`; kernels other than the linear one would need all pairs of samples, and are not offered.

    Example:
        >>> R.svm_svc([[0.0], [1.0], [3.0], [4.0]], [7, 7, 9, 9]).predict([[0.5], [3.5]])
        [7, 9]
    """
    x = samples(X)
    given = labels(x, y, n_classes)
    chosen = given.chosen(x)
    side = 2 * (chosen[:, 1:] if given.classes == 2 else chosen) - 1

    def within(z: Op) -> Op:
        return cast(greater(1 - side * z, 0), x.dtype)

    loss = Loss(
        lambda z: sum(maximum(1 - side * z, scalar(x, 0)) ** 2),
        lambda z: -2 * side * maximum(1 - side * z, scalar(x, 0)),
        lambda z, v: 2 * within(z) * v,
        lambda z: 2 * within(z),
    )
    return _classifier(x, given, C, loss, True, free=False, max_iter=max_iter)


@operator
def svm_svr(X: Operand, y: Operand, C: float = 1.0, epsilon: float = 0.0, max_iter: int = 100) -> LinearModel:  # noqa: N803
    """Linear support vector regression of y (n,) on X (n, d): least ½ Σ coef² + C · Σ max(0, |prediction − y| − epsilon)².

    The squared epsilon-insensitive loss and the penalised intercept of scikit-learn's `LinearSVR(loss=
    "squared_epsilon_insensitive")` (Ho and Lin, 2012). → `coef`, `intercept`, `predict(X)`.

    Example:
        >>> R.svm_svr([[1.0], [2.0], [3.0]], [2.0, 4.0, 6.0]).predict([[4.0]])
        [7.4576]
    """
    x, t = targets(samples(X), y)
    _positive(C, "C")
    if not isinstance(epsilon, int | float) or epsilon < 0:
        raise ArgumentError(
            "epsilon is how far off is no error", expected="0 or more", received=repr(epsilon)
        )
    target = expand_dims(t, 1)

    def beyond(z: Op) -> Op:
        return maximum(abs(z - target) - epsilon, scalar(x, 0))

    loss = Loss(
        lambda z: sum(beyond(z) ** 2),
        lambda z: 2 * sign(z - target) * beyond(z),
        lambda z, v: 2 * cast(greater(beyond(z), 0), x.dtype) * v,
        lambda z: 2 * cast(greater(beyond(z), 0), x.dtype),
    )
    w = _weights(x, 1, C, loss, True, False, max_iter)
    return LinearModel(w[:-1, 0], w[-1, 0])


def _classifier(
    x: Op, given: Labels, c: float, loss: Loss, fit_intercept: bool, free: bool, max_iter: int
) -> LinearClassifier:
    _positive(c, "C")
    columns = 1 if given.classes == 2 else given.classes
    w = _weights(x, columns, c, loss, fit_intercept, free, max_iter)
    if not fit_intercept:
        return LinearClassifier(w.T, w[0] * 0, given)
    intercept = w[-1]
    if free and columns > 1:  # free intercepts are determined but for a constant: let them sum to 0
        intercept = intercept - mean(intercept)
    return LinearClassifier(w[:-1].T, intercept, given)


def _weights(x: Op, columns: int, c: float, loss: Loss, fit_intercept: bool, free: bool, max_iter: int) -> Op:
    """Coefficients, and below them the intercepts, which cost nothing where they are `free`."""
    rows, width = x.static_shape
    costs = [1.0] * width + [0.0 if free else 1.0] * fit_intercept
    wide = concat([x, filled(x.graph, (rows, 1), 1, x.dtype)], axis=1) if fit_intercept else x
    penalty = expand_dims(x.graph.tensor(costs, x.dtype), 1)
    return minimise(wide, columns, penalty, float(c), loss, whole(max_iter, "max_iter"))


def _positive(value: Any, name: str) -> None:
    if not isinstance(value, int | float) or value <= 0:
        raise ArgumentError(f"{name} weighs the data", expected="a number above 0", received=repr(value))
