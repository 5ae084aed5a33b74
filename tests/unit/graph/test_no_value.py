"""An op has no value while the script runs, and says so to whoever asks for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ravop as R
from ravop.errors import DTypeError


@pytest.mark.parametrize("ask", [np.array, np.asarray, float, int, lambda op: np.array([op, op])])
def test_asking_an_op_for_its_value_is_told(ask: Callable[[Any], Any]) -> None:
    R.Graph()
    with pytest.raises(DTypeError, match=r"no value: nothing is computed(?s:.*)test_no_value\.py"):
        ask(R.t([1.0]))


def test_a_graph_shows_its_name_id_and_state() -> None:
    graph = R.Graph(name="line")
    assert repr(graph) == f"<Graph 'line' ({graph.id}), defining>"
