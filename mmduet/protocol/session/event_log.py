"""What a session has told, numbered, and kept for a while, so that a client that was away misses nothing; no sockets.

The log is also the outbox: a socket reads on from where it stands. A reader that falls behind what is kept has lost events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmduet.protocol.server_events import ServerEvent

DIGITS = 12
SPARED = 64
"""Events for single sockets by which the log may be longer until the next one for all."""


def event_name(number: int) -> str:
    """``event_000000000042``: increasing as text, too."""
    return f"event_{number:0{DIGITS}d}"


def event_number(name: str) -> int | None:
    """The number in an event's name; None if it is none."""
    digits = name.removeprefix("event_")
    return int(digits) if len(digits) == DIGITS and digits.isascii() and digits.isdigit() else None


@dataclass(frozen=True)
class Entry:
    """One event as text; ``only`` names the socket that it is for, None is for whoever reads."""

    number: int
    text: str
    only: int | None = None


class EventLog:
    """At most ``max_events`` events and ``max_bytes`` characters, the newest ones. Numbers start at 1."""

    def __init__(
        self,
        max_events: int = 4096,
        max_bytes: int = 4 << 20,
        first: int = 1,
        witness: Callable[[ServerEvent], None] = lambda event: None,
        entries: Sequence[Entry] = (),
    ) -> None:
        self._entries: deque[Entry] = deque(entries)  # without gaps in their numbers
        self._witness = witness  # told of every event
        self._max_events, self._max_bytes = max_events, max_bytes
        self._size = sum(len(entry.text) for entry in entries)
        self._next = entries[-1].number + 1 if entries else first
        self.kept: Callable[[Entry], None] = lambda entry: None  # told of every entry

    @property
    def last(self) -> int:
        """Number of the newest event; one less than the first where there is none."""
        return self._next - 1

    @property
    def oldest(self) -> int:
        """Number of the oldest event that is kept; that of the coming one where none is."""
        return self._entries[0].number if self._entries else self._next

    def append(self, event: ServerEvent, only: int | None = None) -> None:
        """Number an event and keep it, at the cost of the oldest."""
        named = event.model_copy(update={"event_id": event_name(self._next)})
        entry = Entry(self._next, named.model_dump_json(), only)
        self._next += 1
        self._witness(event)
        self.kept(entry)
        self._entries.append(entry)
        self._size += len(entry.text)
        spared = SPARED if only is not None else 0  # what is told to one socket must not cost it what it came for
        while self._over(spared) and len(self._entries) > 1:
            self._size -= len(self._entries.popleft().text)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is kept, oldest first."""
        return tuple(self._entries)

    def _over(self, spared: int) -> bool:
        return len(self._entries) > self._max_events + spared or (not spared and self._size > self._max_bytes)

    def holds_after(self, number: int) -> bool:
        """Whether every event after ``number`` is still kept."""
        return self.oldest - 1 <= number <= self.last

    def after(self, number: int, reader: int) -> Entry | None:
        """The next event after ``number`` that is for ``reader``; None where it has read all."""
        skipped = max(number + 1 - self.oldest, 0)
        for place in range(skipped, len(self._entries)):
            entry = self._entries[place]
            if entry.only is None or entry.only == reader:
                return entry
        return None
