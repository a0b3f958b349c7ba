"""Derive captioned segments from replies and scores over time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby, pairwise
from operator import itemgetter

from mmduet.spans import CaptionedSpan

TimedText = tuple[float, str]  # seconds, text
TimedScore = tuple[float, float]  # seconds, probability
MIN_REPLY_SCORE = 0.5  # the informative score at a reply from which segment bounds are taken from the scores
# share of the score at the reply down to which frames belong to its event; chosen on validation (F1 .61; .50 with 0.5)
EXTENT_SHARE = 0.1


def segments_from_replies(
    replies: Sequence[TimedText], begin: float = 0.0, informative: Sequence[TimedScore] = ()
) -> list[CaptionedSpan]:
    """Return one segment per run of equal replies, in order of time.

    ``begin`` is the earliest start of the first segment: the query's time, or 0. ``informative`` is the informative score of
    every frame, in order of time.

    Where the score at the reply is at least ``MIN_REPLY_SCORE``, the scores give the bounds. The head is trained to be positive
    from the middle of an event to its end (MMDuet, section 3.3), so the event begins as long before the frames around the reply
    with at least ``EXTENT_SHARE`` of its score as those frames last. Otherwise the segment reaches from the end of the previous
    one (the first: from ``begin``) to the last repetition of the text.

    No segment begins before the end of another. A reply before ``begin`` gives a segment of length 0 at its own time. Replies
    without words are dropped.
    """
    runs = _merge_equal_texts(sorted((reply for reply in replies if reply[1].strip()), key=itemgetter(0)))
    segments: list[CaptionedSpan] = []
    for index, (text, first, last) in enumerate(runs):
        earliest = segments[-1].end if segments else min(begin, first)
        latest = runs[index + 1][1] if index + 1 < len(runs) else float("inf")
        extent = _scored_extent(informative, first, last, earliest, latest)
        start, end = (max(2 * extent[0] - extent[1], earliest), extent[1]) if extent is not None else (earliest, last)
        segments.append(CaptionedSpan(start, max(end, start), text))
    return segments


def _scored_extent(
    informative: Sequence[TimedScore], first: float, last: float, earliest: float, latest: float
) -> tuple[float, float] | None:
    """Return start and end of the frames with a high score around replies from ``first`` to ``last``, or None.

    A frame lasts until the next one; the extent begins at ``earliest`` or later and has no frame at ``latest`` or later.
    """
    times = [time for time, _ in informative]
    left, right = bisect_right(times, first) - 1, bisect_right(times, last) - 1
    if left < 0 or informative[left][1] < MIN_REPLY_SCORE:
        return None
    floor = EXTENT_SHARE * informative[left][1]
    while left > 0 and informative[left - 1][1] >= floor and times[left - 1] >= earliest:
        left -= 1
    while right + 1 < len(times) and informative[right + 1][1] >= floor and times[right + 1] < latest:
        right += 1
    following = right + 1 if right + 1 < len(times) else right  # the last frame lasts as long as the one before it
    step = times[following] - times[max(following - 1, 0)]
    return times[left], times[right] + step


def paper_segments_from_replies(replies: Sequence[TimedText]) -> list[CaptionedSpan]:
    """Return segments as MMDuet's evaluation does: in the file's order, without the first text, which has no start."""
    return [CaptionedSpan(start, end, text) for (_, _, start), (text, _, end) in pairwise(_merge_equal_texts(replies))]


def _merge_equal_texts(replies: Sequence[TimedText]) -> list[tuple[str, float, float]]:
    """Return text, first time and last time of every run of equal texts."""
    runs = [(text, [time for time, _ in run]) for text, run in groupby(replies, key=itemgetter(1))]
    return [(text, times[0], times[-1]) for text, times in runs]
