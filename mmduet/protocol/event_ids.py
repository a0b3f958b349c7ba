"""Event ids of server events: ``event_000000000042``, increasing both as text and as numbers."""

from __future__ import annotations

PREFIX = "event_"
DIGITS = 12


def format_event_id(number: int) -> str:
    """Return the id of event ``number``."""
    return f"{PREFIX}{number:0{DIGITS}d}"


def parse_event_id(event_id: str) -> int | None:
    """Return the number in an event id, or None for any other text."""
    digits = event_id.removeprefix(PREFIX)
    return int(digits) if len(digits) == DIGITS and digits.isascii() and digits.isdigit() else None
