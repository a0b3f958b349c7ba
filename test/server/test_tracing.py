"""Spans are exported to an OTLP collector and contain no frame, text or key."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from live_server import run_test_server, wait_for
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def test_sessions_and_replies_are_exported_as_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with run_test_server(tracing=True) as server, server.connect() as client:
        name = client.receive()["session"]["id"]
        client.update_session({"fps": None, "speak": {"policy": "never"}}, max_output_tokens=4)
        client.send_text("A secret question?")
        client.send_frames(2)
        client.send("response.create")
        client.end_stream()
        wait_for(lambda: {span.name for span in spans} == {"session", "reply"})
    collector.shutdown()
    session = next(span for span in spans if span.name == "session")
    reply = next(span for span in spans if span.name == "reply")
    assert reply.parent_span_id == session.span_id
    values = {pair.key: pair.value for span in spans for pair in span.attributes}
    assert values["mmduet.session.id"].string_value == name
    assert values["mmduet.frames.scored"].int_value == 2
    assert 0 < values["gen_ai.usage.output_tokens"].int_value <= 4
    assert "secret" not in str(spans)
