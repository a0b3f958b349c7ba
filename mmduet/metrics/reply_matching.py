"""Match replies with the events they describe, and count matches, exact texts and repetitions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mmduet.spans import Span

TOLERANCE_SECONDS = 1.0  # after an event's end, in which a reply still describes it
REPEAT_WINDOW_SECONDS = 5.0  # in which an unmatched reply with the same text is a repetition
EPSILON = 1e-6


@dataclass(frozen=True)
class TimedText:
    """A reply at the time of its frame, or an expected text at the end of its event."""

    time: float
    text: str


@dataclass(frozen=True)
class MatchCounts:
    """The counts of a comparison. The counts of several streams can be added."""

    events: int = 0
    replies: int = 0
    matched: int = 0
    exact: int = 0
    repeats: int = 0

    def __add__(self, other: MatchCounts) -> MatchCounts:
        """Pool two comparisons."""
        return MatchCounts(
            self.events + other.events,
            self.replies + other.replies,
            self.matched + other.matched,
            self.exact + other.exact,
            self.repeats + other.repeats,
        )

    @property
    def precision(self) -> float:
        """The share of replies that match an event."""
        return self.matched / self.replies if self.replies else 0.0

    @property
    def recall(self) -> float:
        """The share of events that a reply matches."""
        return self.matched / self.events if self.events else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 1 without events and replies."""
        total = self.events + self.replies
        return 2 * self.matched / total if total else 1.0

    @property
    def exact_share(self) -> float:
        """The share of matched events whose reply has exactly the expected text."""
        return self.exact / self.matched if self.matched else 0.0

    @property
    def repeat_rate(self) -> float:
        """The share of replies that match nothing and repeat another."""
        return self.repeats / self.replies if self.replies else 0.0


def match_replies(events: Sequence[TimedText], replies: Sequence[TimedText]) -> list[tuple[int, int]]:
    """Return one-to-one pairs (event, reply): each event takes the first free reply in [end, end + TOLERANCE_SECONDS].

    All windows have the same length, so that taking events in order of time gives a maximum matching.
    """
    order = sorted(range(len(replies)), key=lambda i: replies[i].time)
    pairs, position = [], 0
    for event in sorted(range(len(events)), key=lambda i: events[i].time):
        end = events[event].time
        while position < len(order) and replies[order[position]].time < end - EPSILON:
            position += 1
        if position < len(order) and replies[order[position]].time <= end + TOLERANCE_SECONDS + EPSILON:
            pairs.append((event, order[position]))
            position += 1
    return pairs


def match_spans(spans: Sequence[Span], times: Sequence[float]) -> list[tuple[int, int]]:
    """Return one-to-one pairs (span, reply): in order of time, each reply takes the free span around it that ends first.

    Both ends belong to a span. This is a maximum matching, also for spans of different lengths.
    """
    pairs: dict[int, int] = {}
    for reply in sorted(range(len(times)), key=lambda i: times[i]):
        time = times[reply]
        free = (
            i for i, span in enumerate(spans) if i not in pairs and span.start - EPSILON <= time <= span.end + EPSILON
        )
        chosen = min(free, key=lambda i: spans[i].end, default=None)
        if chosen is not None:
            pairs[chosen] = reply
    return sorted(pairs.items())


def compare_replies(events: Sequence[TimedText], replies: Sequence[TimedText]) -> MatchCounts:
    """Match replies with events, and count."""
    pairs = match_replies(events, replies)
    repeats = count_repeats(replies, {reply for _, reply in pairs})
    exact = sum(events[e].text == replies[r].text for e, r in pairs)
    return MatchCounts(len(events), len(replies), len(pairs), exact, repeats)


def count_repeats(replies: Sequence[TimedText], matched: Collection[int]) -> int:
    """Return how many replies whose index is not in ``matched`` repeat another."""
    return sum(_is_repeat(replies, i) for i in range(len(replies)) if i not in matched)


def _is_repeat(replies: Sequence[TimedText], index: int) -> bool:
    """Return whether another reply had the same text at most ``REPEAT_WINDOW_SECONDS`` earlier."""
    reply = replies[index]
    return any(
        other.text == reply.text and 0 <= reply.time - other.time <= REPEAT_WINDOW_SECONDS
        for i, other in enumerate(replies)
        if i != index
    )
