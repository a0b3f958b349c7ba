"""Keeps a session inside its window: evicts the oldest frames so that what comes next has room; knows no device."""

from __future__ import annotations

from mmduet.engine.session import Session
from mmduet.errors import CapacityError


def ensure_capacity(session: Session, tokens: int, frames: int = 0) -> None:
    """Make room for ``tokens`` more, ``frames`` of them frames. Raises ``CapacityError`` where nothing more may go."""
    slot, options = session.slot, session.options
    if options.window is not None and session.pinned_tokens > options.text_tokens:
        raise CapacityError(
            f"session {session.id} holds {session.pinned_tokens} tokens of queries and kept context, "
            f"{options.text_tokens} are reserved; ask less, or open it with more text_tokens"
        )
    if options.window is not None:
        evictions = slot.layout().evictions_needed(
            max_frames=options.window, new_frames=frames, max_tokens=slot.capacity, new_tokens=tokens
        )
        for _ in range(evictions):
            slot.evict_frame()
    slot.reserve(tokens)
