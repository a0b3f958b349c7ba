"""Whether a model spoke at the right moments and said the right thing; pure functions of times and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 1.0  # seconds after an event's end in which a reply tells it
REPEAT_WINDOW = 5.0  # seconds in which saying the same again, with nothing new to tell, is a repeat
EPSILON = 1e-6


@dataclass(frozen=True)
class Said:
    """Something said, or something that should have been said: ``time`` is a reply's frame or an event's end."""

    time: float
    text: str


@dataclass(frozen=True)
class Counts:
    """What a comparison counted; counts of many streams add up."""

    events: int = 0
    replies: int = 0
    matched: int = 0
    exact: int = 0
    repeats: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Pool two comparisons."""
        return Counts(
            self.events + other.events,
            self.replies + other.replies,
            self.matched + other.matched,
            self.exact + other.exact,
            self.repeats + other.repeats,
        )

    @property
    def precision(self) -> float:
        """Share of replies that tell an event."""
        return self.matched / self.replies if self.replies else 0.0

    @property
    def recall(self) -> float:
        """Share of events that are told."""
        return self.matched / self.events if self.events else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.events + self.replies
        return 2 * self.matched / total if total else 1.0

    @property
    def exact_share(self) -> float:
        """Share of told events whose caption is right to the letter."""
        return self.exact / self.matched if self.matched else 0.0

    @property
    def repeat_rate(self) -> float:
        """Share of replies that only repeat."""
        return self.repeats / self.replies if self.replies else 0.0


def match(events: Sequence[Said], replies: Sequence[Said], tolerance: float = TOLERANCE) -> list[tuple[int, int]]:
    """Pairs (event, reply), one to one: each event in order takes the first free reply in [end, end + tolerance].

    All windows have one length, so first come, first served matches as many as can be matched.
    """
    order = sorted(range(len(replies)), key=lambda i: replies[i].time)
    pairs, place = [], 0
    for event in sorted(range(len(events)), key=lambda i: events[i].time):
        end = events[event].time
        while place < len(order) and replies[order[place]].time < end - EPSILON:
            place += 1
        if place < len(order) and replies[order[place]].time <= end + tolerance + EPSILON:
            pairs.append((event, order[place]))
            place += 1
    return pairs


def compare(events: Sequence[Said], replies: Sequence[Said], tolerance: float = TOLERANCE) -> Counts:
    """Match, then count."""
    pairs = match(events, replies, tolerance)
    matched = {reply for _, reply in pairs}
    repeats = sum(_repeats(replies, i) for i in range(len(replies)) if i not in matched)
    exact = sum(events[e].text == replies[r].text for e, r in pairs)
    return Counts(len(events), len(replies), len(pairs), exact, repeats)


def _repeats(replies: Sequence[Said], place: int) -> bool:
    """Whether the reply at ``place`` says what another said shortly before."""
    mine = replies[place]
    return any(
        other.text == mine.text and 0 <= mine.time - other.time <= REPEAT_WINDOW
        for i, other in enumerate(replies)
        if i != place
    )
