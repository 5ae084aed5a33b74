"""Branches and unbounded loops against the same in Python, on both engines; their gradients against PyTorch."""

import numpy as np
import onnx
import pytest
import torch

import ravop as R
from docs.generate.examples import examples_of, results_of
from ravop.errors import ArgumentError, DTypeError, GradientError, ScopeError, ShapeError
from ravop.graph.check import check_model
from ravop.graph.cost import node_cost
from ravop.graph.serde import to_bytes

X = np.array([1.0, -2.0, 3.0], dtype=np.float32)


def test_branches_take_trees_captures_numbers_and_nest(compute):
    graph = R.Graph()
    outside = R.t([10.0, 20.0, 30.0])

    def choose(limit):
        return R.cond(
            R.sum(R.t(X)) > limit,
            lambda pair: {"a": pair[0] + outside, "n": 1, "same": pair[1]},
            lambda pair: {
                "a": R.cond(pair[1] > 0, lambda: pair[0] * 2, lambda: pair[0] * 3),
                "n": R.t(7),
                "same": outside[0],
            },
            (R.t(X), R.t(1.0)),
        )

    for name, limit in (("yes", 1), ("no", 5)):
        for key, op in choose(limit).items():
            op.persist_op(f"{name}_{key}")
    results = compute(graph)
    wanted = {
        "yes_a": X + np.float32([10, 20, 30]),
        "yes_n": 1,
        "yes_same": 1,
        "no_a": X * 2,
        "no_n": 7,
        "no_same": 10,
    }
    for name, value in wanted.items():
        np.testing.assert_array_equal(results[name], value, err_msg=name)


def test_a_known_predicate_traces_one_branch():
    graph = R.Graph()
    traced = []
    for predicate in (True, np.False_, R.t(True)):
        R.cond(predicate, lambda: traced.append(1) or R.t(1.0), lambda: traced.append(0) or R.t(2.0))
    assert traced == [1, 0, 1]
    assert "If" not in {node.op_type for node in graph.main.ir}


def test_only_the_taken_branch_is_computed_and_differentiated(compute):
    graph = R.Graph()
    x, other = R.t([4.0]), R.t([9.0])

    def root_or_line(v):
        return R.cond(v[0] > 0, lambda v: R.sqrt(v) * other, lambda v: v * 2, v)

    for name, start in (("positive", x), ("negative", -x)):
        loss = R.sum(root_or_line(start))
        for target, op in (("x", x), ("other", other)):
            R.grad(loss, op).persist_op(f"{name}_{target}")
    results = compute(graph)
    wanted = {"positive_x": 2.25, "positive_other": 2, "negative_x": -2, "negative_other": 0}
    for name, value in wanted.items():
        np.testing.assert_allclose(results[name], [value])


def test_lengths_that_only_the_run_can_tell_may_differ(compute):
    graph = R.Graph()
    x = R.t(X)
    chosen = R.cond(R.sum(x) > 0, lambda: x[x > 0], lambda: x[x < 0]).persist_op("chosen")
    assert chosen.shape == (None,)
    np.testing.assert_array_equal(compute(graph)["chosen"], [1, 3])


def test_control_flow_in_functions_and_functions_in_control_flow(compute):
    graph = R.Graph()
    outside = R.t(10.0)

    @R.function
    def settle(x):
        noise = R.random_uniform()
        halved = R.while_loop(lambda c: R.sum(c) > 1, lambda c: c / 2, x)
        return R.cond(R.sum(x) > outside, lambda: halved, lambda: x + outside * 0), noise

    first, second = settle(R.t([40.0, 0.0])), settle(R.t([1.0, 2.0]))
    third = R.cond(R.sum(first[0]) > 0, lambda: settle(R.t([8.0, 8.0]))[0], lambda: R.zeros(2))
    named = {"a": first[0], "b": second[0], "c": third, "x": first[1], "y": second[1]}
    for name, op in named.items():
        op.persist_op(name)
    results = compute(graph)
    np.testing.assert_array_equal(results["a"], [0.625, 0])
    np.testing.assert_array_equal(results["b"], [1, 2])
    np.testing.assert_array_equal(results["c"], [0.5, 0.5])
    assert results["x"] != results["y"]


def python_while(cond, body, carry):
    while cond(carry):
        carry = body(carry)
    return carry


