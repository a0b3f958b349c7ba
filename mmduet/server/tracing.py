"""Records OpenTelemetry spans: one per session and one per reply, never with frames, texts or keys.

If tracing is disabled, OpenTelemetry's no-op tracer is used, which costs next to nothing.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.trace import Span, Tracer

import mmduet
from mmduet.errors import OptionError
from mmduet.protocol.server_events import ResponseCreated, ResponseDone, ServerEvent, SessionClosed


def create_tracer(enabled: bool) -> Tracer:
    """Return a tracer that exports to the collector named by the ``OTEL_EXPORTER_OTLP_*`` variables, or a no-op tracer.

    Raises ``OptionError`` if the OpenTelemetry SDK is not installed.
    """
    if not enabled:
        return trace.NoOpTracer()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise OptionError("tracing needs the OpenTelemetry SDK; run: pip install 'mmduet[otel]'") from None
    provider = TracerProvider(resource=Resource.create({"service.name": "mmduet"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("mmduet", mmduet.__version__)


class SessionTrace:
    """The spans of one session, derived from the events sent to its client."""

    def __init__(self, tracer: Tracer, session_id: str) -> None:
        self._tracer = tracer
        self._session: Span = tracer.start_span("session", attributes={"mmduet.session.id": session_id})
        self._replies: dict[str, Span] = {}

    def on_event(self, event: ServerEvent) -> None:
        """Start or end spans for one event."""
        match event:
            case ResponseCreated(response=response):
                context = trace.set_span_in_context(self._session)
                span = self._tracer.start_span("reply", context, attributes={"mmduet.response.id": response.id})
                span.set_attribute("mmduet.forced", response.duet.forced)
                if response.duet.trigger_seq is not None:
                    span.set_attribute("mmduet.trigger.seq", response.duet.trigger_seq)
                self._replies[response.id] = span
            case ResponseDone(response=response):
                self._end_reply(response.id, response.status, response.usage.output_tokens if response.usage else 0)
            case SessionClosed():
                self._session.set_attribute("mmduet.reason", event.reason)
                for name, count in event.frames.items():
                    self._session.set_attribute(f"mmduet.frames.{name}", count)
                self._session.end()

    def _end_reply(self, response_id: str, status: str, tokens: int) -> None:
        span = self._replies.pop(response_id, None)
        if span is not None:
            span.set_attribute("mmduet.status", status)
            span.set_attribute("gen_ai.usage.output_tokens", tokens)
            span.end()
