"""A coordinator and providers as processes that may be killed, frozen or put elsewhere: the tests' `Lab`, for benchmarks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from processes import Lab, Process

import ravop as R
from ravop.client.api import session
from ravop.errors import UnreachableError
from ravop.protocol.messages import Cancel, Done, GetGraph, GraphInfo, ListProviders, ProviderInfo, Providers

__all__ = ["Lab", "Process", "Span", "busy", "cancel", "info", "laboratory", "measured", "providers", "until"]

LONGEST_WAIT = 120.0


@contextmanager
def empty(host: str = "127.0.0.1") -> Iterator[Lab]:
    """A new folder in which nothing runs yet. All that is started in it ends with the `with`."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder), host)
        try:
            yield lab
        finally:
            lab.close()


@contextmanager
def serving(lab: Lab) -> Iterator[Process]:
    """A coordinator, which this process is connected to as a requester."""
    try:
        coordinator = lab.coordinator()
        R.initialize(lab.token("requester", "benchmark"), url=lab.url)
        yield coordinator
    finally:
        R.disconnect()


@contextmanager
def laboratory() -> Iterator[tuple[Lab, Process]]:
    """Both together."""
    with empty() as lab, serving(lab) as coordinator:
        yield lab, coordinator


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


@dataclass(frozen=True)
class Span:
    """Between two moments at which the progress of a running graph grew."""

    seconds: float
    steps: int
    share: float
    """Of all steps of the graph."""


def measured(
    graph: R.Graph, warm_up: float, seconds: float, at: Callable[[int], object] = lambda _: None
) -> Span:
    """Watch an executing graph: from the first progress after `warm_up` seconds of it to the first one at least
    `seconds` later. `at` is called at both, with 0 and 1. Raises `TimeoutError` when the graph ends before.
    """
    begun: float | None = None
    first: tuple[float, int] | None = None
    steps = 0
    for news in session().watch(graph.id):
        now = time.perf_counter()
        if not isinstance(news, GraphInfo) or news.steps_done <= steps:
            if isinstance(news, GraphInfo) and news.state in ("failed", "done"):
                raise TimeoutError(f"the graph ended before it was measured: {news.state} {news.problem}")
            continue
        steps = news.steps_done
        begun = begun or now
        if first is None and now - begun >= warm_up:
            first = now, steps
            at(0)
        elif first is not None and now - first[0] >= seconds:
            at(1)
            return Span(now - first[0], steps - first[1], (steps - first[1]) / news.steps_total)
    raise TimeoutError("the graph ended before it was measured")


def cancel(graph: R.Graph) -> None:
    session().call(Cancel(graph_id=graph.id), Done)


def providers() -> tuple[ProviderInfo, ...]:
    return session().call(ListProviders(), Providers, 2.0).providers


def busy() -> set[str]:
    """The names of providers that compute something now."""
    return {found.name for found in providers() if found.busy}
