"""Converts errors to HTTP responses in the OpenAI API's shape."""

from __future__ import annotations

import math
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Match

from mmduet.errors import (
    AuthError,
    CapacityError,
    ConflictError,
    EngineError,
    MmduetError,
    ModelNotFoundError,
    NotFoundError,
    OriginError,
    RateLimitError,
    StorageError,
)
from mmduet.files import is_disk_error
from mmduet.server.docs_page import docs_path
from mmduet.text import shorten, shorten_words

STATUS_BY_ERROR: tuple[tuple[type[MmduetError], int], ...] = (
    (OriginError, 403),
    (AuthError, 401),
    (NotFoundError, 404),
    (ModelNotFoundError, 404),
    (ConflictError, 409),
    (RateLimitError, 429),
    (CapacityError, 503),
    (EngineError, 500),
    (StorageError, 507),
)
STATUS_BY_CODE = {
    "too_large": 413,
    "unsupported_media_type": 415,
    "upgrade_required": 426,
    "upload_stalled": 408,
    "session_ended": 409,
    "conversation_already_has_active_response": 409,
    "too_many_waiting": 429,
    CapacityError.code: 503,  # also as the code of a ProtocolError
    MmduetError.code: 500,
}
ERROR_TYPES = {401: "authentication_error", 403: "authentication_error", 429: "rate_limit_error"}
RETRY_AFTER_SECONDS = 2
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def http_status(error: MmduetError) -> int:
    """Return the HTTP status of an error; 400 for an invalid request."""
    by_class = next((status for kind, status in STATUS_BY_ERROR if isinstance(error, kind)), 400)
    return STATUS_BY_CODE.get(error.code, by_class)


def error_body(message: str, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """Return the body of an error response."""
    kind = ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "code": code, "param": param}}


def error_response(error: MmduetError) -> JSONResponse:
    """Return the response for an error, with ``Retry-After`` or ``WWW-Authenticate`` where they apply."""
    status = http_status(error)
    retry = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: retry, 503: retry}.get(status, {})
    if isinstance(error, RateLimitError):
        headers = {"Retry-After": str(max(math.ceil(error.retry_after_seconds), 1))}
    body = error_body(shorten_words(str(error)), status, error.code, getattr(error, "param", None))
    return JSONResponse(body, status, headers)


def http_exception_response(request: Request, error: HTTPException) -> JSONResponse:
    """Return the response for an error of the framework: an unknown path, or a method that a path does not support."""
    headers = MutableHeaders(error.headers)
    path, status = shorten(request.url.path), error.status_code
    if status == 404:
        message, code = f"there is no endpoint at {path}; GET {docs_path(request)} lists them", NotFoundError.code
    elif status == 405:
        headers["allow"] = ", ".join(_allowed_methods(request))
        message = f"{shorten(request.method)} is not supported at {path}; use {headers['allow']}"
        code = "method_not_allowed"
    else:
        message, code = f"the request cannot be processed: {shorten(error.detail)}", f"http_{status}"
    return JSONResponse(error_body(message, status, code), status, headers)


def _allowed_methods(request: Request) -> list[str]:
    """Return the methods of all routes of a path. The framework's error names only those of one."""
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    routes = request.app.routes
    return [name for name, scope in scopes.items() if any(each.matches(scope)[0] is Match.FULL for each in routes)]


def validation_response(error: RequestValidationError) -> JSONResponse:
    """Return the response for an invalid path or query parameter."""
    first = error.errors()[0]
    param = shorten(".".join(str(part) for part in first["loc"][1:]))
    body = error_body(f"{param} is not valid: {shorten(str(first['msg']))}", 422, "invalid_value", param)
    return JSONResponse(body, 422)


def to_mmduet_error(error: Exception, request_id: str) -> MmduetError:
    """Return the error that a client may see instead of an unexpected exception, which may contain paths or secrets."""
    if isinstance(error, MmduetError):
        return error
    if isinstance(error, OSError) and is_disk_error(error):
        return StorageError(
            f"the server cannot store the request's data ({error.strerror}); "
            "its operator has to free space or fix the temporary directory"
        )
    return MmduetError(f"the server failed to process the request; its log has the reason under {request_id}")