def test_while_loops_run_as_in_python(compute):
    graph = R.Graph()

    def collatz(loop, n, zero):
        def step(carry):
            n, steps = carry
            odd = n % 2
            return odd * (3 * n + 1) + (1 - odd) * (n // 2), steps + 1

        return loop(lambda carry: carry[0] > 1, step, (n, zero))[1]

    for n in (1, 7, 27):
        collatz(R.while_loop, R.t(n), R.t(0)).persist_op(f"collatz_{n}")
    limited = R.while_loop(lambda c: c < 1000, lambda c: c * 2, R.t(1), max_iterations=5).persist_op(
        "limited"
    )

    def rows(x):  # a loop in a loop, capturing the outer loop's element
        return R.while_loop(lambda c: R.sum(c) < 50, lambda c: c + R.abs(x), x)

    R.map(rows, R.t([[1.0, 2.0], [30.0, 40.0]])).persist_op("nested")
    R.fori_loop(2, 6, lambda i, c: c * 10 + i, R.t(1)).persist_op("fori")
    R.fori_loop(2, 2, lambda i, c: c * 10 + i, R.t(1)).persist_op("none")
    results = compute(graph)
    for n in (1, 7, 27):
        assert results[f"collatz_{n}"] == collatz(python_while, n, 0)
    assert (results["limited"], results["fori"], results["none"]) == (32, 12345, 1)
    np.testing.assert_array_equal(results["nested"], [[17, 34], [30, 40]])
    (bound,) = [node for node in graph.main.ir if node.op_type == "Loop" and node.inputs[0] is not None]
    assert bound is limited.value.producer()
    model = check_model(to_bytes(graph.model()))
    loops = [node for node in model.graph if node.op_type == "Loop"]
    assert len(loops) == 4
    assert all(node_cost(node).flops > 0 for node in loops)


def test_random_numbers_differ_in_each_iteration_and_element(compute):
    graph = R.Graph(seed=4)
    draws = R.while_loop(
        lambda c: c[0] < 4,
        lambda c: (c[0] + 1, R.concat(c[1][1:], R.random_uniform(size=1))),
        (R.t(0), R.zeros(4)),
    )[1].persist_op("loop")
    R.map(lambda x: x + R.random_uniform(), R.zeros(6)).persist_op("map")
    R.map(
        lambda x: R.cond(x > 0, R.random_uniform, lambda: -R.random_uniform()), R.t([1.0, -1.0, 1.0])
    ).persist_op("if")
    assert draws.shape == (4,)
    results = compute(graph)
    assert len(set(results["loop"].tolist())) == 4
    assert len(set(results["map"].tolist())) == 6
    assert len(set(np.abs(results["if"]).tolist())) == 3
    np.testing.assert_array_equal(np.sign(results["if"]), [1, -1, 1])


def test_map_stacks_what_trees_give(compute):
    graph = R.Graph()
    a, b = np.arange(6.0, dtype=np.float32).reshape(3, 2), np.array([1, 2, 3])
    both = R.map(lambda x, y: {"dot": x @ x, "scaled": x * y["n"]}, a, {"n": R.t(b)})
    both["dot"].persist_op("dot")
    both["scaled"].persist_op("scaled")
    R.map(lambda row: R.sum(row), [[1, 2], [3, 4]]).persist_op("list")
    results = compute(graph)
    np.testing.assert_allclose(results["dot"], (a * a).sum(1))
    np.testing.assert_allclose(results["scaled"], a * b[:, None])
    np.testing.assert_array_equal(results["list"], [3, 7])


@pytest.mark.parametrize("limit", [3, 9])
def test_gradients_of_a_bounded_loop_and_of_map_are_those_of_pytorch(compute, limit):
    graph = R.Graph()
    x, w = R.t(X), R.t(0.7)
    last = R.while_loop(
        lambda c: R.sum(R.square(c)) < 60,
        lambda c: c * c * w + c,
        x,
        max_iterations=limit,
        differentiable=True,
    )
    loss = R.sum(last) + R.sum(R.map(lambda v: R.exp(v * w), x))
    first = R.grad(loss, [x, w])
    for name, op in {"loss": loss, "x": first[0], "w": first[1], "ww": R.grad(first[1], w)}.items():
        op.persist_op(name)
    results = compute(graph, rtol=1e-4)
    tx, tw = torch.tensor(X, requires_grad=True), torch.tensor(0.7, requires_grad=True)
    carry, steps = tx, 0
    while (carry**2).sum() < 60 and steps < limit:
        carry, steps = carry * carry * tw + carry, steps + 1
    assert steps < limit or limit == 3
    wanted = carry.sum() + torch.exp(tx * tw).sum()
    gx, gw = torch.autograd.grad(wanted, [tx, tw], create_graph=True)
    (gww,) = torch.autograd.grad(gw, tw)
    for name, value in {"loss": wanted, "x": gx, "w": gw, "ww": gww}.items():
        np.testing.assert_allclose(results[name], value.detach().numpy(), rtol=1e-4, err_msg=name)


def test_an_unbounded_loop_has_no_gradient():
    R.Graph()
    x = R.t(1.5)
    loss = R.while_loop(lambda c: c < 10, lambda c: c * x, x)
    with pytest.raises(GradientError, match="Loop"):
        R.grad(loss, x)


def loop(**changes):
    given = {"cond": lambda c: c < 3.0, "body": lambda c: c + 1, "init": 0.0} | changes
    return lambda: R.while_loop(**given)


def branches(then, otherwise=lambda: R.t(1.0), predicate=None):
    return lambda: R.cond(R.sum(R.t(X)) > 0 if predicate is None else predicate(), then, otherwise)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (branches(lambda: R.t([1.0, 2.0])), ShapeError, "different shapes in the branches"),
        (branches(lambda: R.t(1)), DTypeError, "different dtypes in the branches"),
        (branches(lambda: {"a": R.t(1.0)}), ArgumentError, "trees of one form"),
        (branches(lambda: None, lambda: None), ArgumentError, "trees of one form"),
        (branches(lambda x: x), ArgumentError, "missing"),
        (lambda: R.cond(True, 1, 2), ArgumentError, "a branch is a function"),
        (branches(lambda: R.t(1.0), predicate=lambda: R.sum(R.t(X))), DTypeError, "predicate must be true or false"),
        (branches(lambda: R.t(1.0), predicate=lambda: R.t(X) > 0), ShapeError, "one truth value"),
        (loop(body=lambda c: R.stack(c, c)), ShapeError, "changes its shape"),
        (loop(body=lambda c: c > 1), DTypeError, "changes its dtype"),
        (loop(body=lambda c: (c, c)), ArgumentError, "form of the carry"),
        (loop(cond=lambda c: c), DTypeError, "the condition must be true or false"),
        (loop(cond=lambda c: R.stack(c, c) > 0), ShapeError, "one truth value"),
        (loop(init=()), ArgumentError, "needs a carry"),
        (loop(max_iterations=0), ArgumentError, "number of iterations"),
        (loop(max_iterations=2.5), ArgumentError, "number of iterations"),
        (loop(differentiable=True), ArgumentError, "needs a bound"),
        (loop(cond=True), ArgumentError, "condition is a function"),
        (lambda: R.map(lambda a, b: a, R.zeros(2), R.zeros(3)), ShapeError, "differ in length"),
        (lambda: R.map(3, R.zeros(2)), ArgumentError, "takes a function"),
        (lambda: R.fori_loop(0, R.t(3), lambda i, c: c, R.t(1.0)), ArgumentError, "bounds of a loop"),
    ],
)  # fmt: skip
def test_wrong_use(wrong, error, message):
    graph = R.Graph()
    with pytest.raises(error, match=message) as caught:
        wrong()
    assert graph.scope is graph.main
    if hasattr(caught.value, "problem"):
        assert caught.value.problem.source.startswith("graph/test_branches.py:")


def test_ops_do_not_leave_their_branch():
    R.Graph()
    leaked = []
    R.cond(R.sum(R.t(X)) > 0, lambda: leaked.append(R.t(X) * 2) or R.t(0.0), lambda: R.t(1.0))
    with pytest.raises(ScopeError, match="used outside of it"):
        leaked[0] + 1


def test_the_nodes_are_plain_onnx():
    graph = R.Graph()
    R.cond(R.t(X)[0] > 0, lambda: R.t(1.0), lambda: R.t(2.0)).persist_op("if")
    R.while_loop(lambda c: c < 3, lambda c: c + 1, R.t(0)).persist_op("loop")
    model = onnx.load_from_string(to_bytes(graph.model()))
    onnx.checker.check_model(model, full_check=True)
    assert {"If", "Loop"} <= {node.op_type for node in model.graph.node}
    assert {o.domain for o in model.opset_import} == {""}


def test_the_examples_give_what_they_say():
    found = [
        example
        for function in (R.cond, R.while_loop, R.map, R.fori_loop, R.scan, R.function)
        for example in examples_of(function)
    ]
    results = results_of(example.code for example in found)
    assert {example.code: example.result for example in found} == results
    assert len(found) == 7  # two of them loops by a condition
