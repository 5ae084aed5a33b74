"""Graphs run to their end by fake providers give what NumPy gives, and are advanced, shown and deleted as promised."""

from __future__ import annotations

import numpy as np
import pytest
from plans import CASES, Bench, chain, epochs, training, wide

from ravop.errors import (
    ArgumentError,
    BlobError,
    GraphCancelledError,
    GraphFailedError,
    GraphStateError,
    NotComputedError,
    Problem,
    UnknownGraphError,
    UnknownNameError,
)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_a_graph_gives_what_numpy_gives(bench: Bench, name: str, chunk: int) -> None:
    case = CASES[name]()
    bench.start(case, "g")
    bench.drive(case, chunk)
    assert bench.store.graph("g", bench.owner).state == "done"
    expected = case.expected()
    for persisted in case.persisted:
        np.testing.assert_allclose(bench.fetch("g", persisted.name), expected[persisted.value], rtol=1e-12)
    info = bench.store.progress("g", bench.owner, bench.now, detailed=True)
    assert (info.fraction, info.tasks_running, info.tasks_queued) == (1.0, 0, 0)
    assert info.steps_done == info.steps_total
    assert all(p.done for p in info.persisted)
