"""How operators are checked: on both engines, against NumPy, and against what the op said about itself."""

import numpy as np
import onnx
import pytest

from ravop.engine import ENGINES, Session
from ravop.graph.serde import to_bytes


def evaluate(*ops, rtol=2e-5, atol=2e-6, engines=ENGINES):
    """The values of ops of one graph. Both engines must agree, and every value must have its op's dtype and shape."""
    graph = ops[0].graph
    for number, op in enumerate(ops):
        op.persist_op(f"op{number}")
    model = to_bytes(graph.model())
    onnx.checker.check_model(model, full_check=True)
    results = [Session(model, engine=engine).run(graph.inputs) for engine in engines]
    found = []
    for number, op in enumerate(ops):
        name = graph.persisted[f"op{number}"].value
        value, other = results[0][name], results[-1][name]
        assert value.dtype == op.dtype == other.dtype, (op, value.dtype, other.dtype)
        assert value.ndim == op.ndim, (op, value.shape)
        assert all(told in (None, is_) for told, is_ in zip(op.shape, value.shape, strict=True)), (
            op,
            value.shape,
        )
        np.testing.assert_allclose(value, other, rtol=rtol, atol=atol, err_msg=repr(op))
        found.append(value)
    return found


@pytest.fixture(name="evaluate", scope="session")
def _evaluate():
    return evaluate
