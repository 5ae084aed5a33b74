"""Operators in dtypes that ONNX Runtime has no kernels for, computed by those of wider dtypes: against NumPy's own arithmetic."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ravop.engine import Session

BINARY = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum, "Min": np.minimum, "Div": np.floor_divide,
    "Mod": np.mod, "BitwiseAnd": np.bitwise_and, "BitwiseXor": np.bitwise_xor, "Equal": np.equal, "Less": np.less,
}  # fmt: skip
INTEGERS = ("int8", "int16", "uint8", "uint16", "uint32")


def kind_of(dtype):
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def model(nodes, inputs, outputs, functions=()) -> bytes:
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions)
    return made.SerializeToString()


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_wrap_as_numpy_wraps_them(dtype):
    info = np.iinfo(dtype)
    random = np.random.default_rng(5)
    a = np.append(random.integers(0, info.max, 62, dtype, endpoint=True), [info.min, info.max]).astype(dtype)
    b = np.append(random.integers(1, info.max, 62, dtype, endpoint=True), [info.max, 3]).astype(dtype)
    kind, nodes, outputs = kind_of(dtype), [], {}
    for op_type in BINARY:
        nodes.append(helper.make_node(op_type, ["a", "b"], [op_type], name=f"{op_type}_0"))
        outputs[op_type] = (TensorProto.BOOL if op_type in ("Equal", "Less") else kind, [64])
    nodes.append(helper.make_node("Where", ["Less", "a", "b"], ["Where"], name="Where_0"))
    nodes.append(helper.make_node("BitwiseNot", ["a"], ["BitwiseNot"], name="BitwiseNot_0"))
    outputs |= {"Where": (kind, [64]), "BitwiseNot": (kind, [64])}
    session = Session(model(nodes, {"a": (kind, [64]), "b": (kind, [64])}, outputs))
    assert session.engine == "onnxruntime"
    got = session.run({"a": a, "b": b})
    with np.errstate(over="ignore"):
        expected = {op_type: function(a, b) for op_type, function in BINARY.items()}
    if info.min < 0:  # ONNX's division goes towards zero, and its remainder is floored like NumPy's
        expected["Div"] = np.trunc(a.astype(np.float64) / b).astype(dtype)
    expected |= {"Where": np.where(a < b, a, b), "BitwiseNot": ~a}
    for op_type, values in expected.items():
        assert got[op_type].dtype == values.dtype, op_type
        np.testing.assert_array_equal(got[op_type], values, err_msg=op_type)


def test_shifts_of_unsigned_integers():
    nodes = [helper.make_node("BitShift", ["a", "b"], ["c"], name="n", direction="LEFT")]
    ports = {name: (TensorProto.UINT16, [3]) for name in "ab"}
    session = Session(model(nodes, ports, {"c": (TensorProto.UINT16, [3])}))
    a, b = np.array([1, 40000, 65535], np.uint16), np.array([3, 1, 15], np.uint16)
    np.testing.assert_array_equal(session.run({"a": a, "b": b})["c"], a << b)
    assert session.lent == {"BitShift"}


def test_bfloat16_is_what_float32_rounds_to():
    bf16, kind = ml_dtypes.bfloat16, TensorProto.BFLOAT16
    random = np.random.default_rng(6)
    a, b = (random.normal(size=(8, 8)).astype(bf16) for _ in range(2))
    nodes = [helper.make_node("MatMul", ["a", "b"], ["c"], name="n0"), helper.make_node("Add", ["c", "b"], ["d"], name="n1"),
             helper.make_node("Tanh", ["d"], ["e"], name="n2")]  # fmt: skip
    session = Session(model(nodes, {"a": (kind, [8, 8]), "b": (kind, [8, 8])}, {"e": (kind, [8, 8])}))
    got = session.run({"a": a, "b": b})["e"]
    wide = np.float32
    c = (a.astype(wide) @ b.astype(wide)).astype(bf16)
    d = (c.astype(wide) + b.astype(wide)).astype(bf16)
    assert (session.fallback, session.engine, got.dtype) == ("", "onnxruntime", bf16)
    np.testing.assert_allclose(got.astype(wide), np.tanh(d.astype(wide)), rtol=2**-7)


def test_bodies_and_functions_are_lent_to_as_well():
    kind = TensorProto.BFLOAT16
    function = helper.make_function(
        "own", "Twice", ["p"], ["q"], [helper.make_node("Add", ["p", "p"], ["q"], name="f0")],
        [helper.make_opsetid("", 21)],
    )  # fmt: skip
    body = helper.make_graph(
        [helper.make_node("Mul", ["c_in", "x"], ["c_out"], name="b0")],
        "body",
        [helper.make_tensor_value_info("c_in", kind, [2]), helper.make_tensor_value_info("x", kind, [2])],
        [helper.make_tensor_value_info("c_out", kind, [2])],
    )
    nodes = [helper.make_node("Twice", ["start"], ["c"], name="n0", domain="own"),
             helper.make_node("Scan", ["c", "xs"], ["end"], name="n1", body=body, num_scan_inputs=1)]  # fmt: skip
    data = model(nodes, {"start": (kind, [2]), "xs": (kind, [3, 2])}, {"end": (kind, [2])}, [function])
    onnx.checker.check_model(data)
    session = Session(data)
    assert (session.engine, session.lent) == ("onnxruntime", {"Add", "Mul"})
    xs = np.array([[1, 2], [3, 0.5], [2, 2]], ml_dtypes.bfloat16)
    start = np.array([1.5, -1], ml_dtypes.bfloat16)
    got = session.run({"start": start, "xs": xs})["end"]
    np.testing.assert_array_equal(got.astype(np.float32), [18, -4])
