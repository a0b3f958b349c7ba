"""ASGI middleware that gives every response a request id and turns unexpected exceptions into error responses."""

from __future__ import annotations

import logging
import secrets

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmduet.server.error_response import error_response, to_mmduet_error
from mmduet.server.log_events import REQUEST_ABORTED, REQUEST_FAILED
from mmduet.server.request_context import add_request_fields
from mmduet.text import shorten

log = logging.getLogger(__name__)
REQUEST_ID_HEADER = "x-request-id"
FIRST_MESSAGES = ("http.response.start", "websocket.http.response.start", "websocket.accept", "websocket.close")


class ErrorMiddleware:
    """Log an exception that no handler has caught and answer with status 500 in the OpenAI API's shape.

    The response's ``x-request-id`` is the id in the log. If the response has started, the exception is raised again,
    so that the server aborts the connection and the client notices that the response is incomplete.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request or a WebSocket."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        request_id, started = f"req_{secrets.token_hex(12)}", False
        scope.setdefault("state", {})["request_id"] = request_id
        add_request_fields(request=request_id)

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] in FIRST_MESSAGES:
                started = True
                if message["type"] != "websocket.close":
                    message.setdefault("headers", [])
                    MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            REQUEST_ABORTED.emit(log, request=request_id)
        except Exception as error:
            if started:
                raise
            REQUEST_FAILED.emit(log, error=error, request=request_id, path=shorten(scope["path"]))
            await error_response(to_mmduet_error(error, request_id))(scope, receive, send_with_id)
        return None
