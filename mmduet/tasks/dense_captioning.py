"""Dense captioning: from what a model said while it watched to captioned segments; no model, no video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter

Said = tuple[float, str]  # seconds, text


@dataclass(frozen=True)
class Segment:
    """A caption and the seconds from ``start`` to ``end`` that it is about."""

    start: float
    end: float
    caption: str


def segments_of(replies: Sequence[Said], begin: float = 0.0) -> list[Segment]:
    """Segments from (time, text) replies; ``begin`` is when watching began: the query's time, or the video's beginning.

    A reply tells what has happened since the one before it, and saying the same again prolongs it. So a run of equal texts is
    one segment from the end of the segment before it (the first: from ``begin``) to the last time the text was said.
    Replies are taken in the order of their times; one before ``begin`` gives a segment without length at its own time.
    """
    segments: list[Segment] = []
    for text, end in _runs(sorted(replies, key=itemgetter(0))):
        start = segments[-1].end if segments else min(begin, end)
        segments.append(Segment(start, end, text))
    return segments


def paper_segments_of(replies: Sequence[Said]) -> list[Segment]:
    """As MMDuet's evaluation has it: in the file's order, and the first text is dropped, since nothing ends before it."""
    return [Segment(start, end, text) for (_, start), (text, end) in pairwise(_runs(replies))]


def _runs(replies: Sequence[Said]) -> list[tuple[str, float]]:
    """Each text that is said, once for any number of times in a row, and when it was said last."""
    return [(text, [time for time, _ in run][-1]) for text, run in groupby(replies, key=itemgetter(1))]
