"""What a client has sent or is to send, kept until the server has said that it was consumed; no sockets."""

from __future__ import annotations

from collections import deque


class Outbox:
    """Messages in order, each with its index from 0; what is not known to be consumed can be sent again."""

    def __init__(self) -> None:
        self._kept: deque[str | bytes] = deque()
        self._first = 0  # index of the oldest that is kept
        self._next = 0  # index of the next to send

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def appended(self) -> int:
        """How many messages there have been."""
        return self._first + len(self._kept)

    def append(self, message: str | bytes) -> None:
        """Add a message."""
        self._kept.append(message)

    def next(self) -> str | bytes | None:
        """The next message to send; None where all were."""
        if self._next == self.appended:
            return None
        message = self._kept[self._next - self._first]
        self._next += 1
        return message

    def acknowledge(self, last: int) -> None:
        """The server has consumed every message up to index ``last``."""
        while self._kept and self._first <= last:
            self._kept.popleft()
            self._first += 1
        self._next = max(self._next, self._first)

    def rewind(self, last: int) -> None:
        """A new socket: send again what comes after index ``last``."""
        self.acknowledge(last)
        self._next = self._first
