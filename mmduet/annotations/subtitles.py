"""Write cues (lines of text with times) as WebVTT or SubRip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from mmduet.files import write_text
from mmduet.text import to_printable


class Cue(NamedTuple):
    """Lines of text, displayed from ``start`` to ``end`` seconds."""

    start: float
    end: float
    lines: tuple[str, ...]

    @classmethod
    def from_text(cls, start: float, end: float, text: str) -> Cue:
        """Return a cue of one line, without control characters."""
        return cls(start, end, (to_printable(text).strip(),))


def shift_cues(cues: Iterable[Cue], duration: float | None, start: float = 0.0) -> Iterator[Cue]:
    """Yield the cues on the clock of a container in which the video begins at ``start`` seconds, as players count.

    Cues end with the video, whose duration is given in seconds (None: unknown); those that start later are kept as they are.
    """
    for cue in cues:
        end = cue.end if duration is None or cue.start >= duration else min(cue.end, duration)
        yield Cue(cue.start + start, end + start, cue.lines)


def write_subtitles(path: Path, cues: Iterable[Cue]) -> None:
    """Write ``path`` completely or not at all, as SubRip if its suffix is .srt, else as WebVTT."""
    write_text(path, srt(cues) if path.suffix.lower() == ".srt" else webvtt(cues))


def webvtt(cues: Iterable[Cue]) -> str:
    """Return the cues as WebVTT, sorted by time."""
    blocks = ["WEBVTT\n"]
    for start, end, lines in sorted(cues):
        text = "\n".join(line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for line in lines)
        blocks.append(f"{_format_time(start, '.')} --> {_format_time(end, '.')}\n{text}\n")
    return "\n".join(blocks)


def srt(cues: Iterable[Cue]) -> str:
    """Return the cues as SubRip, sorted by time.

    SubRip cannot escape characters that players read as markup, so they are replaced by round brackets.
    """
    without_markup = str.maketrans("<>{}", "()()")
    blocks = []
    for number, (start, end, lines) in enumerate(sorted(cues), 1):
        text = "\n".join(line.translate(without_markup) for line in lines)
        blocks.append(f"{number}\n{_format_time(start, ',')} --> {_format_time(end, ',')}\n{text}\n")
    return "\n".join(blocks)


def _format_time(time: float, point: str) -> str:
    seconds, rest = divmod(round(time * 1000), 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"
