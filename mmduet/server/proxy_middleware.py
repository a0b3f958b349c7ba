"""ASGI middleware for servers behind a reverse proxy: the path prefix, and the rejection of proxies by keyless servers."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mmduet.errors import ProxiedRequestError
from mmduet.server.error_response import error_response

FORWARDING_HEADERS = ("forwarded", "via", "x-real-ip")
FORWARDING_PREFIX = "x-forwarded-"


class PublicPathMiddleware:
    """Set the ASGI ``root_path``, under which a proxy publishes the server.

    The proxy may remove the prefix from the paths of requests or keep it; the scope's path has it in both cases, as ASGI
    demands, so that routes match and redirects lead back through the proxy.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app, self._root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request or a WebSocket."""
        if self._root_path and scope["type"] != "lifespan":
            prefix, path = self._root_path, scope["path"]
            if path != prefix and not path.startswith(f"{prefix}/"):
                raw_path = prefix.encode() + scope["raw_path"] if scope.get("raw_path") is not None else None
                scope = {**scope, "path": prefix + path, "raw_path": raw_path}
            scope["root_path"] = prefix
        await self._app(scope, receive, send)


class LocalOnlyMiddleware:
    """Reject requests that came through a proxy: a server without keys serves its own machine only.

    A proxy on this machine connects from a loopback address, so its headers are the only sign of a remote client.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request or a WebSocket."""
        header = None if scope["type"] == "lifespan" else forwarding_header(Headers(scope=scope))
        if header is None:
            await self._app(scope, receive, send)
            return
        error = ProxiedRequestError(
            f"the request came through a proxy (it has the header {header}) and this server has no keys, so it serves "
            "its own machine only; set MMDUET_KEYS on the server to use it behind a proxy"
        )
        await error_response(error)(scope, receive, send)


def forwarding_header(headers: Headers) -> str | None:
    """Return the name of the first header that a proxy has added, None if there is none."""
    return next((name for name in headers if name.startswith(FORWARDING_PREFIX) or name in FORWARDING_HEADERS), None)
