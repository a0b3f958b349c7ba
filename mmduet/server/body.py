"""How the body of an HTTP request becomes a value: read within bounds, and what is wrong with it named."""

from __future__ import annotations

from typing import TypeVar

from fastapi import Request
from pydantic import ValidationError

from mmduet.errors import ProtocolError
from mmduet.protocol.wire import Received, refusal

ReceivedT = TypeVar("ReceivedT", bound=Received)


async def parsed(request: Request, kind: type[ReceivedT], most: int) -> ReceivedT:
    """The body as a ``kind``. Raises ``ProtocolError``: larger than ``most`` bytes, or what ``refusal`` tells."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise ProtocolError(f"the request is larger than {most} bytes; send a smaller one", "too_large")
    try:
        return kind.model_validate_json(bytes(body))
    except ValidationError as error:
        raise refusal(error) from None
