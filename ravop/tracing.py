"""Spans of OpenTelemetry that follow a run from the requester's line through coordinator and provider and back.

Without the extra `tracing`, or where OpenTelemetry is not configured, every call here does nothing and costs next to
nothing. Configured means: a script has set a tracer provider of its own, or the standard environment variables name
an exporter or where traces go to. From program to program the span travels as W3C's `traceparent`, a string.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from typing import Any

EXPORTER = "OTEL_TRACES_EXPORTER"
CONFIGURING = (EXPORTER, "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""One of these says that traces are wanted."""
DEFAULT_EXPORTER = "otlp_proto_http"
PREFIX = "ravenverse."
"""Of the attributes of spans, whose names are those of the fields of log lines."""

log = logging.getLogger(__name__)
_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()
_tracer: Any = None


def configure(service: str, environment: Mapping[str, str] = os.environ) -> None:
    """Begin to trace, if that is wanted: once, when a program starts. `service` is the name that its spans carry,
    unless OTEL_SERVICE_NAME says another."""
    global _tracer
    wanted = any(environment.get(name) for name in CONFIGURING)
    if _tracer is not None or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from opentelemetry import trace
    except ImportError:
        if wanted:
            log.warning("traces are wanted, but not possible without: pip install 'ravenverse[tracing]'")
        return
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # nobody has set one
        if not wanted or environment.get(EXPORTER) == "none":
            return
        trace.set_tracer_provider(_provider(service, environment))
    _tracer = trace.get_tracer("ravenverse")


def _provider(service: str, environment: Mapping[str, str]) -> Any:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = TracerProvider(resource=Resource.create(named))
    name = environment.get(EXPORTER) or DEFAULT_EXPORTER
    name = {"otlp": DEFAULT_EXPORTER}.get(name, name)
    found = entry_points(group="opentelemetry_traces_exporter", name=name)
    if not found:
        log.warning("there is no exporter of traces called %r: none are kept; see %s", name, EXPORTER)
    for entry in found:
        provider.add_span_processor(BatchSpanProcessor(entry.load()()))
    return provider


def on() -> bool:
    """Whether spans are recorded."""
    return _tracer is not None


def span(
    name: str, parent: str | None = None, began: float | None = None, **attributes: Any
) -> AbstractContextManager[Any]:
    """A span around a block, within the one that the caller is in.

    `parent`: the `traceparent` that came with a message, instead; empty where the sender traces nothing, then nothing
    is traced here either. `began`: when it began, on the clock of `time.monotonic`, if that was before now.
    """
    return _NOTHING if _tracer is None or parent == "" else _span(name, parent, began, attributes)


@contextlib.contextmanager
def _span(name: str, parent: str | None, began: float | None, attributes: Mapping[str, Any]) -> Iterator[Any]:
    context = _propagator().extract({"traceparent": parent}) if parent else None
    start = None if began is None else time.time_ns() - int(1e9 * (time.monotonic() - began))
    named = {PREFIX + key: value for key, value in attributes.items()}
    with _tracer.start_as_current_span(name, context, attributes=named, start_time=start) as made:
        yield made


def current() -> str:
    """The span that the caller is in, as `traceparent`; empty where nothing is traced."""
    if _tracer is None:
        return ""
    carrier: dict[str, str] = {}
    _propagator().inject(carrier)
    return carrier.get("traceparent", "")


def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()
