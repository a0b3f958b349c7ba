"""Reads the body of an HTTP request up to a size limit and validates it."""

from __future__ import annotations

from typing import TypeVar

from fastapi import Request
from pydantic import ValidationError

from mmduet.errors import ProtocolError
from mmduet.protocol.wire import ClientModel, to_protocol_error

ModelT = TypeVar("ModelT", bound=ClientModel)


async def parse_body(request: Request, model: type[ModelT], max_bytes: int) -> ModelT:
    """Return the body as a ``model``.

    Raises ``ProtocolError`` if the body is larger than ``max_bytes`` or invalid. The error names the invalid field.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise ProtocolError(f"the request body is larger than {max_bytes} bytes; send a smaller one", "too_large")
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise to_protocol_error(error) from None
