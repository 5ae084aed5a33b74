"""An embedded cluster of its own for a benchmark: real processes, a new data folder."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import ravop as R

OUTSIDE = ("RAVENVERSE_URL", "RAVENVERSE_TOKEN")


@contextmanager
def cluster(providers: int) -> Iterator[None]:
    """Connected to a coordinator with so many providers, ended with the `with`."""
    with tempfile.TemporaryDirectory() as home, mock.patch.dict(os.environ, {"RAVENVERSE_HOME": home}):
        for name in OUTSIDE:
            os.environ.pop(name, None)
        R.initialize(providers=providers)
        try:
            yield
        finally:
            R.disconnect()


def seconds_to_run() -> float:
    """Of the current graph, activated before, from `execute` until it is done."""
    start = time.perf_counter()
    R.execute()
    R.track_progress()
    return time.perf_counter() - start
