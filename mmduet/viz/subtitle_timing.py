"""When subtitles are displayed: from timed replies and spans to cues that can be read and do not overlap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, zip_longest

from mmduet.annotations.subtitles import Cue

MAX_REPLY_SECONDS = 4.0  # how long a reply is displayed
MIN_CUE_SECONDS = 1.0  # the time that it takes to read a cue, if the next one leaves it


def reply_cues(replies: Iterable[tuple[float, str]]) -> Iterator[Cue]:
    """Yield a cue for each reply, ``(time, displayed text)``, up to the next reply or for ``MAX_REPLY_SECONDS``.

    Replies at the same millisecond share a cue.
    """
    by_time = sorted(replies, key=lambda reply: reply[0])
    moments = [list(group) for _, group in groupby(by_time, key=lambda reply: round(reply[0] * 1000))]
    for moment, following in zip_longest(moments, moments[1:]):
        start = moment[0][0]
        end = min(start + MAX_REPLY_SECONDS, following[0][0]) if following else start + MAX_REPLY_SECONDS
        yield Cue(start, end, tuple(text for _, text in moment))


def enforce_min_cue(cues: Iterable[Cue], min_seconds: float = MIN_CUE_SECONDS) -> Iterator[Cue]:
    """Yield the cues in order, each displayed for at least ``min_seconds`` but never beyond the start of the next.

    Cues that start at the same millisecond are merged: players of SubRip display one cue at a time.
    """
    moments = [list(group) for _, group in groupby(sorted(cues), key=lambda cue: round(cue.start * 1000))]
    for moment, following in zip_longest(moments, moments[1:]):
        start = moment[0].start
        end = max(start + min_seconds, *(cue.end for cue in moment))
        lines = tuple(line for cue in moment for line in cue.lines)
        yield Cue(start, min(end, following[0].start) if following else end, lines)
