"""Numbered log of a session's events, kept for a while so that clients can resume without losing any.

The log is also the outbox: each subscriber reads on from its own position. A subscriber that falls behind the oldest event
has lost events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmduet.protocol.event_ids import format_event_id
from mmduet.protocol.server_events import ServerEvent

PRIVATE_EVENT_SLACK = 64
"""Number of events by which those for a single subscriber may exceed the log's limit."""


@dataclass(frozen=True)
class LogEntry:
    """One event as JSON. ``subscriber`` restricts it to one subscriber; None addresses all."""

    number: int
    text: str
    subscriber: int | None = None


class EventLog:
    """The newest events, at most ``max_events`` of them and at most ``max_bytes`` characters.

    Args:
        max_events: Maximum number of events.
        max_bytes: Maximum total length in characters. The newest event is kept even if it is longer.
        first_number: Number of the first event.
        on_event: Called with every event before it is kept.
        entries: Entries of a restored log, in order and without gaps.
    """

    def __init__(
        self,
        max_events: int = 4096,
        max_bytes: int = 4 << 20,
        first_number: int = 1,
        on_event: Callable[[ServerEvent], None] = lambda event: None,
        entries: Sequence[LogEntry] = (),
    ) -> None:
        self._entries: deque[LogEntry] = deque(entries)  # consecutive numbers
        self._on_event = on_event
        self._max_events, self._max_bytes = max_events, max_bytes
        self._size = sum(len(entry.text) for entry in entries)
        self._next_number = entries[-1].number + 1 if entries else first_number
        self.on_entry: Callable[[LogEntry], None] = lambda entry: None  # called with every entry before it is kept

    @property
    def last_number(self) -> int:
        """Number of the newest event; one less than the first number of an empty log."""
        return self._next_number - 1

    @property
    def first_number(self) -> int:
        """Number of the oldest event in the log; that of the next event if the log is empty."""
        return self._entries[0].number if self._entries else self._next_number

    @property
    def entries(self) -> tuple[LogEntry, ...]:
        """All entries, oldest first."""
        return tuple(self._entries)

    def append(self, event: ServerEvent, subscriber: int | None = None) -> None:
        """Number an event and add it, removing the oldest entries where a limit is exceeded."""
        numbered = event.model_copy(update={"event_id": format_event_id(self._next_number)})
        entry = LogEntry(self._next_number, numbered.model_dump_json(), subscriber)
        self._next_number += 1
        self._on_event(event)
        self.on_entry(entry)
        self._entries.append(entry)
        self._size += len(entry.text)
        # Private events of a subscriber that resumes must not push out the events that it has missed.
        slack = PRIVATE_EVENT_SLACK if subscriber is not None else 0
        while self._exceeds_limits(slack) and len(self._entries) > 1:
            self._size -= len(self._entries.popleft().text)

    def has_all_after(self, number: int) -> bool:
        """Return whether every event after ``number`` is still in the log."""
        return self.first_number - 1 <= number <= self.last_number

    def next_after(self, number: int, subscriber: int) -> LogEntry | None:
        """Return the first event after ``number`` for ``subscriber``, or None if it has read all."""
        skipped = max(number + 1 - self.first_number, 0)
        for position in range(skipped, len(self._entries)):
            entry = self._entries[position]
            if entry.subscriber is None or entry.subscriber == subscriber:
                return entry
        return None

    def _exceeds_limits(self, slack: int) -> bool:
        return len(self._entries) > self._max_events + slack or (not slack and self._size > self._max_bytes)
