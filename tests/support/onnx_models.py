"""Small ONNX models for tests, and what ONNX Runtime and `R.import_onnx` compute with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import NodeProto, TensorProto, helper, numpy_helper

import ravop as R

Arrays = dict[str, np.ndarray[Any, Any]]


def info(name: str, like: Any) -> onnx.ValueInfoProto:
    """A value's type: of an array, or a pair of dtype and dims."""
    dtype, dims = (like.dtype, like.shape) if isinstance(like, np.ndarray) else like
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), dims)


def model(
    nodes: Sequence[NodeProto], inputs: dict[str, Any], outputs: dict[str, Any], initializers: Arrays | None = None,
    opset: int = 21, **more: Any,
) -> onnx.ModelProto:  # fmt: skip
    """A model; `inputs` and `outputs` are arrays, or pairs of dtype and dims, by name."""
    graph = helper.make_graph(
        nodes, "model", [info(*pair) for pair in inputs.items()], [info(*pair) for pair in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (initializers or {}).items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", opset), *more.pop("opset_imports", [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, **more)


def by_runtime(made: onnx.ModelProto, inputs: Arrays) -> list[Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


class Batch:
    """Many models imported into one graph, which is computed once and compared with what is expected of each."""

    def __init__(self) -> None:
        self.graph = R.Graph("models", seed=5)
        self._expected: dict[str, Any] = {}

    def add(self, label: str, made: Any, inputs: Arrays, expected: Sequence[Any] | None = None) -> None:
        found = R.import_onnx(made, **{name: self.graph.input(array) for name, array in inputs.items()})
        self.expect(label, found, by_runtime(made, inputs) if expected is None else expected)

    def expect(self, label: str, found: Any, expected: Sequence[Any]) -> None:
        for number, (op, wanted) in enumerate(
            zip(found if isinstance(found, tuple) else (found,), expected, strict=True)
        ):
            op.persist_op(f"{label} {number}")
            self._expected[f"{label} {number}"] = wanted

    def check(self) -> None:
        values = R.run_local(self.graph)
        for name, wanted in self._expected.items():
            found = np.asarray(values[name])
            assert found.shape == np.shape(wanted), name
            np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6, err_msg=name)


FLOAT = TensorProto.FLOAT
