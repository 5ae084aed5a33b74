"""A coordinator and providers as processes that may be killed, frozen or put elsewhere: the tests' `Lab`, for benchmarks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import Lab, Process

import ravop as R
from ravop.client.api import session
from ravop.errors import UnreachableError
from ravop.protocol.messages import GetGraph, GraphInfo, ListProviders, ProviderInfo, Providers

__all__ = ["Lab", "Process", "busy", "info", "laboratory", "providers", "until"]

LONGEST_WAIT = 120.0


@contextmanager
def laboratory(host: str = "127.0.0.1") -> Iterator[tuple[Lab, Process]]:
    """A coordinator in a new folder, which this process is connected to as a requester. All ends with the `with`."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder), host)
        try:
            coordinator = lab.coordinator()
            R.initialize(lab.token("requester", "benchmark"), url=lab.url)
            yield lab, coordinator
        finally:
            R.disconnect()
            lab.close()


def until(true: Callable[[], bool], pause: float = 0.005, longest: float = LONGEST_WAIT) -> float:
    """Seconds until `true()`, which is asked every `pause` seconds. A coordinator that is away is asked again."""
    start = time.perf_counter()
    while time.perf_counter() - start < longest:
        try:
            if true():
                return time.perf_counter() - start
        except UnreachableError:
            pass
        time.sleep(pause)
    raise TimeoutError(f"what a benchmark waited for did not happen within {longest:g} s")


def info(graph: R.Graph) -> GraphInfo:
    return session().call(GetGraph(graph_id=graph.id), GraphInfo, 2.0)


def providers() -> tuple[ProviderInfo, ...]:
    return session().call(ListProviders(), Providers, 2.0).providers


def busy() -> set[str]:
    """The names of providers that compute something now."""
    return {found.name for found in providers() if found.busy}
