"""ASGI middleware that logs one line per request and WebSocket handshake."""

from __future__ import annotations

import logging
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmduet.text import shorten, to_printable

log = logging.getLogger(__name__)
PROBE_PATHS = frozenset({"/health", "/ready", "/metrics"})
"""Endpoints that are called every few seconds; their requests are logged at level debug."""
STATUS_MESSAGES = ("http.response.start", "websocket.http.response.start")


class RequestLogMiddleware:
    """Log method, path without its query, status, client address and the time until the response starts."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request or a WebSocket."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        started_at = perf_counter()

        async def send_and_log(message: Message) -> None:
            status = 101 if message["type"] == "websocket.accept" else message.get("status", 0)
            if message["type"] in STATUS_MESSAGES or status == 101:
                _log_request(scope, status, perf_counter() - started_at)
            await send(message)

        return await self._app(scope, receive, send_and_log)


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    """Log one request. Its path and client may come from anyone and are shortened."""
    client = scope["client"][0] if scope.get("client") else "unknown"
    log.log(
        logging.DEBUG if scope["path"] in PROBE_PATHS else logging.INFO,
        "%s %s %d in %.0f ms from %s",
        scope.get("method", "WebSocket"),
        to_printable(shorten(scope["path"])),
        status,
        seconds * 1000,
        to_printable(shorten(client)),
    )
