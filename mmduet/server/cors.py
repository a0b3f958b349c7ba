"""Cross-origin requests over HTTP: answers preflight requests and adds CORS headers for the allowed origins."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware as StarletteCORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from mmduet.errors import OriginError
from mmduet.server.error_middleware import REQUEST_ID_HEADER
from mmduet.server.error_response import error_body, error_response
from mmduet.server.key_limiter import RATE_LIMIT_HEADERS
from mmduet.text import shorten

METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE")
EXPOSED_HEADERS = (REQUEST_ID_HEADER, "Location", "Retry-After", *RATE_LIMIT_HEADERS)
"""Response headers that a page may read besides those that every page may."""


class CORSMiddleware(StarletteCORSMiddleware):
    """Starlette's middleware for the setting ``allowed_origins``; every request header is allowed.

    A preflight request of another origin, or for another method, is rejected with an error in the OpenAI API's shape.
    """

    def __init__(self, app: ASGIApp, allowed_origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=allowed_origins,
            allow_methods=METHODS,
            allow_headers=("*",),
            allow_private_network=True,  # a page on the web that uses a server on the visitor's machine
            expose_headers=EXPOSED_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the response to a preflight request."""
        origin, method = request_headers["origin"], request_headers["access-control-request-method"]
        if not self.is_allowed_origin(origin):
            response = error_response(
                OriginError(f"origin {shorten(origin)} is not allowed; add it to allowed_origins")
            )
        elif method not in METHODS:
            message = f"method {shorten(method)} is not supported; use {', '.join(METHODS)}"
            response = JSONResponse(error_body(message, 405, "method_not_allowed"), 405)
        else:
            return super().preflight_response(request_headers)
        response.headers["Vary"] = self.preflight_headers["Vary"]
        return response
