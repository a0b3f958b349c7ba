"""Knows how words with times become WebVTT or SubRip; nothing of how they came about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, zip_longest
from pathlib import Path
from typing import NamedTuple

from mmduet.cli._events import Said, printable
from mmduet.files import write_text

LONGEST_CUE = 4.0  # seconds that a reply is shown
SHORTEST_CUE = 1.0  # seconds that it takes to read one, where there is room


class Cue(NamedTuple):
    """Lines of text, shown from ``start`` to ``end`` seconds."""

    start: float
    end: float
    lines: tuple[str, ...]

    @classmethod
    def of(cls, start: float, end: float, text: str) -> Cue:
        """One line that steers no player."""
        return cls(start, end, (printable(text).strip(),))


def write_subtitles(path: Path, cues: Iterable[Cue]) -> None:
    """Write ``path`` whole, or leave it as it was; SubRip where its name ends in .srt, else WebVTT."""
    write_text(path, srt(cues) if path.suffix.lower() == ".srt" else webvtt(cues))


def webvtt(cues: Iterable[Cue]) -> str:
    """In order of time."""
    blocks = ["WEBVTT\n"]
    for start, end, lines in sorted(cues):
        text = "\n".join(line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for line in lines)
        blocks.append(f"{_stamp(start, '.')} --> {_stamp(end, '.')}\n{text}\n")
    return "\n".join(blocks)


def srt(cues: Iterable[Cue]) -> str:
    """In order of time. SubRip has no way to write what players take for markup, so round brackets stand in its place."""
    harmless = str.maketrans("<>{}", "()()")
    blocks = []
    for number, (start, end, lines) in enumerate(sorted(cues), 1):
        text = "\n".join(line.translate(harmless) for line in lines)
        blocks.append(f"{number}\n{_stamp(start, ',')} --> {_stamp(end, ',')}\n{text}\n")
    return "\n".join(blocks)


def cues_of(replies: Iterable[Said]) -> Iterator[Cue]:
    """A cue per reply, from its time to the next reply's or for four seconds; replies of one moment share a cue.

    A reply without words has none.
    """
    spoken = sorted((reply for reply in replies if reply.text.strip()), key=lambda reply: reply.time)
    moments = [list(together) for _, together in groupby(spoken, key=lambda reply: round(reply.time * 1000))]
    for moment, following in zip_longest(moments, moments[1:]):
        start = moment[0].time
        end = min(start + LONGEST_CUE, following[0].time) if following else start + LONGEST_CUE
        yield Cue(start, end, tuple(reply.shown for reply in moment))


def apart(cues: Iterable[Cue], least: float = SHORTEST_CUE) -> Iterator[Cue]:
    """The cues in order, each shown ``least`` seconds at least, but none once the next one is; those of one moment share one.

    Players of SubRip show one cue at a time.
    """
    moments = [list(together) for _, together in groupby(sorted(cues), key=lambda cue: round(cue.start * 1000))]
    for moment, following in zip_longest(moments, moments[1:]):
        start = moment[0].start
        end = max(start + least, *(cue.end for cue in moment))
        lines = tuple(line for cue in moment for line in cue.lines)
        yield Cue(start, min(end, following[0].start) if following else end, lines)


def _stamp(time: float, point: str) -> str:
    seconds, rest = divmod(round(time * 1000), 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"
