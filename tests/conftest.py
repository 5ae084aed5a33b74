"""Shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ravop.graph.graph import set_current_graph

ENVIRONMENT = ("RAVENVERSE_URL", "RAVENVERSE_TOKEN", "RAVENVERSE_HOME")


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees the developer's coordinator, or the graph that another test left."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    yield
    set_current_graph(None)
