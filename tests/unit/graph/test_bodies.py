"""Function bodies, computed by ONNX's reference evaluator, against the operators they stand for."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from ravop.graph.bodies import function_body, has_body
from ravop.graph.infer import TensorType

X = np.random.default_rng(3).normal(size=(2, 4, 3)).astype(np.float32)
V = np.linspace(0.5, 1.5, 4, dtype=np.float32)
CLASSES = np.array([[0, 2, 3], [1, 1, 0]])

CASES = [
    ("Elu", [X], {"alpha": 0.7}, 21, 1),
    ("Elu", [X], {}, 21, 1),
    ("Selu", [X], {}, 21, 1),
    ("Clip", [X, None, np.float32(0.3)], {}, 21, 1),
    ("Gelu", [X], {"approximate": "tanh"}, 21, 1),
    ("Shrink", [X], {"lambd": 0.2, "bias": 0.1}, 21, 1),
    ("LayerNormalization", [X, V[:3]], {"axis": -1, "epsilon": 1e-3}, 21, 3),
    ("Softmax", [X], {"axis": 1}, 21, 1),
    ("NegativeLogLikelihoodLoss", [X, CLASSES, V], {"ignore_index": 1}, 21, 1),
    ("SoftmaxCrossEntropyLoss", [X, CLASSES], {"reduction": "sum"}, 21, 2),
    ("ReduceLogSumExp", [X, np.array([1])], {"keepdims": 0}, 21, 1),
    ("Swish", [X], {"alpha": 0.5}, 24, 1),
    ("AffineGrid", [X[:, :2], np.array([2, 2, 2, 3])], {"align_corners": 1}, 21, 1),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_a_body_computes_what_the_operator_does(case):
    op_type, arrays, attributes, version, count = case
    types = [None if a is None else TensorType(a.dtype, a.shape) for a in map(_array, arrays)]
    body = function_body(op_type, types, attributes, version, outputs=[True] * count)
    assert not any(a.ref_attr_name for node in body.node for a in node.attribute)
    names = ["" if a is None else f"i{i}" for i, a in enumerate(arrays)]
    results = [f"o{i}" for i in range(count)]
    plain = onnx.helper.make_node(op_type, names, results, **attributes)
    body.domain, body.name = "test", op_type
    del body.input[len(arrays) :]  # the evaluator wants every input given
    call = onnx.helper.make_node(op_type, names, results, domain="test")
    feeds = {name: _array(a) for name, a in zip(names, arrays, strict=True) if a is not None}
    expected = _run(plain, feeds, results, version, [])
    for mine, theirs in zip(_run(call, feeds, results, version, [body]), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def _array(value):
    return None if value is None else np.asarray(value)


def _run(node, feeds, results, version, functions):
    ports = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in feeds.items()
    ]
    outputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in results]
    opsets = [onnx.helper.make_opsetid("", version), onnx.helper.make_opsetid("test", 1)]
    graph = onnx.helper.make_graph([node], "g", ports, outputs)
    model = onnx.helper.make_model(graph, opset_imports=opsets, functions=functions)
    return ReferenceEvaluator(model).run(None, feeds)


def test_what_has_no_body():
    assert function_body("Conv", [], {}) is None
    assert function_body("NoSuchOperator", [], {}) is None
    assert not has_body("Swish")
    assert has_body("Swish", 24)
    assert has_body("Softmax")
