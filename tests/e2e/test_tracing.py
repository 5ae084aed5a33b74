"""One task followed across real processes: spans that an OTLP receiver gets, and log lines as JSON."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from processes import Lab, Process

SCRIPT = """
import numpy as np
import ravop as R

R.initialize()
graph = R.Graph(name="traced")
R.matmul(R.t(np.ones((200, 200), np.float32)), R.t(np.ones((200, 200), np.float32))).persist_op("y")
R.activate()
R.execute()
R.track_progress()
print("graph", graph.id)
"""
PARENTS = {
    "plan": "activate",
    "start": "execute",
    "dispatch": "execute",
    "track": "execute",
    "fetch": "dispatch",
    "compute": "dispatch",
    "deliver": "dispatch",
    "commit": "deliver",
}


class Receiver:
    """What an OpenTelemetry collector would get."""

    def __init__(self) -> None:
        self.spans: dict[str, tuple[str, Any]] = {}
        """Service and span, by the span's name."""
        self._news = threading.Condition()

    def take(self, request: ExportTraceServiceRequest) -> None:
        with self._news:
            for resource in request.resource_spans:
                service = next(
                    a.value.string_value for a in resource.resource.attributes if a.key == "service.name"
                )
                for scope in resource.scope_spans:
                    self.spans |= {span.name: (service, span) for span in scope.spans}
            self._news.notify_all()

    def wait_for(self, names: set[str]) -> None:
        with self._news:
            assert self._news.wait_for(lambda: names <= self.spans.keys(), 30), names - self.spans.keys()

    @contextmanager
    def listening(self) -> Iterator[str]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()


def lines(process: Process) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.output.splitlines() if line.startswith("{")]


def test_one_trace_leads_from_the_script_to_the_worker_and_back(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver()
    with receiver.listening() as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        monkeypatch.setenv("RAVENVERSE_LOG_FORMAT", "json")
        coordinator = lab.coordinator()
        provider = lab.provider(lab.token("provider", "p"), "p", "--log-level", "debug")
        script = lab.folder / "traced.py"
        script.write_text(SCRIPT)
        process = lab.script(script, lab.token("requester", "r"))
        graph = process.wait_for(r"^graph (\w+)")[1]
        process.result()
        receiver.wait_for({*PARENTS, "activate", "execute"})

    spans = {name: span for name, (_, span) in receiver.spans.items()}
    for name, parent in PARENTS.items():
        assert spans[name].parent_span_id == spans[parent].span_id, name
        assert spans[name].trace_id == spans[parent].trace_id
    services = {name: service for name, (service, _) in receiver.spans.items()}
    assert {services[name] for name in ("activate", "execute", "track")} == {"ravop"}
    assert {services[name] for name in ("plan", "start", "dispatch", "commit")} == {"ravsock"}
    assert {services[name] for name in ("fetch", "compute", "deliver")} == {"provider"}
    told = {a.key: a.value.string_value for a in spans["execute"].attributes}
    assert told["ravenverse.graph"] == graph
    assert told["ravenverse.source"].endswith("traced.py:9: R.execute()")

    (activated,) = [line for line in lines(coordinator) if "activated" in line["message"]]
    assert activated["graph"] == graph
    (registered,) = [line for line in lines(coordinator) if "registered" in line["message"]]
    assert {line["provider"] for line in lines(provider) if "connected to" in line["message"]} == {
        registered["provider"]
    }
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines(coordinator))
