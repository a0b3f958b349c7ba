"""Make text from models and users safe to display on one line."""

from __future__ import annotations

_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"  # needed by Persian text and by composed emoji


def to_printable(text: str) -> str:
    """Return ``text`` on one line, without control characters, so that a model's reply cannot control a terminal.

    White space becomes a space, any other character that cannot be printed U+FFFD. The length stays the same.
    """
    return "".join(
        char if char.isprintable() or char in _JOINERS else " " if char.isspace() else _UNPRINTABLE for char in text
    )
