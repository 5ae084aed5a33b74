"""Functions against calling the Python function itself."""

import numpy as np
import onnx
import pytest

import ravop as R
from ravop.errors import ArgumentError, DTypeError, ShapeError
from ravop.graph.control import FUNCTION_DOMAIN
from ravop.graph.serde import to_bytes

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_traced_once_for_each_signature(compute):
    graph = R.Graph()
    traced = []

    @R.function
    def scaled(x, factor=2, *, offset=0.0):
        """Scale."""
        traced.append(x.shape)
        return {"scaled": x * factor + offset, "sum": [x.sum()]}

    assert scaled.__doc__ == "Scale."
    first, second = scaled(R.t(X)), scaled(R.t(X + 1))
    third, narrow, raised = scaled(R.t(X), 3), scaled(R.t(X[0])), scaled(X, offset=1.0)
    assert traced == [(2, 3), (2, 3), (3,), (2, 3)]
    for number, result in enumerate((first, second, third, narrow, raised)):
        result["scaled"].persist_op(f"scaled{number}")
        result["sum"][0].persist_op(f"sum{number}")
    results = compute(graph)
    for number, (x, y) in enumerate(
        [(X, X * 2), (X + 1, X * 2 + 2), (X, X * 3), (X[0], X[0] * 2), (X, X * 2 + 1)]
    ):
        np.testing.assert_array_equal(results[f"scaled{number}"], y)
        np.testing.assert_allclose(results[f"sum{number}"], x.sum())


def test_captures_constants_loops_and_functions_inside(compute):
    graph = R.Graph()
    w, big = R.t(np.eye(3) * 2), R.t(np.arange(20_000.0))

    @R.function
    def inner(x):
        return x @ w + [1.0, 2.0, 3.0]

    @R.function
    def outer(x):
        total, ys = R.scan(
            lambda c, row: (c + inner(row).sum() + big[2] + row.sum() * 0.5, inner(row) * 2), R.t(0.0), x
        )
        return inner(x), total, ys, x, x

    results_of = outer(R.t(X))
    again = R.scan(lambda c, _: (outer(c)[0], inner(c)), R.t(X), length=2)
    for name, op in zip("abcdef", [*results_of, again[0]], strict=True):
        op.persist_op(name)
    results = compute(graph)
    layer = lambda x: x @ (np.eye(3) * 2) + [1, 2, 3]  # noqa: E731
    np.testing.assert_allclose(results["a"], layer(X))
    np.testing.assert_allclose(results["b"], layer(X).sum() + 4 + X.sum() * 0.5)
    np.testing.assert_allclose(results["c"], layer(X) * 2)
    np.testing.assert_allclose(results["d"], X)
    np.testing.assert_allclose(results["f"], layer(layer(X)))
    assert len(graph.functions) == 3  # inner of a row, inner of x, outer
    assert next(iter(graph.inputs.values())).shape == (20_000,)


def test_the_model_declares_its_functions():
    R.Graph()
    double = R.function(lambda x: x * 2)
    (double(R.t(X)) + double(R.t(X))).persist_op("y")
    model = onnx.load_from_string(to_bytes(R.ops.create.current_graph().model()))
    (function,) = model.functions
    assert function.domain == FUNCTION_DOMAIN
    assert {o.domain for o in model.opset_import} == {"", FUNCTION_DOMAIN}
    assert [node.domain for node in model.graph.node].count(FUNCTION_DOMAIN) == 2


def test_a_capture_that_is_out_of_reach_is_traced_again(compute):
    graph = R.Graph()
    captured = []

    @R.function
    def plus(x):
        return x + captured[-1]

    def body(carry, _):
        captured.append(carry * 10)
        return plus(carry), None

    once, _ = R.scan(body, R.t(1.0), length=1)
    twice, _ = R.scan(body, once, length=2)
    twice.persist_op("y")
    assert compute(graph)["y"] == 11**3


def test_random_ops_draw_anew_at_each_call_and_iteration(compute):
    graph = R.Graph(seed=1)

    @R.function
    def noise(x):
        return x * 0 + R.random_uniform(size=3)

    @R.function
    def noisy(x):
        return noise(x) + 0.0

    one, two = noisy(R.zeros(3)), noisy(R.zeros(3))
    _, (many, direct) = R.scan(lambda c, _: (c, (noisy(c), noise(c))), R.zeros(3), length=4)
    R.concat(one, two, many.flatten(), direct.flatten()).persist_op("all")
    values = compute(graph)["all"]
    assert len(np.unique(values)) == values.size


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda: R.function(lambda x: None)(R.t(X)), ArgumentError),
        (lambda: R.function(lambda x, s: x)(R.t(X), {1, 2}), DTypeError),
        (lambda: R.function(lambda x: x @ x)(R.t(X)), ShapeError),
    ],
)  # fmt: skip
def test_wrong_use(wrong, error):
    graph = R.Graph()
    with pytest.raises(error, match=r"test_functions\.py:"):
        wrong()
    assert graph.scope is graph.main
