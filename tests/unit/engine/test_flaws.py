"""Products that ONNX Runtime's optimizers would get wrong are those of NumPy all the same."""

import numpy as np
import onnx
from onnx import TensorProto, helper

import ravop as R
from ravop.engine import Session
from ravop.engine.flaws import flawed
from ravop.graph.serde import to_bytes

RNG = np.random.default_rng(0)


def test_a_transposed_matrix_times_a_vector():
    x, v = RNG.normal(size=(20, 4)).astype(np.float32), RNG.normal(size=20).astype(np.float32)
    graph = R.Graph()
    (R.transpose(graph.input(x)) @ graph.input(v)).persist_op("product")
    np.testing.assert_allclose(R.run_local()["product"], x.T @ v, rtol=1e-5, atol=1e-5)


def test_the_same_where_the_model_tells_no_shapes():
    nodes = [helper.make_node("Transpose", ["x"], ["t"]), helper.make_node("MatMul", ["t", "v"], ["y"])]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [5, 3]), ("v", [5]))
    ]
    made = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    x, v = RNG.normal(size=(5, 3)).astype(np.float32), RNG.normal(size=5).astype(np.float32)
    (got,) = Session(model.SerializeToString()).run({"x": x, "v": v}).values()
    np.testing.assert_allclose(got, x.T @ v, rtol=1e-5, atol=1e-5)


def test_a_constant_factor_keeps_its_digits():
    a, b = RNG.normal(size=(3, 5)), RNG.normal(size=(5, 2))
    graph = R.Graph()
    ((graph.input(a) / 3) @ graph.input(b)).persist_op("product")
    np.testing.assert_allclose(R.run_local()["product"], (a / 3) @ b, rtol=1e-13)


def test_constants_of_two_bits_are_computed():
    graph = R.Graph()
    x = graph.tensor(np.array([-2.0, -1.0, 0.0, 1.0], np.float32))
    R.astype(x, "int2").persist_op("narrow")
    R.astype(R.astype(x, "int2"), "float32").persist_op("wide")
    values = R.run_local()
    assert values["narrow"].astype(int).tolist() == [-2, -1, 0, 1]
    assert values["wide"].tolist() == [-2, -1, 0, 1]


def test_optimizers_stay_where_they_do_no_harm():
    graph = R.Graph()
    x = graph.input(RNG.normal(size=(4, 3)).astype(np.float32))
    (R.transpose(x) @ (x * 2)).persist_op("product")
    assert flawed([onnx.load_from_string(to_bytes(graph.model())).graph]) == []
