"""Dtypes that ONNX Runtime's Python binding does not take, and operators that it has no kernel for."""

import math

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import ravop as R
from ravop.engine import Session
from ravop.errors import ComputeError
from ravop.graph.check import check_model
from ravop.graph.dtypes import as_dtype, from_elem_type, is_float, is_integer, promote, to_ir
from ravop.protocol.tensors import NARROW


def model(nodes, inputs, outputs, opset=25) -> bytes:
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=13).SerializeToString()


@pytest.mark.parametrize("name", NARROW)
def test_every_value_passes_through_a_session(name):
    """All bit patterns, NaN and infinities included, go in and come out, and mean what ml_dtypes says."""
    dtype = NARROW[name]
    kind = int(to_ir(dtype))
    values = np.arange(256 ** min(dtype.itemsize, 2), dtype=f"u{dtype.itemsize}").view(dtype)
    data = model(
        [helper.make_node("Identity", ["x"], ["y"], name="same"),
         helper.make_node("Cast", ["x"], ["z"], name="widen", to=TensorProto.FLOAT)],
        {"x": (kind, [None])},
        {"y": (kind, [None]), "z": (TensorProto.FLOAT, [None])},
    )  # fmt: skip
    check_model(data)
    got = Session(data).run({"x": values})
    assert got["y"].dtype == getattr(ml_dtypes, name)
    np.testing.assert_array_equal(got["y"].astype(np.float32), values.astype(np.float32))
    np.testing.assert_array_equal(got["z"], values.astype(np.float32))


def test_an_input_may_be_an_output_and_be_read_in_a_body():
    kind = TensorProto.BFLOAT16
    branch = helper.make_graph(
        [helper.make_node("Concat", ["x", "x"], ["twice"], axis=0)],
        "branch",
        [],
        [helper.make_tensor_value_info("twice", kind, [4])],
    )
    data = model(
        [helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch, else_branch=_renamed(branch))],
        {"c": (TensorProto.BOOL, []), "x": (kind, [2])},
        {"x": (kind, [2]), "y": (kind, [4])},
    )
    values = np.array([1.5, -2], ml_dtypes.bfloat16)
    session = Session(data)
    got = session.run({"c": np.array(True), "x": values})
    np.testing.assert_array_equal(got["x"], values)
    np.testing.assert_array_equal(got["y"], np.tile(values, 2))
    with pytest.raises(ComputeError, match="bfloat16"):
        session.run({"c": np.array(True), "x": values.astype(np.float32)})


def _renamed(graph: onnx.GraphProto) -> onnx.GraphProto:
    other = onnx.GraphProto()
    other.CopyFrom(graph)
    other.node[0].output[0] = other.output[0].name = "again"
    return other


def test_what_the_engine_has_no_kernel_for_is_computed_by_the_reference_evaluator():
    kind = TensorProto.DOUBLE
    data = model(
        [helper.make_node("Erf", ["x"], ["y"], name="n")], {"x": (kind, [3])}, {"y": (kind, [3])}, 21
    )
    session = Session(data)
    assert session.engine == "reference"
    assert "Erf" in session.fallback
    xs = np.array([-0.5, 0.0, 2.0])
    np.testing.assert_allclose(session.run({"x": xs})["y"], [math.erf(x) for x in xs], rtol=1e-7)
    with pytest.raises(ComputeError):
        session.run({"y": xs})


def test_other_models_stay_with_the_engine():
    kind = TensorProto.FLOAT
    data = model(
        [helper.make_node("Erf", ["x"], ["y"], name="n")], {"x": (kind, [3])}, {"y": (kind, [3])}, 21
    )
    session = Session(data)
    assert (session.engine, session.fallback) == ("onnxruntime", "")


def test_graphs_hold_narrow_dtypes():
    graph = R.Graph("narrow")
    values = {name: np.arange(4).astype(dtype) for name, dtype in NARROW.items()}
    for name, array in values.items():
        op = R.t(array, dtype=name)
        assert op.dtype == array.dtype
        op.persist_op(name)
        op.astype("float32").persist_op(f"{name} widened")
        R.t(array.astype(np.float32)).astype(name).persist_op(f"{name} narrowed")
    held = graph.model()
    assert held.opset_imports[""] == 25
    check_model(R.graph.serde.to_bytes(held))
    got = R.run_local(graph)
    for name, array in values.items():
        for key in (name, f"{name} narrowed"):
            assert got[key].dtype == array.dtype, key
            np.testing.assert_array_equal(got[key].astype(np.float32), array.astype(np.float32), err_msg=key)
        np.testing.assert_array_equal(got[f"{name} widened"], array.astype(np.float32), err_msg=name)


def test_graphs_without_them_stay_in_the_usual_opset():
    graph = R.Graph("plain")
    R.t(np.ones(2), dtype="bfloat16").astype("float32").persist_op("x")
    assert graph.model().opset_imports[""] == 21


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("bfloat16", "float16", "float32"), ("bfloat16", "float32", "float32"), ("bfloat16", "float64", "float64"),
     ("bfloat16", "int64", "bfloat16"), ("float8_e5m2", "float8_e4m3fn", "float32"), ("int4", "int32", "int32"),
     ("int4", "uint4", "int8"), ("uint4", "int8", "int8"), ("int4", "uint8", "int16"), ("bool", "int2", "int2")],
)  # fmt: skip
def test_promotion(first, second, expected):
    assert promote(as_dtype(first), as_dtype(second)) == as_dtype(expected)
    assert promote(as_dtype(second), as_dtype(first)) == as_dtype(expected)


def test_kinds_of_dtypes():
    for name, dtype in NARROW.items():
        assert is_float(dtype) == ("float" in name)
        assert is_integer(dtype) == ("int" in name)
        assert from_elem_type(int(to_ir(dtype))) == dtype
