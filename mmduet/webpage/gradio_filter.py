"""Restricts Gradio's application to what the page needs: its layout, its scripts and its styles.

The page runs no Python through Gradio and uploads nothing to it, so its endpoints for files, uploads, queues and proxies only
add ways to reach the server.
"""

from __future__ import annotations

import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmduet.errors import NotFoundError
from mmduet.server.error_response import error_response

ALLOWED = re.compile(
    r"/?|/(assets|static|svelte|clips|uploads|results|visitors)(/.*)?"
    r"|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)|/gradio_api/(info|startup-events|heartbeat/\w+)"
)
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Gradio's layout has inline scripts and compiles templates
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "connect-src 'self' ws: wss:",  # not every browser counts WebSockets of the same host as 'self'
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'none'",
    )
)


class GradioFilter:
    """Reject requests below ``prefix`` that the page does not make, and forbid pages to contact other hosts."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request."""
        path = _path_below(scope, self._prefix)
        if scope["type"] != "http" or path is None:
            await self._app(scope, receive, send)
        elif ALLOWED.fullmatch(path) is None:
            await error_response(NotFoundError(f"the page has nothing at {path[:100]}"))(scope, receive, send)
        else:
            await self._app(scope, receive, _with_headers(send))


def _path_below(scope: Scope, prefix: str) -> str | None:
    """Return the rest of a request's path after ``prefix``, None if it does not begin with it."""
    path = str(scope.get("path", "")).removeprefix(scope.get("root_path", ""))
    return path.removeprefix(prefix) if path == prefix or path.startswith(f"{prefix}/") else None


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Referrer-Policy", "no-referrer")
            headers.setdefault("X-Frame-Options", "SAMEORIGIN")
        await send(message)

    return send_with_headers
