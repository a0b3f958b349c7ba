"""Turns of clients as the server reports them."""

from __future__ import annotations

from mmduet.protocol import client_events, server_events


def to_server_item(item: client_events.ItemInput, item_id: str) -> server_events.Item:
    """Return a client's turn as the server reports it, without the data of its images."""
    content = tuple(
        {"type": "input_image"} if isinstance(part, client_events.InputImage) else part.model_dump()
        for part in item.content
    )
    duet = None if item.duet.pts is None else {"pts": item.duet.pts}
    return server_events.Item(id=item_id, role=item.role, content=content, duet=duet)
