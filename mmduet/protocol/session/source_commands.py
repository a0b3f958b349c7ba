"""Converts a client's events about the source into commands."""

from __future__ import annotations

from mmduet.protocol import client_events
from mmduet.protocol.session import commands

SourceEvent = client_events.OpenSource | client_events.UpdateSource | client_events.CloseSource


def to_source_command(event: SourceEvent) -> commands.Command:
    """Return the command of an event."""
    match event:
        case client_events.OpenSource():
            return commands.OpenSource(event.url, event.transport, event.speed, event.event_id)
        case client_events.UpdateSource():
            sets_speed = "speed" in event.model_fields_set
            return commands.UpdateSource(event.paused, event.speed, sets_speed, event.event_id)
        case client_events.CloseSource():
            return commands.CloseSource(event.event_id)
