"""`Session` against NumPy, on both engines, and its typed errors."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ravop.engine import ENGINES, Session
from ravop.errors import ComputeError, InvalidModelError, OutOfMemoryError
from ravop.graph.serde import IR_VERSION

FLOAT = onnx.TensorProto.FLOAT
INT64 = onnx.TensorProto.INT64


def model(text: str) -> bytes:
    proto = onnx.parser.parse_model(f'<ir_version: {IR_VERSION}, opset_import: ["" : 21]> {text}')
    return proto.SerializeToString()


def scan_model(reshape_to: int) -> bytes:
    """Running sums of xs; the body reshapes to `reshape_to` elements, which fails unless that is 3."""
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["c", "x"], ["c2"], name="layer/Add_7"),
         onnx.helper.make_node("Reshape", ["c2", "to"], ["y"], name="layer/Reshape_8")],
        "body",
        [onnx.helper.make_tensor_value_info("c", FLOAT, [3]), onnx.helper.make_tensor_value_info("x", FLOAT, [3])],
        [onnx.helper.make_tensor_value_info("c2", FLOAT, [3]), onnx.helper.make_tensor_value_info("y", FLOAT, None)],
    )  # fmt: skip
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Scan", ["c0", "xs"], ["c1", "ys"], name="Scan_9", body=body, num_scan_inputs=1)],
        "main",
        [onnx.helper.make_tensor_value_info("c0", FLOAT, [3]), onnx.helper.make_tensor_value_info("xs", FLOAT, [4, 3]),
         onnx.helper.make_tensor_value_info("to", INT64, [1])],
        [onnx.helper.make_tensor_value_info("c1", FLOAT, [3]), onnx.helper.make_tensor_value_info("ys", FLOAT, None)],
    )  # fmt: skip
    proto = onnx.helper.make_model(
        graph, ir_version=IR_VERSION, opset_imports=[onnx.helper.make_opsetid("", 21)]
    )
    return proto.SerializeToString()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_loop_gives_what_numpy_gives(engine):
    session = Session(scan_model(3), engine=engine)
    xs = np.arange(12, dtype=np.float32).reshape(4, 3)
    got = session.run({"c0": np.ones(3, np.float32), "xs": xs, "to": np.array([3]), "unused": xs})
    assert session.inputs == ["c0", "xs", "to"]
    np.testing.assert_array_equal(got["ys"], 1 + np.cumsum(xs, 0))
    np.testing.assert_array_equal(got["c1"], 1 + xs.sum(0))


@pytest.mark.parametrize("engine", ENGINES)
def test_scalars_come_back_as_arrays(engine):
    got = Session(
        model("f (float[N] x) => (float y) { y = ReduceSum <keepdims = 0> (x) }"), engine=engine
    ).run({"x": np.ones(5, np.float32)})
    assert isinstance(got["y"], np.ndarray)
    assert got["y"].shape == ()


def test_the_failing_node_inside_a_loop_is_named():
    with pytest.raises(ComputeError) as caught:
        Session(scan_model(4)).run(
            {"c0": np.ones(3, np.float32), "xs": np.ones((4, 3), np.float32), "to": np.array([4])}
        )
    assert caught.value.problem.op == "layer/Reshape_8"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_input_is_named(engine):
    session = Session(model("f (float[2] x, float[2] y) => (float[2] z) { z = Add(x, y) }"), engine=engine)
    with pytest.raises(ComputeError, match="needs more inputs") as caught:
        session.run({"x": np.ones(2, np.float32)})
    assert caught.value.problem.expected == "x, y"


@pytest.mark.parametrize("engine", ENGINES)
def test_inputs_that_do_not_fit_are_typed_errors(engine):
    session = Session(
        model("f (float[N, 2] x, float[2, M] y) => (float[N, M] z) { z = MatMul(x, y) }"), engine=engine
    )
    with pytest.raises(ComputeError):
        session.run({"x": np.ones((3, 2), np.float32), "y": np.ones((3, 3), np.float32)})


def test_what_does_not_fit_in_memory_is_its_own_error():
    huge = model("f (int64[1] n) => (float[N] y) { y = ConstantOfShape(n) }")
    with pytest.raises(OutOfMemoryError):
        Session(huge).run({"n": np.array([1 << 46])})


@pytest.mark.parametrize("engine", ENGINES)
def test_an_unknown_operator_is_refused_when_loading(engine):
    unknown = ir.Model(ir.Graph((), (), nodes=(), opset_imports={"": 21}), ir_version=IR_VERSION)
    proto = ir.to_proto(unknown)
    proto.graph.node.append(onnx.helper.make_node("NoSuchOperator", [], ["y"]))
    with pytest.raises(ComputeError):
        Session(proto.SerializeToString(), engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_bytes_that_are_no_model_are_refused(engine):
    with pytest.raises((InvalidModelError, ComputeError)):
        Session(b"not a model", engine=engine)
