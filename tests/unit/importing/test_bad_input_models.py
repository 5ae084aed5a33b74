"""Models and inputs that cannot be imported: each is refused by an error of its kind that names what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx_models import model

import ravop as R
from ravop.errors import (
    ArgumentError,
    DTypeError,
    InvalidModelError,
    RavenError,
    ShapeError,
    UnsupportedOnnxError,
)
from ravop.graph.dtypes import FLOAT, INT

X = np.ones((2, 3), np.float32)
NODE = helper.make_node


def one(op_type: str, *inputs: str, opset: int = 21, **more: Any) -> onnx.ModelProto:
    """A model of one node, named the_node, from x (N, 3) to y."""
    node = NODE(op_type, list(inputs or ["x"]), ["y"], name="the_node", **more)
    extra = [helper.make_opsetid(more["domain"], 1)] if more.get("domain") else []
    return model(
        [node], {"x": ("float32", ["N", 3])}, {"y": ("float32", None)}, opset=opset, opset_imports=extra
    )


def with_tensor(**fields: Any) -> onnx.ModelProto:
    made = one("Add", "x", "w")
    made.graph.initializer.append(TensorProto(name="w", **fields))
    return made


def parsed(text: str) -> onnx.ModelProto:
    return parser.parse_model('<ir_version: 10, opset_import: ["" : 21, "own" : 1]>' + text)


def constants(text: str, **values: list[int]) -> onnx.ModelProto:
    made = [f"{name} = Constant <value_ints = {numbers}> ()" for name, numbers in values.items()]
    return parsed(f"m (float[2, 3] x) => (float[] y) {{ {' '.join(made)} {text} }}")


def looped(count: str, takes: str, body: str, gives: str = "bool c") -> onnx.ModelProto:
    return parsed(
        f"m (float[2, 3] x) => (float[] y) {{ {count}  y = Loop (n, , x) <body = b ({takes}) => ({gives}) {{ {body} }}> }}"
    )


def several() -> onnx.ModelProto:
    nodes = [NODE("Frobnicate", ["x"], ["a"], name="first_one"),
             NODE("Normalizer", ["a"], ["b"], name="second_one", domain="ai.onnx.ml"),
             NODE("StringConcat", ["b", "b"], ["y"], name="third_one")]  # fmt: skip
    return model(nodes, {"x": X}, {"y": X}, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3)])


def doubling(levels: int, times: int = 2) -> onnx.ModelProto:
    """A function of one node, one that calls it so many times, and so on."""
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    functions = [helper.make_function("own", "f0", ["a"], ["b"], [NODE("Neg", ["a"], ["b"])], opsets)]
    for level in range(1, levels):
        names = ["a", *(f"c{number}" for number in range(times - 1)), "b"]
        calls = [NODE(f"f{level - 1}", [names[n]], [names[n + 1]], domain="own") for n in range(times)]
        functions.append(helper.make_function("own", f"f{level}", ["a"], ["b"], calls, opsets))
    made = one(f"f{levels - 1}", domain="own")
    made.functions.extend(functions)
    return made


def lying(dims: list[int], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    nodes = [NODE("MatMul", ["x", "w"], ["middle"], name="product"), NODE("Relu", ["middle"], ["y"])]
    made = model(nodes, {"x": X}, {"y": ("float32", None)}, {"w": np.ones((3, 4), np.float32)})
    made.graph.value_info.append(helper.make_tensor_value_info("middle", kind, dims))
    return made


PAIR = model(
    [NODE("Add", ["a", "b"], ["y"])],
    {"a": ("float32", ["N", 3]), "b": ("float32", ["N", 1])},
    {"y": ("float32", None)},
)
WHOLE = model(
    [NODE("Gather", ["w", "i"], ["y"])], {"i": ("int64", ["N"])}, {"y": ("float32", None)}, {"w": X}
)
RESHAPE = model([NODE("Reshape", ["x", "shape"], ["y"], name="the_node")],
                {"x": X, "shape": ("int64", [2])}, {"y": ("float32", None)})  # fmt: skip

MODELS: dict[str, tuple[Callable[[], Any], type[RavenError], str]] = {
    "no model": (lambda: 7, ArgumentError, "int"),
    "no bytes of a model": (lambda: b"\x00garbage", InvalidModelError, "not an ONNX model"),
    "nothing": (lambda: b"", InvalidModelError, "nothing of a model"),
    "no such file": (lambda: "/no/such/model.onnx", InvalidModelError, "model.onnx"),
    "all unknown nodes are named": (several, UnsupportedOnnxError, r"3 nodes(.|\n)*first_one.*second_one.*third_one"),
    "an equation that ONNX never returns from": (
        lambda: one("Einsum", equation="....i->i"), UnsupportedOnnxError, "the_node.*equation",
    ),
    "an unknown domain": (lambda: one("FusedGemm", domain="com.microsoft"), UnsupportedOnnxError, "the_node.*com.microsoft"),
    "an operator of a later opset": (lambda: one("Gelu", opset=19), UnsupportedOnnxError, "the_node.*opset 19"),
    "the form of an opset that is too old": (lambda: one("Add", "x", "x", opset=6, broadcast=1),
                                             UnsupportedOnnxError, "the_node"),
    "an opset of the future": (lambda: one("Relu", opset=99), UnsupportedOnnxError, "99"),
    "an attribute of another kind": (lambda: one("LeakyRelu", alpha="much"), InvalidModelError, "alpha"),
    "an unknown attribute": (lambda: one("Relu", colour=3), InvalidModelError, "colour"),
    "an axis that is none": (lambda: one("Softmax", axis=7), ShapeError, "the_node"),
    "a cycle": (lambda: parsed("m (float[2, 3] x) => (float[2, 3] y) { a = Add (x, b)  b = Relu (a)  y = Neg (x) }"),
                InvalidModelError, "cycle"),
    "a value that nothing makes": (lambda: one("Add", "x", "ghost"), InvalidModelError, "ghost"),
    "a value made twice": (lambda: parsed("m (float[2, 3] x) => (float[2, 3] y) { y = Neg (x)  y = Exp (x) }"),
                           InvalidModelError, "y"),
    "a function that calls itself": (
        lambda: parsed('m (float[2, 3] x) => (float[2, 3] y) { y = own.f (x) } '
                       '<domain: "own", opset_import: ["" : 21, "own" : 1]> f (a) => (b) { b = own.f (a) }'),
        InvalidModelError, "recursive"),
    "fewer bytes than dims": (lambda: with_tensor(data_type=1, dims=[3], raw_data=b"1234"), InvalidModelError, "'w'"),
    "negative dims": (lambda: with_tensor(data_type=1, dims=[-3]), InvalidModelError, "'w'"),
    "huge dims": (lambda: with_tensor(data_type=1, dims=[2**40, 2**20]), InvalidModelError, "'w'"),
    "no such type": (lambda: with_tensor(data_type=77, dims=[1], raw_data=b"1234"), InvalidModelError, "'w'"),
    "text": (lambda: with_tensor(data_type=8, dims=[1], string_data=[b"a"]), UnsupportedOnnxError, "'w'"),
    "data elsewhere": (lambda: with_tensor(data_type=1, dims=[3], data_location=1), InvalidModelError, "another file"),
    "no regular file": (lambda: "/dev/zero", InvalidModelError, "no regular file"),
    "a path with a zero byte": (lambda: "a\x00b", InvalidModelError, "null"),
    "names that are no text": (lambda: one("Relu").SerializeToString().replace(b"the_node", b"the\xff\xfe\xfdde"),
                               InvalidModelError, "."),
    "a dtype that there is not": (lambda: one("Cast", to=99), DTypeError, "99"),
    "a negative size": (lambda: constants("y = Expand (x, a)", a=[-4, 2, 3]), ShapeError, "-4"),
    "a size beyond all memory": (lambda: constants("y = Tile (x, a)", a=[2**41, 1]), ShapeError, str(2**42)),
    "a sequence of a thousand million parts": (
        lambda: constants("big = ConstantOfShape (a)  s = SplitToSequence (big)  y = SequenceAt (s, b)", a=[2**30], b=[0]),
        UnsupportedOnnxError, "too long"),
    "parts of no size": (lambda: constants("parts = SplitToSequence (x, a)  y = SequenceAt (parts, b)", a=[-1, 3], b=[0]),
                         InvalidModelError, "no size"),
    "an axis of a sequence that is none": (
        lambda: constants("parts = SplitToSequence <axis = 7> (x)  y = SequenceAt (parts, a)", a=[0]),
        InvalidModelError, "SplitTo"),
    "a condition that is no truth value": (
        lambda: parsed("m (float[2, 3] x) => (float[2, 3] y) {"
                       " y = If (x) <then_branch = t () => (float[2, 3] p) { p = Relu (x) },"
                       " else_branch = e () => (float[2, 3] q) { q = Neg (x) }> }"), InvalidModelError, "condition"),
    "a body that takes too little": (
        lambda: looped("n = Constant <value = int64 {5}> ()", "int64 i", "c = Constant <value_int = 1> ()"),
        InvalidModelError, "carry"),
    "a body that gives too little": (lambda: looped("n = Constant <value = int64 {5}> ()", "int64 i, bool d, float[2, 3] a",
                                                    "c = Identity (d)"), InvalidModelError, "carry"),
    "several trip counts": (
        lambda: looped("n = Constant <value = int64[2] {5, 1}> ()", "int64 i, bool d, float[2, 3] a",
                       "c = Identity (d)  r = Relu (a)", "bool c, float[2, 3] r"), InvalidModelError, "trip count"),
    "settings for more than is there": (
        lambda: parsed("m (float[2, 3] x) => (float[2, 3] y) { y = Scan <num_scan_inputs = 1, scan_input_axes = [0, 0, 0],"
                       " body = b (float[3] a) => (float[3] r) { r = Relu (a) }> (x) }"), InvalidModelError, "Scan"),
    "functions that double at each level": (lambda: doubling(24), InvalidModelError, "too many nodes(.|\\n)*every call"),
    "functions in functions without end": (lambda: doubling(120, 1), InvalidModelError, "too deeply"),
    "a shape that lies": (lambda: lying([2, 5]), InvalidModelError, "'middle'"),
    "a rank that lies": (lambda: lying([2, 4, 1]), InvalidModelError, "'middle'"),
    "a dtype that lies": (lambda: lying([2, 4], TensorProto.INT64), InvalidModelError, "'middle'"),
}  # fmt: skip

ONES = np.ones((8, 8), np.float32)
RECURRENT = {"x": ONES.reshape(2, 4, 8)}
ATTRIBUTES: dict[str, tuple[str, dict[str, Any], dict[str, Any], list[tuple[int, ...]], str]] = {
    "no groups": ("Conv", {"group": 0}, {"x": ONES.reshape(1, 4, 4, 4)}, [(4, 4, 2, 2)], "1 or more"),
    "groups that do not divide": ("Conv", {"group": 3}, {"x": ONES.reshape(1, 4, 4, 4)}, [(4, 4, 2, 2)], "4 channels"),
    "an unknown padding": ("Conv", {"auto_pad": "SAME"}, {"x": ONES.reshape(1, 4, 4, 4)}, [(4, 4, 2, 2)], "SAME_UPPER"),
    "an axis beyond numbers": ("Concat", {"axis": 2**40}, {"x": X}, [(2, 3)], "-32 to 32"),
    "an axis that 32 bits cut to 0": ("Softmax", {"axis": 2**32}, {"x": X}, [], "-32 to 32"),
    "an axis beyond the rank": ("LpNormalization", {"axis": 5}, {"x": X}, [], "axis 5 of 2"),
    "a norm that there is not": ("LpNormalization", {"p": 3}, {"x": X}, [], "1 to 2"),
    "an unknown activation": ("LSTM", {"hidden_size": 4, "activations": ["Foo", "Tanh", "Tanh"]}, RECURRENT,
                              [(1, 16, 8), (1, 16, 4)], "Sigmoid"),
    "too few activations": ("GRU", {"hidden_size": 4, "activations": ["Tanh"]}, RECURRENT, [(1, 12, 8), (1, 12, 4)],
                            "2 activations"),
    "another number of hidden units": ("LSTM", {"hidden_size": 5}, RECURRENT, [(1, 16, 8), (1, 16, 4)], "16 rows in W"),
    "an unknown interpolation": ("GridSample", {"mode": "sharp"}, {"x": ONES.reshape(1, 1, 8, 8)}, [(1, 2, 2, 2)], "cubic"),
    "an unknown form": ("Gelu", {"approximate": "erf"}, {"x": X}, [], "tanh"),
    "an unknown order": ("DepthToSpace", {"blocksize": 2, "mode": "RCD"}, {"x": ONES.reshape(1, 4, 4, 4)}, [], "DCR"),
}  # fmt: skip


@pytest.mark.parametrize("case", ATTRIBUTES)
def test_values_that_an_attribute_cannot_have_are_refused_at_import(case: str) -> None:
    op_type, attributes, given, shapes, text = ATTRIBUTES[case]
    held = {f"w{number}": np.ones(shape, np.float32) for number, shape in enumerate(shapes)}
    nodes = [NODE(op_type, [*given, *held], ["y"], name="the_node", **attributes)]
    R.Graph("bad")
    with pytest.raises((InvalidModelError, ShapeError), match=text) as caught:
        R.import_onnx(model(nodes, given, {"y": ("float32", None)}, held), *given.values())
    assert "the_node" in caught.value.problem.op


def test_interpolations_have_the_names_of_their_version() -> None:
    nodes = [NODE("GridSample", ["x", "w"], ["y"], name="the_node", mode="bilinear")]
    x, w = ONES.reshape(1, 1, 8, 8), np.zeros((1, 2, 2, 2), np.float32)
    R.Graph("versions")
    found = R.import_onnx(model(nodes, {"x": x}, {"y": ("float32", None)}, {"w": w}, opset=16), x)
    assert found.shape == (1, 1, 2, 2)
    with pytest.raises(InvalidModelError, match="linear, nearest, cubic"):
        R.import_onnx(model(nodes, {"x": x}, {"y": ("float32", None)}, {"w": w}, opset=21), x)


Give = Callable[[R.Graph], tuple[tuple[Any, ...], dict[str, Any]]]
INPUTS: dict[str, tuple[onnx.ModelProto, Give, type[RavenError], str]] = {
    "too few": (PAIR, lambda g: ((X,), {}), ArgumentError, "'b'"),
    "too many": (PAIR, lambda g: ((X, X, X), {}), ArgumentError, "3 inputs"),
    "an unknown name": (PAIR, lambda g: ((X,), {"c": X}), ArgumentError, "'c'"),
    "one twice": (PAIR, lambda g: ((X,), {"a": X, "b": X}), ArgumentError, "'a' twice"),
    "another rank": (PAIR, lambda g: ((X[0], X[:, :1]), {}), ShapeError, "'a'"),
    "another size": (PAIR, lambda g: ((X, X), {}), ShapeError, "'b'"),
    "two sizes of one name": (PAIR, lambda g: ((X, X[:1, :1]), {}), ShapeError,
                              r"'N'(.|\n)*2, as in 'a'(.|\n)*1 in axis 0 of 'b'"),
    "whole numbers for fractions": (PAIR, lambda g: ((X.astype(np.int64), X[:, :1]), {}), DTypeError, "'a'"),
    "fractions for whole numbers": (WHOLE, lambda g: (([0.5],), {}), DTypeError, "'i'"),
    "narrow integers": (WHOLE, lambda g: ((np.array([1], np.int32),), {}), DTypeError, "int64"),
    "an op of another dtype": (WHOLE, lambda g: ((g.placeholder(FLOAT, (2,)),), {}), DTypeError, "'i'"),
    "no tensor": (PAIR, lambda g: ((X, [[1], [1, 2]]), {}), DTypeError, "'b'"),
    "a shape that stays unknown": (RESHAPE, lambda g: ((X, g.placeholder(INT, (2,))), {}), UnsupportedOnnxError, "the_node"),
}  # fmt: skip


@pytest.mark.parametrize("case", MODELS)
def test_bad_models_are_refused_by_name(case: str) -> None:
    make, kind, text = MODELS[case]
    R.Graph("bad")
    with pytest.raises(kind, match=text) as caught:
        R.import_onnx(make(), X)
    assert "test_bad_input_models.py" in caught.value.problem.source
    assert not R.parameters()


@pytest.mark.parametrize("case", INPUTS)
def test_bad_inputs_are_refused_by_name(case: str) -> None:
    made, give, kind, text = INPUTS[case]
    positional, named = give(R.Graph("bad"))
    with pytest.raises(kind, match=text) as caught:
        R.import_onnx(made, *positional, **named)
    assert "test_bad_input_models.py" in caught.value.problem.source


BOMBS = {
    "dilations": "w = Constant <value = float[1, 1, 2] {1, 1}> ()"
    "  y = Conv <dilations = [68719476736], pads = [68719476736, 0]> (v, w)",
    "a window": "y = MaxPool <kernel_shape = [8589934592], pads = [4294967296, 4294967296], strides = [1073741824]> (v)",
    "an equation": "r = Constant <value_floats = [1.0, 2.0, 3.0]> ()  s = Expand (r, n)  t = Flatten <axis = 0> (s)"
    '  u = Squeeze (t)  y = Einsum <equation = "a,b,c,d,e,f->"> (u, u, u, u, u, u)',
}


@pytest.mark.parametrize("case", BOMBS)
def test_what_attributes_make_large_is_not_computed_at_import(case: str) -> None:
    R.Graph("bomb")
    start = (
        "v = Constant <value = float[1, 1, 5] {1, 2, 3, 4, 5}> ()  n = Constant <value_ints = [100, 3]> ()"
    )
    found = R.import_onnx(parsed(f"m (float[2, 3] x) => (float[] y) {{ {start}  {BOMBS[case]} }}"), X)
    assert isinstance(found, R.Op)


def test_a_known_index_out_of_range_is_left_to_the_run() -> None:
    R.Graph("outside")
    found = R.import_onnx(constants("s = Shape (x)  y = Gather <axis = 0> (s, a)", a=[7]), X)
    found.persist_op("y")
    with pytest.raises(RavenError):
        R.run_local()


def test_a_model_is_not_changed_by_reading_it() -> None:
    made = model([NODE("Relu", ["a"], ["y"]), NODE("Add", ["x", "w"], ["a"])], {"x": X}, {"y": ("float32", None)},
                 {"w": np.ones(3, np.float32)})  # fmt: skip
    before = made.SerializeToString()
    R.Graph("kept")
    R.import_onnx(made, X)
    assert made.SerializeToString() == before
    assert numpy_helper.to_array(made.graph.initializer[0]).sum() == 3
