"""Turns of clients: their checks, their images, and how the server reports them."""

from __future__ import annotations

from mmduet.duet import Role, check_no_markers
from mmduet.errors import FormatError, ProtocolError
from mmduet.protocol import client_events, frames, server_events


def to_server_item(item: client_events.ItemInput, item_id: str) -> server_events.Item:
    """Return a client's turn as the server reports it, without the data of its images."""
    content = tuple(
        {"type": "input_image"} if isinstance(part, client_events.InputImage) else part.model_dump()
        for part in item.content
    )
    duet = None if item.duet.pts is None else {"pts": item.duet.pts}
    return server_events.Item(id=item_id, role=item.role, content=content, duet=duet)


def check_text(item: client_events.ItemInput, event_id: str | None) -> None:
    """Raise ``ProtocolError`` if the turn's text contains markers of the duet format."""
    try:
        check_no_markers(item.text, Role.USER if item.role == "user" else Role.SYSTEM)
    except FormatError as error:
        raise ProtocolError(str(error), "invalid_value", param="item.content", event_id=event_id) from error


def decode_images(item: client_events.ItemInput) -> list[frames.EncodedImage]:
    """Return the turn's images. Raises ``ProtocolError`` for invalid base64 or an unknown format."""
    return [
        frames.image_from_base64(part.image_url, f"item.content.{position}.image_url")
        for position, part in enumerate(item.content)
        if isinstance(part, client_events.InputImage)
    ]
