"""Keep the messages of a client until the server has confirmed that it has consumed them; no sockets."""

from __future__ import annotations

from collections import deque


class Outbox:
    """Messages in order with indices from 0. Messages that are not confirmed can be sent again."""

    def __init__(self) -> None:
        self._kept: deque[str | bytes] = deque()
        self._first = 0  # index of the oldest message in the outbox
        self._next = 0  # index of the next message to send

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def appended_count(self) -> int:
        """Number of messages appended so far."""
        return self._first + len(self._kept)

    def append(self, message: str | bytes) -> None:
        """Add a message."""
        self._kept.append(message)

    def next_message(self) -> str | bytes | None:
        """Return the next message to send, or None if all have been sent."""
        if self._next == self.appended_count:
            return None
        message = self._kept[self._next - self._first]
        self._next += 1
        return message

    def acknowledge(self, last_consumed: int) -> None:
        """Remove every message up to index ``last_consumed``, which the server has consumed."""
        while self._kept and self._first <= last_consumed:
            self._kept.popleft()
            self._first += 1
        self._next = max(self._next, self._first)

    def start_after(self, last_consumed: int) -> None:
        """Number the messages after those that another client of the session has sent, before the first one is sent."""
        self._first = self._next = last_consumed + 1

    def rewind(self, last_consumed: int) -> None:
        """Continue on a new connection with the message after index ``last_consumed``."""
        self.acknowledge(last_consumed)
        self._next = self._first
