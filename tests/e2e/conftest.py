"""Fixtures with real processes; see `tests/support/processes.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Lab

import ravop as R


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """An empty laboratory: nothing runs yet; all that is started is ended."""
    lab = Lab(tmp_path)
    yield lab
    R.disconnect()
    lab.close()


HOLDER = """
import sys, ravop as R
R.initialize(providers=2)
print("ready")
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One embedded cluster for all tests that only use one; scripts started in this lab join it."""
    lab = Lab(tmp_path_factory.mktemp("embedded"))
    holder = lab.folder / "holder.py"
    holder.write_text(HOLDER)
    process = lab.script(holder, token="")
    process.wait_for("ready")
    yield lab
    process.write_end()
    process.result()
    lab.close()
