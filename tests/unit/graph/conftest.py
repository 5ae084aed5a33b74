"""How whole graphs are checked: by ONNX's checker, after a round trip through bytes, on both engines."""

import numpy as np
import onnx
import pytest

from ravop.engine import Session
from ravop.graph.results import Results
from ravop.graph.serde import from_bytes, to_bytes


def compute(graph, rtol=1e-5, atol=1e-6):
    """What the graph persists, by name. Both engines must agree, and so must the model read from its bytes."""
    model = to_bytes(graph.model())
    onnx.checker.check_model(model, full_check=True)
    again = to_bytes(from_bytes(model))
    # onnx-ir does not read back the types of a function's inputs; everything else comes back as it was.
    assert again == (to_bytes(from_bytes(again)) if graph.functions else model)
    first = Session(model).run(graph.inputs)
    second = Session(again, engine="reference").run(graph.inputs)
    assert set(first) == {entry.value for entry in graph.persisted.values()}
    for name, value in first.items():
        assert value.dtype == second[name].dtype
        np.testing.assert_allclose(value, second[name], rtol=rtol, atol=atol)
    return Results(tuple(graph.persisted.values()), first)


@pytest.fixture(name="compute", scope="session")
def _compute():
    return compute
