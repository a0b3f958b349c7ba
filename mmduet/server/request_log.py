"""ASGI middleware that logs one line per request and WebSocket handshake, with what its handler adds to the fields."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmduet.server.log_events import PROBE, REQUEST
from mmduet.server.request_context import begin_request
from mmduet.text import shorten

log = logging.getLogger(__name__)
PROBE_PATHS = frozenset({"/health", "/ready", "/metrics"})
"""Endpoints that are called every few seconds; their requests are logged at level debug."""
STATUS_MESSAGES = ("http.response.start", "websocket.http.response.start")


class RequestLogMiddleware:
    """Log method, path without its query, status, the time until the response starts, and the request's fields."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request or a WebSocket."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        started_at = perf_counter()
        client = scope["client"][0] if scope.get("client") else "unknown"
        fields = begin_request(client=shorten(client))

        async def send_and_log(message: Message) -> None:
            status = 101 if message["type"] == "websocket.accept" else message.get("status", 0)
            if message["type"] in STATUS_MESSAGES or status == 101:
                _log_request(scope, status, perf_counter() - started_at, fields)
            await send(message)

        return await self._app(scope, receive, send_and_log)


def _log_request(scope: Scope, status: int, seconds: float, fields: Mapping[str, Any]) -> None:
    """Log one request. Its path may come from anyone and is shortened."""
    event = PROBE if scope["path"] in PROBE_PATHS else REQUEST
    event.emit(
        log,
        method=scope.get("method", "WebSocket"),
        path=shorten(scope["path"]),
        status=status,
        duration_ms=round(seconds * 1000),
        **fields,
    )
