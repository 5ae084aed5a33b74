"""What no output needs is not computed."""

import numpy as np
import onnx

import ravop as R
from ravop.engine import Session
from ravop.engine.pruning import prune
from ravop.graph.serde import to_bytes


def test_nodes_that_lead_to_no_output_are_left_out_of_bodies_too():
    graph = R.Graph("pruning")
    x = R.t(np.arange(6, dtype=np.float32).reshape(3, 2))
    outside = R.exp(x[0])  # a body alone reads it

    def step(total, row):
        R.log(row)  # unused
        return total + row * outside, R.cond(row[0] > 1, lambda: row.sum(), lambda: outside.sum())

    last, each = R.scan(step, R.t(np.zeros(2, dtype=np.float32)), x)
    R.sin(each)  # unused
    last.persist_op("last")
    each.persist_op("each")
    model = onnx.load_from_string(to_bytes(graph.model()))
    before = Session(to_bytes(graph.model()), engine="reference").run(graph.inputs)
    assert prune(model.graph)
    onnx.checker.check_model(model, full_check=True)
    assert not prune(model.graph)
    (loop,) = (node for node in model.graph.node if node.op_type == "Scan")
    kinds = {node.op_type for node in (*model.graph.node, *loop.attribute[0].g.node)}
    assert {"Exp", "If"} <= kinds
    assert kinds.isdisjoint({"Sin", "Log"})
    after = Session(to_bytes(graph.model())).run(graph.inputs)
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-6)
    np.testing.assert_allclose(after[last.name], (np.exp([0, 1]) * [6, 9]), rtol=1e-6)


def test_a_node_that_would_fail_is_not_run_where_nobody_needs_it():
    R.Graph("pruning")
    x = R.t(np.ones(4, dtype=np.float32))
    unknown = R.t(np.array([5])) * x.sum().astype("int64")
    R.gather(x, unknown)  # out of range, which only the run can tell
    (x + 1).persist_op("y")
    np.testing.assert_array_equal(R.run_local()["y"], np.full(4, 2.0))
