"""`/metrics`, for Prometheus: what `metrics` has counted, and what is looked up when somebody asks.

What a scrape takes from the database is taken once in a few seconds, however many ask, and left out while the database
does not answer. The page needs a token of role admin, unless it is `public`: behind a proxy, every caller would
look like one of this machine.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from ravop.errors import MessageError, RavenError
from ravsock.server import clock
from ravsock.server.auth import Authenticator
from ravsock.server.health import Health
from ravsock.server.http import CRASHED, Receive, Scope, Send, bearer, refuse, respond
from ravsock.server.metrics import PREFIX, Metrics
from ravsock.store.counts import Counts

PATH = "/metrics"
FRESH_SECONDS = 5.0
"""How long what the database said is told again."""

log = logging.getLogger(__name__)

Values = Mapping[tuple[str, ...], float]
"""Of a gauge, by its labels' values."""
Gauge = tuple[str, str, tuple[str, ...], Callable[[], Values]]
"""Name, what it says, labels, and where its values are."""


class MetricsEndpoint(Collector):
    """An ASGI application for `PATH`. `count` asks the database, on a thread; `gauges` are what this process knows."""

    def __init__(
        self,
        metrics: Metrics,
        auth: Authenticator,
        health: Health,
        count: Callable[[], Counts],
        gauges: tuple[Gauge, ...],
        public: bool,
    ) -> None:
        self._metrics = metrics
        self._auth = auth
        self._health = health
        self._count = count
        self._public = public
        self._counts: Counts | None = None
        self._counted = -FRESH_SECONDS
        self._counting = asyncio.Lock()
        self._gauges: tuple[Gauge, ...] = (
            *gauges,
            ("healthy", "1 while /api/health says ok.", (), self._healthy),
            ("tasks", "Tasks of executing graphs.", ("state",), lambda: self._states("tasks")),
            ("graphs", "Graphs.", ("state",), lambda: self._states("graphs")),
            ("oldest_lease_seconds", "Age of the oldest lease, 0 without any.", (), self._oldest),
        )
        metrics.registry.register(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] != "GET":
                problem = MessageError("no such method", expected="GET", received=scope["method"]).problem
                return await refuse(send, problem, HTTPStatus.METHOD_NOT_ALLOWED)
            if not self._public:
                await self._auth.authenticate(bearer(scope["headers"], "admin"), "admin")
            await self._look()
            page = generate_latest(self._metrics.registry)
            headers = [(b"content-type", CONTENT_TYPE_LATEST.encode())]
            return await respond(send, HTTPStatus.OK, page, headers)
        except RavenError as error:
            return await refuse(send, error.problem)
        except Exception:
            log.exception("metrics could not be shown")
            return await refuse(send, CRASHED)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, text, labels, read in self._gauges:
            family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
            for values, value in read().items():
                family.add_metric(values, value)
            yield family

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Names alone: nothing is looked up when this is registered."""
        for name, text, labels, _ in self._gauges:
            yield GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)

    async def _look(self) -> None:
        async with self._counting:
            if time.monotonic() - self._counted < FRESH_SECONDS:
                return
            try:
                self._counts = await asyncio.to_thread(self._count)
            except RavenError as error:
                self._counts = None
                self._health.failed("tasks could not be counted", error)
            self._counted = time.monotonic()

    def _healthy(self) -> Values:
        return {(): float(not (self._health.trouble or self._health.notes))}

    def _states(self, what: str) -> Values:
        found: dict[str, int] = {} if self._counts is None else getattr(self._counts, what)
        return {(state,): count for state, count in found.items()}

    def _oldest(self) -> Values:
        if self._counts is None:
            return {}
        leased = self._counts.leased
        return {(): 0.0 if leased is None else max(0.0, clock.now() - leased)}
