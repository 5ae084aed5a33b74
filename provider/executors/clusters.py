"""What the kinds of clusters have in common: `Cluster`, and the table of those that there are."""

from __future__ import annotations

import importlib
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from provider.settings import ClusterSettings
from ravop.errors import ArgumentError, ClusterError, Problem

ENGINES = {"dask": ("distributed", "on_dask"), "ray": ("ray", "on_ray")}
"""What has to be installed for a kind, and its module here, which has `connect(address, threads)`."""


class Capacity(NamedTuple):
    """What a cluster has now."""

    slots: int
    memory: int | None
    """Bytes for one of these; None where it does not tell."""


class Cluster(Protocol):
    """A connection to a cluster. Its methods may block."""

    def capacity(self, hello: bytes) -> Capacity:
        """What it has now. `hello`: a request that workers should answer well before they count. Raises
        `ClusterError`.
        """

    def submit(self, request: bytes) -> Future[bytes]:
        """`site.answer(request)` on a worker. What the future raises depends on the kind of cluster."""

    def close(self) -> None: ...


def connect(place: ClusterSettings, threads: int) -> Cluster:
    """Raises `ClusterError`, and `ArgumentError` where something is not installed."""
    package, module = ENGINES[place.engine]
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ArgumentError(
            f"a {place.engine} cluster needs a package that is not installed",
            expected=package,
            hint=f"pip install 'ravenverse[{place.engine}]'",
        ) from error
    kind = importlib.import_module(f"provider.executors.{module}")
    cluster: Cluster = kind.connect(place.address, threads)
    return cluster


def unable(problem: Problem, where: str = "") -> ClusterError:
    """A worker's own trouble as the cluster's."""
    received = f"{problem.received}, at {where}" if where else problem.received
    return ClusterError(problem.message, expected=problem.expected, received=received, hint=problem.hint)
