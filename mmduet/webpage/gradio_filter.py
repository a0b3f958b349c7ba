"""Restricts Gradio's application to what the page needs: its layout, its scripts and its styles.

The page runs no Python through Gradio and uploads nothing to it, so its endpoints for files, uploads, queues, proxies and
heartbeats only add ways to reach the server. The page's WebSockets connect to ``/v1/realtime``, which is not below its path.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmduet.errors import NotFoundError
from mmduet.server.error_response import error_response

ALLOWED = re.compile(
    r"/?|/(assets|static|svelte|clips|uploads|results|visitors)(/.*)?"
    r"|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)|/gradio_api/(info|startup-events)"
)
HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?")
"""Hosts that a content security policy can name; IPv6 addresses are not among them."""
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Gradio's layout has inline scripts and compiles templates
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "connect-src 'self'{sockets}",
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
        if scope["type"] != "http" or path is None:  # the server's own routes reject all WebSockets below it
            await self._app(scope, receive, send)
        elif ALLOWED.fullmatch(path) is None:
            await error_response(NotFoundError(f"the page has nothing at {path[:100]}"))(scope, receive, send)
        else:
            await self._app(scope, receive, _with_headers(send, Headers(scope=scope).get("host", "")))


def _path_below(scope: Scope, prefix: str) -> str | None:
    """Return the rest of a request's path after ``prefix``, None if it does not begin with it."""
    path = str(scope.get("path", "")).removeprefix(scope.get("root_path", ""))
    return path.removeprefix(prefix) if path == prefix or path.startswith(f"{prefix}/") else None


def content_security_policy(host: str) -> str:
    """Return the policy of a page at ``host``. Not every browser counts WebSockets of the same host as ``'self'``."""
    sockets = f" ws://{host} wss://{host}" if HOST.fullmatch(host) else ""
    return CONTENT_SECURITY_POLICY.format(sockets=sockets)


def _with_headers(send: Send, host: str) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("Content-Security-Policy", content_security_policy(host))
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Referrer-Policy", "no-referrer")
            headers.setdefault("X-Frame-Options", "SAMEORIGIN")
        await send(message)

    return send_with_headers
