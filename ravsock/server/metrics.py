"""What a coordinator counts and times for Prometheus: one `Metrics` for each, with a registry of its own.

Whoever does the work calls the instruments; nothing is kept here that is known elsewhere. What can be looked up when
somebody asks (connections, tasks by state) is in `monitoring`, which answers `/metrics`. Label values are from
fixed sets, so that no client can make series. docs/observability.md has them all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from ravop.errors import codes
from ravop.protocol.messages import Report
from ravop.protocol.versions import VERSION
from ravop.release import software
from ravsock.server.http import Send

PREFIX = "ravenverse"
OTHER = "other"
"""The label of what is in no table."""
LAG_SECONDS = 0.25
"""How often the event loop's lag is looked at."""
QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Buckets, in seconds, of what should take milliseconds."""
LONG = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
"""Of what takes as long as the task."""
METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})
CODES = codes()

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, that nobody reads


class Metrics:
    """For any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        build = Info("build", "Release and protocol.", namespace=PREFIX, registry=self.registry)
        build.info({"software": software(), "protocol": str(VERSION)})

        self._messages = self._counter("messages", "Messages taken in, by type.", "type")
        self._requests = self._counter(
            "http_requests", "HTTP requests answered.", "plane", "method", "status"
        )
        self._errors = self._counter("errors", "Refusals told to clients, by the error's code.", "code")
        self._failures = self._counter("task_failures", "Attempts that providers failed, by code.", "code")
        self.attempts = self._counter("attempts", "Attempts of tasks, by what became of them.", "outcome")
        """`sent`; then, as reported: `accepted`, `discarded`, `failed` or `returned`."""
        self.blob_bytes = self._counter("blob_bytes", "Bytes of blobs through this process.", "direction")
        self.message_seconds = self._histogram("message_seconds", "Until a message is answered.", QUICK)
        self.dispatch_seconds = self._histogram(
            "dispatch_seconds",
            "From there being both work and room to the provider's taking the batch.",
            QUICK,
        )
        self.lease_seconds = self._histogram(
            "lease_seconds", "How old a lease was when its batch was reported.", LONG
        )
        self.changes = self._counter("changes", "Changes of the database that were committed.")
        self.commit_seconds = self._histogram(
            "commit_seconds", "One commit, of all changes that waited.", QUICK
        )
        self.sync_seconds = self._histogram("sync_seconds", "One sync of what was committed.", QUICK)
        self.lag_seconds = self._histogram(
            "event_loop_lag_seconds", f"How late the event loop was, every {LAG_SECONDS:g} s.", QUICK
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace=PREFIX, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, namespace=PREFIX, registry=self.registry, buckets=buckets)

    def message(self, kind: type) -> None:
        """One of the protocol's messages came."""
        self._messages.labels(kind.__name__).inc()

    def refused(self, code: str) -> None:
        """A client was told an error of this code."""
        self._errors.labels(_known(code)).inc()

    def reported(self, report: Report, accepted: int) -> None:
        """What became of a batch, of whose results so many count."""
        for outcome, count in (
            ("accepted", accepted),
            ("discarded", len(report.done) - accepted),
            ("failed", len(report.failed)),
            ("returned", len(report.returned)),
        ):
            self.attempts.labels(outcome).inc(count)
        for failure in report.failed:
            self._failures.labels(_known(failure.problem.code)).inc()

    def counting(self, plane: str, method: str, send: Send) -> Send:
        """`send`, such that the request is counted when it is answered; `plane`: the first part of its path, of those
        where something is served."""

        async def counted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                status = str(int(message["status"]))
                self._requests.labels(plane, method if method in METHODS else OTHER, status).inc()
            await send(message)

        return counted

    async def watch_loop(self) -> None:
        """Until cancelled."""
        while True:
            due = time.monotonic() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self.lag_seconds.observe(max(0.0, time.monotonic() - due))


def _known(code: str) -> str:
    return code if code in CODES else OTHER
