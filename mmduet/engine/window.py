"""Makes room in a session's slot by the window rule of ``mmduet.duet.window``."""

from __future__ import annotations

from mmduet.engine.session import Session
from mmduet.errors import CapacityError


def ensure_capacity(session: Session, tokens: int, frames: int = 0) -> None:
    """Evict until ``tokens`` tokens, which hold ``frames`` frames, fit. Raise ``CapacityError`` if they cannot."""
    slot, options = session.slot, session.options
    if options.window is not None and session.pinned_tokens > options.text_tokens:
        raise CapacityError(
            f"session {session.id} holds {session.pinned_tokens} tokens of queries and kept context, and may hold "
            f"{options.text_tokens}; send less text, or use no window"
        )
    if options.window is not None:
        for _ in range(slot.evictions_needed(options.window, frames, tokens)):
            slot.evict_frame()
    slot.reserve(tokens)
