"""Converts errors to HTTP responses in the OpenAI API's shape."""

from __future__ import annotations

from fastapi.responses import JSONResponse

from mmduet.errors import AuthError, CapacityError, MmduetError, NotFoundError, OriginError

STATUS_BY_ERROR: tuple[tuple[type[MmduetError], int], ...] = (
    (OriginError, 403),
    (AuthError, 401),
    (NotFoundError, 404),
    (CapacityError, 503),
)
ERROR_TYPES = {401: "authentication_error", 403: "authentication_error", 503: "server_error"}
RETRY_AFTER_SECONDS = 2


def http_status(error: MmduetError) -> int:
    """Return the HTTP status of an error: 401, 403, 404 or 503, and 400 for any other."""
    return next((status for kind, status in STATUS_BY_ERROR if isinstance(error, kind)), 400)


def error_response(error: MmduetError) -> JSONResponse:
    """Return the response for an error, with ``Retry-After`` or ``WWW-Authenticate`` where they apply."""
    status = http_status(error)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": str(RETRY_AFTER_SECONDS)}}.get(status, {})
    body = {
        "message": str(error),
        "type": ERROR_TYPES.get(status, "invalid_request_error"),
        "code": error.code,
        "param": getattr(error, "param", None),
    }
    return JSONResponse({"error": body}, status, headers)
