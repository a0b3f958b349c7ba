"""What one client may have waiting and how fast it may send, and the exception for a client that exceeds it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SessionLimits:
    """What one client may have waiting, and how fast it may send."""

    max_waiting_frames: int = 32
    max_waiting_turns: int = 64
    messages_per_second: float = 500.0
    burst: int = 2000


class ProtocolAbuse(Exception):  # noqa: N818 - not part of the error tree
    """Close the connection with ``code`` and ``reason``; the session stays open until its time to live ends."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason
