"""Describes error responses in ``/openapi.json``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

DESCRIPTIONS: dict[int | str, str] = {
    400: "The request is invalid. `param` names the field.",
    401: "No valid key came with the request; or it came through a proxy, and the server has no keys.",
    403: "The origin of the page, or the host name of a server without keys, is not allowed.",
    404: "The model or session does not exist, or the session belongs to another key.",
    409: "The state of the session does not allow the request, for example because it has ended.",
    413: "The body is larger than the server's limit.",
    415: "The body is not JSON, or it is compressed.",
    422: "A parameter in the path or the query is invalid.",
    429: "A limit of the key is reached, or too much is waiting in the session. Try again after `Retry-After` seconds.",
    500: "The server failed. `x-request-id` is the id in its log.",
    503: "The server is full or shutting down. Try again after `Retry-After` seconds.",
    507: "The server's disk is full.",
    "default": "Any other error.",
}
RETRY_AFTER = {"description": "Seconds to wait before the next attempt.", "schema": {"type": "integer"}}


class ErrorDetail(BaseModel):
    """What is wrong, and what to do. ``code`` is stable, ``param`` is the dotted path of the invalid field."""

    message: str
    type: str
    code: str
    param: str | None


class ErrorResponse(BaseModel):
    """Body of every error response, as in OpenAI's API."""

    error: ErrorDetail


def describe_errors(*statuses: int | str) -> dict[int | str, dict[str, Any]]:
    """Return the description of error responses with these statuses, for the parameter ``responses`` of a route."""
    return {status: _describe(status) for status in statuses}


def _describe(status: int | str) -> dict[str, Any]:
    response: dict[str, Any] = {"model": ErrorResponse, "description": DESCRIPTIONS[status]}
    return {**response, "headers": {"Retry-After": RETRY_AFTER}} if status in (429, 503) else response
