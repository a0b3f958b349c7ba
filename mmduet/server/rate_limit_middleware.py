"""ASGI middleware that adds the limits of the request's key to responses and handshakes."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RESPONSE_STARTS = ("http.response.start", "websocket.http.response.start", "websocket.accept")


class RateLimitMiddleware:
    """Add ``x-ratelimit-*`` headers if the endpoint has put the key's ``KeyLimiter`` into ``state.limiter``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request or a WebSocket."""

        async def send_with_limits(message: Message) -> None:
            limiter = scope.get("state", {}).get("limiter") if message["type"] in RESPONSE_STARTS else None
            if limiter is not None:
                message.setdefault("headers", [])
                MutableHeaders(scope=message).update(limiter.headers())
            await send(message)

        await self._app(scope, receive, send_with_limits)
