"""Operators of opsets 7 to 20 mean here what they mean to ONNX Runtime, which takes them as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper
from onnx_models import Batch, model

RANDOM = np.random.default_rng(3)
X = RANDOM.standard_normal((2, 3, 4, 6)).astype(np.float32)
INTS = np.array([2, 1])
PER_CHANNEL = {name: RANDOM.uniform(0.5, 1.5, 3).astype(np.float32) for name in ("a", "b", "c", "d")}

CASES: dict[str, tuple[int, list[str], int, dict[str, Any], dict[str, Any]]] = {
    "Squeeze": (11, ["one"], 1, {"axes": [0]}, {"one": X[:1]}),
    "Unsqueeze": (7, ["x"], 1, {"axes": [1]}, {}),
    "ReduceSum": (11, ["x"], 1, {"axes": [1, -1], "keepdims": 0}, {}),
    "ReduceMean": (17, ["x"], 1, {"axes": [2]}, {}),
    "ReduceMax": (12, ["x"], 1, {}, {}),
    "ReduceL2": (13, ["x"], 1, {"axes": [0]}, {}),
    "Slice": (9, ["x"], 1, {"starts": [1, -5], "ends": [3, -1], "axes": [1, 3]}, {}),
    "Slice first": (7, ["x"], 1, {"starts": [0, 1], "ends": [1, 2]}, {}),
    "Clip": (7, ["x"], 1, {"min": -0.5, "max": 0.25}, {}),
    "Pad": (10, ["x"], 1, {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 2.5}, {}),
    "Pad 13": (13, ["x", "pads", "value"], 1, {},
               {"pads": np.array([0, 0, 0, 1, 0, 0, 0, 1]), "value": np.float32(-1).reshape(())}),
    "Dropout": (7, ["x"], 1, {"ratio": 0.4}, {}),
    "TopK": (7, ["x"], 2, {"k": 2, "axis": 1}, {}),
    "Split": (11, ["x"], 2, {"axis": 3, "split": [2, 4]}, {}),
    "Split equally": (11, ["x"], 2, {"axis": 2}, {}),
    "Split 13": (13, ["x"], 3, {"axis": 1}, {}),
    "Upsample": (7, ["x"], 1, {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 2.0]}, {}),
    "Upsample 9": (9, ["x", "scales"], 1, {"mode": "linear"}, {"scales": np.array([1, 1, 2, 3], np.float32)}),
    "Resize": (10, ["x", "scales"], 1, {"mode": "nearest"}, {"scales": np.array([1, 1, 2, 0.5], np.float32)}),
    "Resize 11": (11, ["x", "empty", "empty", "sizes"], 1, {"mode": "linear"},
                  {"empty": np.zeros(0, np.float32), "sizes": np.array([2, 3, 8, 9])}),
    "Softmax": (11, ["x"], 1, {"axis": 2}, {}),
    "LogSoftmax": (7, ["x"], 1, {}, {}),
    "Hardmax": (11, ["x"], 1, {"axis": 3}, {}),
    "BatchNormalization": (7, ["x", "a", "b", "c", "d"], 1, {"epsilon": 1e-3}, {}),
    "GridSample": (16, ["x", "grid"], 1, {"mode": "bilinear"}, {"grid": RANDOM.uniform(-1, 1, (2, 5, 5, 2)).astype(np.float32)}),
    "RoiAlign": (10, ["x", "rois", "zeros"], 1, {"output_height": 2, "output_width": 2},
                 {"rois": np.array([[0, 0, 3, 2], [1, 0, 5, 3]], np.float32), "zeros": np.zeros(2, np.int64)}),
    "Flatten": (7, ["x"], 1, {"axis": 2}, {}),
    "Scatter": (9, ["x", "places", "news"], 1, {"axis": 3},
                {"places": np.zeros((1, 1, 1, 2), np.int64), "news": X[:1, :1, :1, :2]}),
    "MaxPool": (8, ["x"], 1, {"kernel_shape": [2, 2], "strides": [2, 2]}, {}),
    "MaxPool up": (12, ["x"], 1, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]}, {}),
    "AveragePool": (11, ["x"], 1, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, {}),
    "DFT": (17, ["wave"], 1, {"axis": 1}, {"wave": X.reshape(2, 9, 8, 1)}),
    "Cast": (7, ["x"], 1, {"to": 7}, {}),
    "ThresholdedRelu": (10, ["x"], 1, {"alpha": 0.5}, {}),
    "Gelu": (20, ["x"], 1, {}, {}),
}  # fmt: skip
"""opset, inputs, number of outputs, attributes, arrays that are inputs beside x."""


def test_older_forms() -> None:
    batch = Batch()
    for label, (opset, inputs, count, attributes, arrays) in CASES.items():
        outputs = [f"y{number}" for number in range(count)]
        node = helper.make_node(label.split()[0], inputs, outputs, name="the_node", **attributes)
        data = {name: ({"x": X} | PER_CHANNEL | arrays)[name] for name in dict.fromkeys(inputs)}
        constants = {
            n: a
            for n, a in data.items()
            if n in arrays and (a.dtype.kind != "f" or n in ("scales", "empty", "value"))
        }
        given = {n: a for n, a in data.items() if n not in constants}
        kinds = {name: ("int64" if (label, name) in INTEGERS else "float32", None) for name in outputs}
        batch.add(label, model([node], given, kinds, constants, opset), given)
    batch.check()


INTEGERS = {("TopK", "y1"), ("Cast", "y0")}


def test_newer_operators_are_written_out() -> None:
    """Those that opset 21 lacks give what ONNX's reference evaluator gives."""
    from onnx.reference import ReferenceEvaluator

    batch = Batch()
    small = RANDOM.uniform(0.5, 1.5, (2, 4, 6)).astype(np.float32)
    arrays: dict[str, Any] = {"x": small, "w": RANDOM.standard_normal(6).astype(np.float32), "axis": np.array(1),
                              "new": small[:, :2], "at": np.array([1, 3])}  # fmt: skip
    for label, opset, inputs, attributes in (
        ("RMSNormalization", 23, ["x", "w"], {"axis": -1}),
        ("Attention", 23, ["x", "x", "x"], {"q_num_heads": 2, "kv_num_heads": 2, "is_causal": 1}),
        ("Swish", 24, ["x"], {"alpha": 0.7}),
        ("CumProd", 26, ["x", "axis"], {"exclusive": 1, "reverse": 1}),
        ("TensorScatter", 24, ["x", "new", "at"], {"axis": 1, "mode": "circular"}),
    ):
        given = {name: arrays[name] for name in dict.fromkeys(inputs) if name != "axis"}
        made = model([helper.make_node(label, inputs, ["y"], **attributes)], given, {"y": ("float32", None)},
                     {"axis": arrays["axis"]} if "axis" in inputs else {}, opset)  # fmt: skip
        (wanted,) = ReferenceEvaluator(made).run(None, given)
        batch.add(label, made, given, [wanted])
    batch.check()
    kinds = {op.value.producer().op_type for op in batch.graph.ops if op.value.producer() is not None}
    assert not kinds & {"RMSNormalization", "Attention", "Swish", "CumProd", "TensorScatter"}
