"""Branches, loops, functions, sequences and order of nodes, held against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, parser
from onnx_models import Batch

import ravop as R
from ravop.errors import UnsupportedOnnxError
from ravop.graph.dtypes import INT

X = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]], dtype=np.float32)

HEAD = '<ir_version: 10, opset_import: ["" : 21, "own" : 1]>\n'
MODELS: dict[str, str] = {
    "if reads outer values": """
        m (float[N, 3] x, bool c) => (float[N, 3] y) <float[1] one = {1.0}> {
            big = Mul(x, x)
            y = If (c) <then_branch = t () => (float[N, 3] a) { a = Add(big, one) },
                        else_branch = e () => (float[N, 3] b) { b = Identity(x) }>
        }""",
    "loop with carry and stack": """
        m (float[N, 3] x) => (float[N, 3] last, float[4, N, 3] all) <int64 four = {4}, float half = {0.5}> {
            last, all = Loop (four, , x) <body =
                b (int64 i, bool go, float[N, 3] before) => (bool again, float[N, 3] after, float[N, 3] out) {
                again = Identity(go)
                f = Cast <to = 1> (i)
                scaled = Mul(before, half)
                after = Add(scaled, f)
                out = Sub(after, x)
            }>
        }""",
    "loop that ends by itself": """
        m (float[N, 3] x) => (float[N, 3] last) <int64 many = {100}, bool yes = {1}, float limit = {50.0}> {
            last = Loop (many, yes, x) <body = b (int64 i, bool go, float[N, 3] before) => (bool again, float[N, 3] after) {
                after = Add(before, before)
                largest = ReduceMax <keepdims = 0> (after)
                again = Less(largest, limit)
            }>
        }""",
    "loop that grows": """
        m (float[N, 3] x) => (float[M, 3] last) <int64 three = {3}> {
            last = Loop (three, , x) <body = b (int64 i, bool go, float[K, 3] before) => (bool again, float[L, 3] after) {
                again = Identity(go)
                after = Concat <axis = 0> (before, x)
            }>
        }""",
    "scan backwards along the second axis": """
        m (float[N, 3] x, float[N] s) => (float[N] last, float[N, 3] all) {
            last, all = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1], scan_output_axes = [1],
                              body = b (float[N] before, float[N] one) => (float[N] after, float[N] out) {
                after = Add(before, one)
                out = Mul(after, one)
            }> (s, x)
        }""",
    "nodes in any order": """
        m (float[N, 3] x) => (float[N, 3] y) {
            y = Exp(a)
            b = Neg(x)
            a = Tanh(b)
        }""",
    "outputs that are inputs and initializers": """
        m (float[N, 3] x) => (float[N, 3] x, float[2] w, float[N, 3] y) <float[2] w = {1.0, 2.0}> { y = Relu(x) }""",
    "a function with an attribute": """
        m (float[N, 3] x) => (float[N, 3] y) { y = own.Leak <slope = 0.3> (x) }
        <domain: "own", opset_import: ["" : 21, "own" : 1]>
        Leak <slope> (a) => (b) { c = own.Half (a)  b = LeakyRelu <alpha: float = @slope> (c) }
        <domain: "own", opset_import: ["" : 21, "own" : 1]>
        Half (a) => (b) { two = Constant <value_float = 2.0> ()  b = Div (a, two) }""",
    "a sequence": """
        m (float[N, 3] x) => (float[M, 3] y, int64 n) <int64 one = {1}> {
            s = SplitToSequence <axis = 1, keepdims = 1> (x)
            t = SequenceErase (s, one)
            e = SequenceEmpty ()
            u = SequenceInsert (t, x)
            n = SequenceLength (u)
            a = SequenceAt (u, one)
            v = SequenceConstruct (a, a)
            z = ConcatFromSequence <axis = 0> (v)
            y = Expand (z, shape)
            shape = Constant <value_ints = [1, 3]> ()
        }""",
    "sizes computed from sizes": """
        m (float[N, 3] x) => (float[M] y) <int64 zero = {0}, int64[1] three = {3}, int64[1] first = {0}> {
            all = Shape (x)
            n = Gather (all, zero)
            v = Unsqueeze (n, first)
            size = Mul (v, three)
            y = Reshape (x, size)
        }""",
    "an if that is known": """
        m (float[N, 3] x) => (float[K, J] y) <int64 two = {2}> {
            r = Size (x)
            c = Greater (r, two)
            y = If (c) <then_branch = t () => (float[K, J] a) { a = Transpose <perm = [1, 0]> (x) },
                        else_branch = e () => (float b) { b = ReduceSum <keepdims = 0> (x) }>
        }""",
}


def read(text: str) -> onnx.ModelProto:
    return parser.parse_model(HEAD + text)


def test_models_give_what_onnx_runtime_gives() -> None:
    batch = Batch()
    for label, text in MODELS.items():
        made = read(text)
        given: dict[str, Any] = {"x": X, "c": np.array(True), "s": np.array([10, 20], np.float32)}
        given = {info.name: given[info.name] for info in made.graph.input}
        batch.add(label, made, given)
    batch.check()


def test_loops_and_branches_keep_their_shapes_and_gradients() -> None:
    graph = R.Graph("gradients")
    x = graph.input(X)
    last, stacked = R.import_onnx(read(MODELS["loop with carry and stack"]), x)
    assert (last.shape, stacked.shape) == ((2, 3), (4, 2, 3))
    taken = R.import_onnx(read(MODELS["if reads outer values"]), x, graph.input(np.array(True)))
    R.grad(taken.sum() + last.sum(), x).persist_op("dx")
    np.testing.assert_allclose(R.run_local(graph)["dx"], 2 * X + 0.5**4, rtol=1e-6)


def test_a_loop_that_carries_a_sequence_is_written_out_where_it_is_known() -> None:
    text = """
        m (float[N, 3] x, int64 count) => (float[M, 3] y) {
            start = SequenceEmpty <dtype = 1> ()
            all = Loop (count, , start) <body =
                b (int64 i, bool go, seq(float[N, 3]) before) => (bool again, seq(float[N, 3]) after) {
                again = Identity(go)
                f = Cast <to = 1> (i)
                one = Add(x, f)
                after = SequenceInsert(before, one)
            }>
            y = ConcatFromSequence <axis = 0> (all)
        }"""
    batch = Batch()
    batch.expect("known", R.import_onnx(read(text), X, np.array(3)), [np.concatenate([X, X + 1, X + 2])])
    with pytest.raises(UnsupportedOnnxError, match="how often it runs is not known"):
        R.import_onnx(read(text), X, batch.graph.placeholder(INT, ()))
    batch.graph.main.ir.inputs.pop()
    batch.check()


def test_lists_come_and_go_for_sequences_and_optionals() -> None:
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, ["A", 3]))
    negated = parser.parse_graph("b (float[A, 3] a) => (float[A, 3] c) { c = Neg (a) }")
    nodes = [helper.make_node("SequenceMap", ["s"], ["t"], body=negated),
             helper.make_node("OptionalHasElement", ["o"], ["has"])]  # fmt: skip
    optional = helper.make_optional_type_proto(helper.make_tensor_type_proto(1, [3]))
    graph = helper.make_graph(nodes, "m", [helper.make_value_info("s", sequence), helper.make_value_info("o", optional)],
                              [helper.make_value_info("t", sequence), helper.make_tensor_value_info("has", 9, [])])  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    batch = Batch()
    mapped, has = R.import_onnx(made, [X, X[:1]], None)
    batch.expect("first", mapped[0], [-X])
    batch.expect("second", mapped[1], [-X[:1]])
    batch.expect("has", has, [np.array(False)])
    batch.check()
