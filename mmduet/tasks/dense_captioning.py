"""Dense captioning: from what a model said while it watched to captioned segments; no model, no video."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter

from mmduet.tasks.base import Stretch

Said = tuple[float, str]  # seconds, text
Score = tuple[float, float]  # seconds, probability
SURE = 0.5  # at a reply, for its bounds to be taken from the scores
STILL = 0.1  # of the score at the reply: down to there the event goes on; validation clips wanted it low (F1 .50 with .5, .61)


@dataclass(frozen=True)
class Segment(Stretch):
    """A stretch, and the caption that is about it."""

    caption: str


def segments_of(replies: Sequence[Said], begin: float = 0.0, informative: Sequence[Score] = ()) -> list[Segment]:
    """Segments from (time, text) replies; ``begin`` is when watching began: the query's time, or the video's beginning.

    Saying the same again prolongs it, so a run of equal texts is one segment. With the ``informative`` score of every frame,
    in order of time, the scores tell its bounds: the head is taught to be positive from the middle of an event to its end
    (MMDuet, section 3.3), so the event began as long before the frames around the reply that are ``STILL`` sure as those last.
    Where they are not known, or not sure, a reply tells what has happened since the one before it: from the end of the segment
    before it (the first: from ``begin``) to the last time the text was said. No segment begins before the end of another.
    Replies are taken in the order of their times; one before ``begin`` gives a segment without length at its own time, and one
    without a word captions nothing.
    """
    runs = _runs(sorted((reply for reply in replies if reply[1].strip()), key=itemgetter(0)))
    segments: list[Segment] = []
    for place, (text, first, last) in enumerate(runs):
        earliest = segments[-1].end if segments else min(begin, first)
        latest = runs[place + 1][1] if place + 1 < len(runs) else float("inf")
        sure = _sure(informative, first, last, earliest, latest)
        start, end = (max(2 * sure[0] - sure[1], earliest), sure[1]) if sure is not None else (earliest, last)
        segments.append(Segment(start, max(end, start), text))
    return segments


def _sure(
    informative: Sequence[Score], first: float, last: float, earliest: float, latest: float
) -> tuple[float, float] | None:
    """From when to when the head was sure, around replies from ``first`` to ``last``; a frame stands until the next one."""
    times = [time for time, _ in informative]
    here, there = bisect_right(times, first) - 1, bisect_right(times, last) - 1
    if here < 0 or informative[here][1] < SURE:
        return None
    floor = STILL * informative[here][1]
    while here > 0 and informative[here - 1][1] >= floor and times[here - 1] >= earliest:
        here -= 1
    while there + 1 < len(times) and informative[there + 1][1] >= floor and times[there + 1] < latest:
        there += 1
    step = (
        times[there + 1] - times[there] if there + 1 < len(times) else times[there] - times[there - 1] if there else 0.0
    )
    return times[here], times[there] + step


def paper_segments_of(replies: Sequence[Said]) -> list[Segment]:
    """As MMDuet's evaluation has it: in the file's order, and the first text is dropped, since nothing ends before it."""
    return [Segment(start, end, text) for (_, _, start), (text, _, end) in pairwise(_runs(replies))]


def _runs(replies: Sequence[Said]) -> list[tuple[str, float, float]]:
    """Each text that is said, once for any number of times in a row, and when it was said first and last."""
    said = [(text, [time for time, _ in run]) for text, run in groupby(replies, key=itemgetter(1))]
    return [(text, times[0], times[-1]) for text, times in said]
