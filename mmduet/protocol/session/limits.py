"""Limits on a client's queued input and message rate, and the exception for a client that exceeds them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SessionLimits:
    """Limits of one client.

    ``max_waiting_frames`` bounds the queued frames, ``max_waiting_turns`` all other queued commands. ``burst`` is the number of
    messages that may arrive at once before ``messages_per_second`` applies.
    """

    max_waiting_frames: int = 32
    max_waiting_turns: int = 64
    messages_per_second: float = 500.0
    burst: int = 2000


class ProtocolAbuse(Exception):  # noqa: N818 - not part of the error tree
    """Close the connection with ``code`` and ``reason``; the session stays open until its time to live ends."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class MessageRateLimiter:
    """Token bucket that holds a client to its message rate."""

    def __init__(self, limits: SessionLimits) -> None:
        self._rate, self._burst = limits.messages_per_second, float(limits.burst)
        self._credit, self._updated_at = self._burst, 0.0

    def check(self, now: float) -> None:
        """Count one message at ``now`` seconds. Raises ``ProtocolAbuse`` if it exceeds the rate."""
        earned = max((now - self._updated_at) * self._rate, 0.0)
        self._credit = min(self._credit + earned, self._burst) - 1
        self._updated_at = now
        if self._credit < 0:
            raise ProtocolAbuse(1008, f"more than {self._rate:g} messages per second")
