"""Reads the JSON body of an HTTP request up to a size limit and validates it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from pydantic import ValidationError

from mmduet.errors import ProtocolError
from mmduet.protocol.wire import ClientModel, to_protocol_error, validate_json
from mmduet.server.docs_page import docs_path
from mmduet.text import shorten

ModelT = TypeVar("ModelT", bound=ClientModel)


async def parse_body(
    request: Request, model: type[ModelT], max_bytes: int, reading_delay: Callable[[int], float]
) -> ModelT:
    """Return the body as a ``model``.

    ``reading_delay`` gets the size of each part in bytes, and returns for how many seconds no more is read. Meanwhile the
    connection's flow control slows the client.

    Raises ``ProtocolError`` if the body is not JSON, is larger than ``max_bytes`` or is invalid. The error names the
    invalid field.
    """
    _check_encoding(request)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if (delay := reading_delay(len(chunk))) > 0:
            await asyncio.sleep(delay)
        if len(body) > max_bytes:
            raise ProtocolError(f"the request body is larger than {max_bytes} bytes; send a smaller one", "too_large")
    try:
        return validate_json(model.model_validate_json, bytes(body))
    except ValidationError as error:
        guide = f"GET {docs_path(request)}"
        raise to_protocol_error(error, document=_parse_or_none(body), guide=guide, whole="the request body") from None


def _check_encoding(request: Request) -> None:
    """Raise ``ProtocolError`` for a body that is not plain JSON. A body without a type is taken for JSON."""
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise ProtocolError(
            f"content type {shorten(media_type)!r} is not supported; send application/json", "unsupported_media_type"
        )
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise ProtocolError(
            f"content encoding {shorten(encoding)!r} is not supported; send the body uncompressed",
            "unsupported_media_type",
        )


def _parse_or_none(body: bytearray) -> object:
    """Return the parsed body, or None if it is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
