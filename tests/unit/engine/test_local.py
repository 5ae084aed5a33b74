"""`run_local` and `export_onnx` of whole graphs, against NumPy, ONNX Runtime and ONNX's checker."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import ravop as R
from ravop.engine import ENGINES
from ravop.errors import ComputeError, GraphStateError, UnknownNameError
from ravop.graph import Graph


def descend():
    """Five steps of gradient descent on a data set that is bound, with a series of losses."""
    graph = Graph("descent")
    data = np.random.default_rng(0).normal(size=(5, 4096, 8)).astype(np.float32)

    def step(w, x):
        loss = ((x @ w - 1.0) ** 2).mean()
        return w - 0.1 * R.grad(loss, w), loss

    w, losses = R.scan(step, R.t(np.zeros((8, 1))), R.t(data))
    losses.persist_each("loss_{}", first=(1,))
    w.persist_op("weights")
    w.persist_op("again")
    w.persist_op("v1")
    return graph, data


def expected(data):
    w, losses = np.zeros((8, 1), np.float32), []
    for x in data:
        error = x @ w - 1
        losses.append((error**2).mean())
        w = w - 0.1 * 2 * x.T @ error / len(x)
    return w, losses


@pytest.mark.parametrize("engine", ENGINES)
def test_a_training_loop(engine):
    _, data = descend()
    got = R.run_local(engine=engine)
    w, losses = expected(data)
    assert set(got) == {"weights", "again", "v1", *(f"loss_{i}" for i in range(1, 6))}
    np.testing.assert_allclose(got["weights"], w, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got["loss_3"], losses[2], rtol=1e-4)
    np.testing.assert_allclose(got["loss_{}"], losses, rtol=1e-4)
    with pytest.raises(UnknownNameError):
        got["loss_6"]


def test_the_same_loop_exported(tmp_path):
    graph, _ = descend()
    path = R.export_onnx(tmp_path / "descent.onnx")
    onnx.checker.check_model(str(path), full_check=True)
    names = ["loss_{}", "weights", "again", "v1"]
    session = ort.InferenceSession(str(path))
    assert [output.name for output in session.get_outputs()] == names
    assert not session.get_inputs()
    losses, *weights = session.run(names, {})
    local = R.run_local(graph)
    np.testing.assert_array_equal(losses, local["loss_{}"])
    for value in weights:
        np.testing.assert_array_equal(value, local["weights"])


def test_exporting_leaves_the_graph_as_it_is(tmp_path):
    graph, _ = descend()
    first = R.export_onnx(tmp_path / "a.onnx").read_bytes()
    assert R.export_onnx(str(tmp_path / "b.onnx"), graph).read_bytes() == first


def test_functions_and_open_inputs_are_exported(tmp_path):
    graph = Graph()
    x = graph.placeholder(np.dtype(np.float32), ("batch", 2))
    double = R.function(lambda x: x * 2.0)
    double(x).persist_op("doubled")
    session = ort.InferenceSession(str(R.export_onnx(tmp_path / "open.onnx")))
    (name,) = (i.name for i in session.get_inputs())
    np.testing.assert_array_equal(
        session.run(["doubled"], {name: np.ones((3, 2), np.float32)})[0], np.full((3, 2), 2.0)
    )
    with pytest.raises(GraphStateError, match="inputs without values"):
        R.run_local(graph)


def test_nothing_persisted():
    graph = Graph()
    R.t([1.0, 2.0]) * 2.0
    with pytest.raises(GraphStateError, match="persists nothing"):
        R.run_local(graph)


def test_nan_and_infinity_are_data():
    Graph()
    (R.t([np.nan, np.inf, -1.0]) * 2.0).persist_op("y")
    np.testing.assert_array_equal(R.run_local()["y"], [np.nan, np.inf, -2.0])


def test_a_failing_operator_is_told_with_the_users_line():
    graph = Graph()
    table = R.t(np.arange(4.0))
    with graph.label("Lookup_1"):
        table.gather(R.t([7]) * 1).persist_op("y")
    with pytest.raises(ComputeError) as caught:
        R.run_local()
    assert caught.value.problem.op.startswith("Lookup_1/Gather")
    assert "table.gather" in caught.value.problem.source
