"""What log lines say they are about, and spans that are recorded only where somebody wants them."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ravop import logs, tracing

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture(params=logs.FORMATS)
def logged(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, logging.Logger, io.StringIO]:
    monkeypatch.setattr(logs, "_always", {})
    stream, log = io.StringIO(), logging.Logger("some.module")
    log.addHandler(logs.formatted(logging.StreamHandler(stream), request.param, "%(levelname)s %(message)s"))
    return request.param, log, stream


def test_a_line_says_what_it_is_about(logged: tuple[str, logging.Logger, io.StringIO]) -> None:
    kind, log, stream = logged
    with logs.about(graph="g1", task=7, attempt=1):
        log.warning("task %d failed: %s", 17, "no\nmore", extra={"task": 17})
    log.info("provider %s left", "p1", extra={"provider": "p1"})
    first, *rest = stream.getvalue().splitlines()
    if kind == "json":
        line = json.loads(first)
        assert line | {"time": ""} == {
            "time": "", "level": "warning", "logger": "some.module", "message": "task 17 failed: no\nmore",
            "graph": "g1", "task": 17, "attempt": 1,
        }  # fmt: skip
        assert json.loads(rest[0])["provider"] == "p1"
    else:
        assert (first, *rest) == (
            "WARNING task 17 failed: no",
            "more [graph=g1 attempt=1]",
            "INFO provider p1 left",
        )


def test_a_traceback_is_one_field(logged: tuple[str, logging.Logger, io.StringIO]) -> None:
    kind, log, stream = logged
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("it failed")
    if kind == "json":
        assert "ValueError: broken" in json.loads(stream.getvalue())["error"]
    else:
        assert "ValueError: broken" in stream.getvalue()


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    return exporter


def test_a_span_goes_on_where_the_sender_was(recorded: InMemorySpanExporter) -> None:
    with tracing.span("outer", PARENT, graph="g"):
        with tracing.span("inner", task=3):
            sent = tracing.current()
        with tracing.span("nobody traces", ""):
            assert tracing.current() != ""
    inner, outer = recorded.get_finished_spans()
    assert outer.parent is not None
    assert (f"{outer.context.trace_id:032x}", f"{outer.parent.span_id:016x}") == ("a" * 32, "b" * 16)
    assert inner.parent == outer.context
    assert sent == f"00-{'a' * 32}-{inner.context.span_id:016x}-01"
    assert dict(outer.attributes or {}) == {"ravenverse.graph": "g"}


@pytest.mark.parametrize("environment", [{}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}])
def test_nothing_is_traced_where_nobody_asked(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "_tracer", None)
    tracing.configure("test", environment)
    with tracing.span("x", PARENT) as made:
        assert made is None
    assert (tracing.on(), tracing.current()) == (False, "")


def test_an_exporter_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: Any = tracing._provider("test", {"OTEL_TRACES_EXPORTER": "smoke_signals"})
    made.shutdown()
    assert "smoke_signals" in caplog.text
