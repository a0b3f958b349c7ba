"""Limits on a client's queued input and message rate, and the exception for a client that exceeds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mmduet.protocol.session.token_bucket import TokenBucket


@dataclass(frozen=True)
class SessionLimits:
    """Limits of one client.

    ``max_waiting_frames`` bounds the queued frames, ``max_waiting_turns`` all other queued commands. ``burst`` is the number of
    messages that may arrive at once before ``messages_per_second`` applies. ``take_frame`` counts a frame that is about to be
    queued against a limit that sessions share; it is dropped if the result is False.
    """

    max_waiting_frames: int = 32
    max_waiting_turns: int = 64
    messages_per_second: float = 500.0
    burst: int = 2000
    take_frame: Callable[[], bool] = lambda: True


class ProtocolAbuse(Exception):  # noqa: N818 - not part of the error tree
    """Close the connection with ``code`` and ``reason``; the session stays open until its time to live ends."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class MessageRateLimiter:
    """Holds a client to its message rate."""

    def __init__(self, limits: SessionLimits) -> None:
        self._bucket = TokenBucket(limits.messages_per_second, limits.burst)

    def check(self, now: float) -> None:
        """Count one message at ``now`` seconds. Raises ``ProtocolAbuse`` if it exceeds the rate."""
        if not self._bucket.take(now):
            raise ProtocolAbuse(1008, f"more than {self._bucket.rate:g} messages per second")
