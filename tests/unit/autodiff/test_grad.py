"""`grad` itself: what it adds up, what it refuses, and what it says then."""

import numpy as np
import pytest

import ravop as R
from ravop.engine import Session
from ravop.errors import GradientError, ScopeError
from ravop.graph import Graph
from ravop.graph.serde import to_bytes
from ravop.ops.catalogue import node


@pytest.fixture
def graph():
    return Graph()


def run(graph, *ops, **feeds):
    for i, op in enumerate(ops):
        op.persist_op(f"r{i}")
    got = Session(to_bytes(graph.model())).run(feeds)
    return [got[graph.persisted[f"r{i}"].value] for i in range(len(ops))]


def variable(graph, value):
    return graph.variable(np.asarray(value, np.float32))


def test_one_op_gives_one_gradient_and_a_list_gives_a_list(graph):
    x, y = variable(graph, [1.0, 2.0]), variable(graph, [3.0, 4.0])
    loss = (x * y).sum()
    assert isinstance(R.grad(loss, x), R.Op)
    assert [g.shape for g in R.grad(loss, (x, y))] == [(2,), (2,)]


def test_every_use_of_an_op_counts(graph):
    x = variable(graph, 3.0)
    (got,) = run(graph, R.grad(x * x + x + x * 2.0 + (x - x), x))
    assert got == 9.0


def test_ops_in_the_middle_get_theirs_too(graph):
    x = variable(graph, 2.0)
    y = x * x
    got = run(graph, *R.grad(y * y + x, [x, y]))
    assert [float(g) for g in got] == [33.0, 8.0]


def test_the_loss_itself(graph):
    loss = variable(graph, [1.0, 2.0]).sum()
    assert run(graph, R.grad(loss, loss)) == [1.0]


def test_stopped_gradients(graph):
    x = variable(graph, 3.0)
    assert run(graph, R.grad(x * R.stop_gradient(x), x)) == [3.0]


def test_rounding_passes_nothing_on(graph):
    x = variable(graph, 2.6)
    assert run(graph, R.grad(x * node("Floor", [x]), x)) == [2.0]


def test_unused_parts_need_no_rules(graph):
    x = variable(graph, [2.0, 1.0])
    node("Unique", [x])
    assert run(graph, R.grad(x.sum(), x))[0].tolist() == [1.0, 1.0]


def test_a_long_chain_is_no_recursion(graph):
    x = y = variable(graph, 1.0)
    for _ in range(3000):
        y = y + 1.0
    assert R.grad(y, x).shape == ()


def test_a_loss_that_is_no_scalar_is_refused(graph):
    x = variable(graph, [1.0, 2.0])
    with pytest.raises(GradientError, match="float scalar") as caught:
        R.grad(x * 2.0, x)
    assert "x * 2.0" in caught.value.problem.source
    with pytest.raises(GradientError, match="float scalar"):
        R.grad(x.argmax(axis=0), x)


def test_an_op_that_the_loss_does_not_depend_on(graph):
    x, y = variable(graph, [1.0, 2.0]), variable(graph, [1.0, 2.0])
    with pytest.raises(GradientError, match="does not depend") as caught:
        R.grad(x.sum(), [x, y])
    assert caught.value.problem.op == y.name
    with pytest.raises(GradientError, match="does not depend"):
        R.grad((x > 1.0).astype("float32").sum(), x)


def test_an_operator_without_a_rule_is_named_with_its_line(graph):
    x = variable(graph, [[1.0, 2.0], [3.0, 4.0]])
    with graph.label("Layer_1"):
        loss = node("Unique", [x]).sum()
    with pytest.raises(GradientError, match="no gradient of Unique") as caught:
        R.grad(loss, x)
    assert caught.value.problem.op.startswith("Layer_1/Unique")
    assert 'node("Unique", [x])' in caught.value.problem.source


def test_what_blocks_the_way_is_named(graph):
    x = variable(graph, [1.5, 2.5])
    with graph.label("Rounding_1"):
        whole = node("Floor", [x * 2.0])
    loss = (whole * whole).sum()
    with pytest.raises(GradientError, match="Floor does not change") as caught:
        R.grad(loss, x)
    assert "Rounding_1/Floor" in caught.value.problem.hint
    assert 'node("Floor", [x * 2.0])' in caught.value.problem.hint
    with pytest.raises(GradientError, match="Greater gives no floats"):
        R.grad((x > 1.0).astype("float32").sum(), x)
    with pytest.raises(GradientError, match="told to stop"):
        R.grad(R.stop_gradient(x).sum(), x)


def test_integers_have_no_gradient(graph):
    rows = graph.variable(np.array([0, 1]))
    with pytest.raises(GradientError, match="int64 has no gradient") as caught:
        R.grad((rows * 1.5).sum(), rows)
    assert "graph.variable" in caught.value.problem.source


def test_what_is_no_op_is_refused(graph):
    with pytest.raises(GradientError, match="only ops"):
        R.grad(variable(graph, 1.0), [1.0])


def test_an_op_of_a_closed_body_is_refused(graph):
    inside = []

    def step(c, _):
        inside.append(c * 2.0)
        return c * 2.0, None

    R.scan(step, variable(graph, 1.0), length=2)
    with pytest.raises(ScopeError):
        R.grad(inside[0] * 1.0, inside[0])


def test_gradient_nodes_carry_the_layers_name(graph):
    x = variable(graph, [1.0, 2.0])
    with graph.label("Dense_1"):
        loss = (x * 2.0).sum()
    gradient = R.grad(loss, x)
    assert gradient.value.producer().name.startswith("Dense_1/grad/")
