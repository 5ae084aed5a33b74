"""Costs against arithmetic done by hand, and against what the engine takes."""

import time

import numpy as np
import pytest
from onnx import TensorProto, helper

import ravop as R
from ravop.engine import Session
from ravop.graph import Graph
from ravop.graph.check import check_model
from ravop.graph.control import function
from ravop.graph.cost import function_costs, graph_cost, graph_peak, node_cost, scan_length
from ravop.graph.serde import to_bytes


def graph_of(build, **shapes):
    """The checked model of `build(**ops)`, ops being inputs of these shapes."""
    graph = Graph("g")
    build(**{name: graph.input(np.ones(shape, np.float32)) for name, shape in shapes.items()}).persist_op(
        "out"
    )
    return check_model(to_bytes(graph.model()))


def onnx_flops(op_type, output, inputs, **attributes):
    names = [f"i{n}" for n in range(len(inputs))]
    node = helper.make_node(op_type, names, ["o"], **attributes)
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(names, inputs, strict=True)
    ]
    graph = helper.make_graph(
        [node], "g", infos, [helper.make_tensor_value_info("o", TensorProto.FLOAT, output)]
    )
    data = helper.make_model(
        graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]
    ).SerializeToString()
    return graph_cost(check_model(data).graph).flops


@pytest.mark.parametrize(
    ("op_type", "output", "inputs", "attributes", "flops"),
    [
        ("MatMul", (7, 2, 5), [(7, 2, 3), (3, 5)], {}, 2 * 7 * 2 * 3 * 5),
        ("Gemm", (2, 5), [(3, 2), (3, 5)], {"transA": 1}, 2 * 2 * 3 * 5),
        ("Conv", (2, 8, 6, 6), [(2, 4, 8, 8), (8, 4, 3, 3)], {}, 2 * (2 * 8 * 6 * 6) * 4 * 9),
        ("Conv", (2, 8, 6, 6), [(2, 4, 8, 8), (8, 2, 3, 3)], {"group": 2}, 2 * (2 * 8 * 6 * 6) * 2 * 9),
        ("ConvTranspose", (2, 4, 8, 8), [(2, 8, 6, 6), (8, 4, 3, 3)], {}, 2 * (2 * 8 * 6 * 6) * 4 * 9),
        ("Einsum", (4, 2, 5), [(4, 2, 3), (4, 3, 5)], {"equation": "bij,bjk->bik"}, 2 * 4 * 2 * 3 * 5),
        ("MaxPool", (1, 1, 2, 2), [(1, 1, 4, 4)], {"kernel_shape": [2, 2], "strides": [2, 2]}, 16),
        ("Add", (3, 4), [(3, 4), (4,)], {}, 12),
        ("Transpose", (4, 3), [(3, 4)], {}, 0),
        ("ReduceSum", (1, 1), [(3, 4)], {}, 12),
        ("Tanh", (3, 4), [(3, 4)], {}, 8 * 12),
    ],
)
def test_flops(op_type, output, inputs, attributes, flops):
    assert onnx_flops(op_type, output, inputs, **attributes) == flops


def test_a_loop_costs_its_body_as_often_as_it_runs():
    def build(w, xs):
        return R.scan(lambda c, x: R.scan(lambda c, y: (c @ w, None), c, x), w, xs)[0]

    model = graph_of(build, w=(4, 4), xs=(5, 6))
    assert graph_cost(model.graph).flops == 5 * 6 * 2 * 4**3
    (scan,) = [node for node in model.graph if node.op_type == "Scan"]
    assert scan_length(scan) == 5
    assert node_cost(scan).overhead > 5 * 6 * 3e-6


def test_a_call_costs_what_the_function_does():
    inner = function(lambda a: a @ a)
    outer = function(lambda a: inner(a) @ inner(a))
    model = graph_of(lambda a: outer(outer(a)), a=(8, 8))
    assert graph_cost(model.graph, function_costs(model)).flops == 2 * 3 * 2 * 8**3


def test_peak_memory_counts_what_lives_at_once():
    size = 4 * 100 * 100

    def chain(a):
        for _ in range(10):
            a = R.tanh(a)
        return a

    # Input, the value before and the value after; not all ten.
    assert graph_peak(graph_of(chain, a=(100, 100)).graph) == 3 * size

    def kept(a):
        first = R.tanh(a)
        return R.tanh(R.tanh(R.tanh(first))) + first

    assert graph_peak(graph_of(kept, a=(100, 100)).graph) == 4 * size


def test_estimates_are_of_the_engines_order():
    """For a plain machine of 20 GFLOP/s; this one may be many times as fast, or busy."""

    def build(x, w):
        return R.scan(lambda c, _: (R.tanh(c @ w), None), x, length=50)[0]

    model = graph_of(build, x=(256, 256), w=(256, 256))
    session = Session(to_bytes(model))
    feeds = {value.name: np.full((256, 256), 1e-3, np.float32) for value in model.graph.inputs}
    session.run(feeds)
    start = time.perf_counter()
    session.run(feeds)
    assert 0.01 < (time.perf_counter() - start) / graph_cost(model.graph).seconds(20.0) < 100
