"""Blobs of 64 MiB up to and down from a coordinator over loopback. `python -m benchmarks blobs`."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

from benchmarks.cluster import cluster
from benchmarks.report import Row
from ravop.client import api
from ravop.client.session import Session
from ravop.protocol.tensors import sha256

SIZE = 64 * 1024 * 1024
ROUNDS = 7


def speeds(session: Session) -> tuple[list[float], list[float]]:
    """MB/s up and down, each of bytes that the coordinator has not seen before."""
    up, down = [], []
    for _ in range(ROUNDS):
        data = os.urandom(SIZE)
        sha = sha256(data)
        up.append(_speed(lambda: session.run(session.blobs.put(data, sha))))  # noqa: B023 - called at once
        down.append(_speed(lambda: session.run(session.blobs.get(sha, SIZE))))  # noqa: B023
    return up, down


def _speed(transfer: Callable[[], object]) -> float:
    start = time.perf_counter()
    transfer()
    return SIZE / 1e6 / (time.perf_counter() - start)


def rows() -> list[Row]:
    with cluster(providers=1):
        up, down = speeds(api.session())
    return [
        Row(f"{what} of 64 MiB, hash checked on both ends", f"{statistics.median(found):,.0f} MB/s", "≥ 500 MB/s",
            f"{min(found):,.0f} to {max(found):,.0f}")
        for what, found in (("upload", up), ("download", down))
    ]  # fmt: skip
