"""Loops against the same loop in Python, on both engines."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ravop as R
from ravop.engine import Session
from ravop.errors import ArgumentError, DTypeError, ScopeError, ShapeError
from ravop.graph.serde import to_bytes


def python_scan(body, init, xs):
    ys = []
    for x in xs:
        init, y = body(init, x)
        ys.append(y)
    return init, np.stack(ys)


@settings(max_examples=15, deadline=None)
@given(
    length=st.integers(1, 6), width=st.integers(1, 4), factor=st.floats(-1, 1, width=32), inner=st.integers(1, 3), data=st.data()
)  # fmt: skip
def test_nested_loops_with_captures(compute, length, width, factor, inner, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    xs, table = (
        rng.normal(size=(length, width)).astype(np.float32),
        rng.normal(size=(inner, width)).astype(np.float32),
    )

    def body(carry, x, scan, stack):
        def step(total, row):  # captures x of the outer body and factor of the main graph
            total = total * factor + row * x
            return total, total + carry

        total, ys = scan(step, carry + x, stack)
        return total - x, ys

    R.Graph()
    ops = R.scan(lambda c, x: body(c, x, R.scan, R.t(table)), np.zeros(width), R.t(xs))
    expected = python_scan(lambda c, x: body(c, x, python_scan, table), np.zeros(width, np.float32), xs)
    for name, op, wanted in zip(("carry", "ys"), ops, expected, strict=True):
        assert op.shape == wanted.shape
        op.persist_op(name)
    results = compute(ops[0].graph)
    np.testing.assert_allclose(results["carry"], expected[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(results["ys"], expected[1], rtol=1e-4, atol=1e-4)


def test_trees_keep_their_form(compute):
    R.Graph()
    init = {"w": R.t([1.0, 2.0]), "counts": [R.t(0), (R.t(1.0), None)]}

    def body(carry, x):
        w, (count, (product, nothing)) = carry["w"], carry["counts"]
        assert nothing is None
        new = {"counts": [count + 1, (product * x["b"], None)], "w": w + x["a"]}  # another order of keys
        return new, {"w": new["w"], "both": (count, x["b"])}

    carry, ys = R.scan(
        body, init, {"a": R.t([[1.0, 1.0], [2.0, 2.0]]), "b": [3.0, 4.0]} | {"b": R.t([3.0, 4.0])}
    )
    carry["w"].persist_op("w")
    carry["counts"][0].persist_op("count")
    carry["counts"][1][0].persist_op("product")
    ys["w"].persist_op("ws")
    ys["both"][0].persist_op("counts")
    results = compute(carry["w"].graph)
    expected = {"w": [4, 5], "count": 2, "product": 12, "ws": [[2, 3], [4, 5]], "counts": [0, 1]}
    for name, value in expected.items():
        np.testing.assert_array_equal(results[name], value)


def test_bodies_may_give_inputs_captures_constants_and_the_same_twice(compute):
    R.Graph()
    outside = R.t([7.0, 8.0])
    carry, ys = R.scan(
        lambda c, x: ((c[1], x), (x, x, outside, 5.0, c[0], c[1], c[1])),
        (R.t(0.0), R.t(1.0)),
        R.t([2.0, 3.0]),
    )
    for name, op in {"a": carry[0], "b": carry[1], **{str(i): y for i, y in enumerate(ys)}}.items():
        op.persist_op(name)
    results = compute(outside.graph)
    expected = {
        "a": 2,
        "b": 3,
        "0": [2, 3],
        "1": [2, 3],
        "2": [[7, 8], [7, 8]],
        "3": [5, 5],
        "4": [0, 1],
        "5": [1, 2],
        "6": [1, 2],
    }
    for name, value in expected.items():
        np.testing.assert_array_equal(results[name], value)


def test_a_loop_over_nothing_but_a_length(compute):
    R.Graph()
    powers, _ = R.scan(lambda c, _: (c * 2, None), R.t(1), length=10)
    _, same = R.scan(lambda c, _: (c, R.t([1, 2])), None, length=3)
    powers.persist_op("powers")
    same.persist_op("same")
    results = compute(powers.graph)
    assert results["powers"] == 1024
    np.testing.assert_array_equal(results["same"], [[1, 2]] * 3)


def test_the_iteration_is_made_only_where_it_is_used(compute):
    graph = R.Graph()

    def body(carry, x):
        return carry + graph.scope.iteration * x, graph.scope.iteration

    total, steps = R.scan(body, R.t(0), R.t([1, 10, 100]))
    R.scan(lambda c, x: (c + x, None), R.t(0), R.t([1, 10, 100]))
    total.persist_op("total")
    steps.persist_op("steps")
    results = compute(graph)
    assert results["total"] == 210
    np.testing.assert_array_equal(results["steps"], [0, 1, 2])
    with_index, without = (node for node in graph.main.ir if node.op_type == "Scan")
    assert (len(with_index.inputs), len(without.inputs)) == (3, 2)
    assert graph.scope.iteration is None


def test_large_arrays_in_bodies_are_inputs_of_the_graph(compute):
    graph = R.Graph()
    big, small = np.arange(20_000, dtype=np.float32), np.arange(3, dtype=np.float32)

    def body(carry, _):
        _, inner = R.scan(lambda c, _: (c, (big * c).sum() + small.sum()), carry, length=2)
        return carry + 1, inner + R.t(small).sum()

    _, ys = R.scan(body, R.t(1.0), length=2)
    ys.persist_op("ys")
    (bound,) = graph.inputs.values()
    assert bound is not big
    assert np.array_equal(bound, big)
    assert len(to_bytes(graph.model())) < 10_000
    np.testing.assert_allclose(
        compute(graph)["ys"], [[big.sum() + 6] * 2, [2 * big.sum() + 6] * 2], rtol=1e-5
    )


def test_size_does_not_grow_with_length():
    def size(length):
        R.Graph()
        carry, ys = R.scan(lambda c, _: (c + R.random_uniform(), c), R.t(0.0), length=length)
        ys.persist_each("y_{}")
        return len(to_bytes(carry.graph.model()))

    assert size(5_000_000) - size(5) < 60


def test_a_long_loop_runs():
    R.Graph()
    total, _ = R.scan(lambda c, x: (c + x, None), R.t(0), R.arange(100_000))
    total.persist_op("total")
    (value,) = Session(to_bytes(total.graph.model())).run({}).values()
    assert value == 100_000 * 99_999 // 2


def test_persisting_inside_a_body_is_refused():
    R.Graph()

    def body(carry, _):
        with pytest.raises(ScopeError, match=r"only ops of the main graph[\s\S]*return the value"):
            (carry + 1).persist_op("inside")
        with pytest.raises(ScopeError):
            R.t([1.0]).persist_each("inside_{}")
        return carry, None

    R.scan(body, R.t(0.0), length=2)


def test_ops_do_not_leave_their_body():
    R.Graph()
    leaked = []

    def body(carry, _):
        leaked.append(carry + 1)
        return carry, None

    R.scan(body, R.t(0.0), length=2)
    with pytest.raises(ScopeError, match=r"used outside of it[\s\S]*test_scan.py:"):
        leaked[0] + 1
    with pytest.raises(ScopeError):
        R.scan(lambda c, _: (c + leaked[0], None), R.t(0.0), length=2)


def test_an_error_in_a_body_leaves_the_graph_usable(compute):
    graph = R.Graph()

    def body(carry, _):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        R.scan(body, R.t(0.0), length=2)
    assert graph.scope is graph.main
    (R.t(1.0) + 1).persist_op("after")
    assert compute(graph)["after"] == 2


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: R.scan(lambda c, x: (c + 1.5, None), R.t(0), length=2), DTypeError, "changes its dtype"),
        (lambda: R.scan(lambda c, x: (c + np.ones(3), None), R.t(0.0), length=2), ShapeError, "changes its shape"),
        (lambda: R.scan(lambda c, x: ((c, c), None), R.t(0.0), length=2), ArgumentError, "form of the carry"),
        (lambda: R.scan(lambda c, x: c, R.t(0.0), length=2), ArgumentError, "gives a pair"),
        (lambda: R.scan(lambda c, x: (c, None), R.t(0.0)), ArgumentError, "how often"),
        (lambda: R.scan(lambda c, x: (c, None), R.t(0.0), length=0), ArgumentError, "at least one"),
        (lambda: R.scan(lambda c, x: (c, None), R.t(0.0), (R.zeros(2), R.zeros(3))), ShapeError, "differ in length"),
        (lambda: R.scan(lambda c, x: (c, None), R.t(0.0), R.zeros(2), length=3), ShapeError, "differ in length"),
        (lambda: R.scan(lambda c, x: (c, None), R.t(0.0), R.t(1.0)), ShapeError, "first axis"),
        (lambda: R.scan(lambda c, x: (c, None), "text", length=2), DTypeError, "tensor"),
    ],
)  # fmt: skip
def test_wrong_use(wrong, error, message):
    R.Graph()
    with pytest.raises(error, match=message) as caught:
        wrong()
    assert caught.value.problem.source.startswith("graph/test_scan.py:")


def test_the_scan_node_is_plain_onnx():
    R.Graph()
    carry, _ = R.scan(lambda c, x: (c + x * 2, None), R.t(0.0), R.t([1.0, 2.0]))
    carry.persist_op("carry")
    model = onnx.load_from_string(to_bytes(carry.graph.model()))
    (scan,) = (node for node in model.graph.node if node.op_type == "Scan")
    assert {a.name for a in scan.attribute} == {"body", "num_scan_inputs"}
    (body,) = (a.g for a in scan.attribute if a.name == "body")
    assert len(body.initializer) == 1
    assert {o.domain for o in model.opset_import} == {""}
