"""Knows how words with times become WebVTT or SubRip; nothing of how they came about."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mmduet.files import write_text
from mmduet.text import to_printable


class Cue(NamedTuple):
    """Lines of text, shown from ``start`` to ``end`` seconds."""

    start: float
    end: float
    lines: tuple[str, ...]

    @classmethod
    def from_text(cls, start: float, end: float, text: str) -> Cue:
        """One line that steers no player."""
        return cls(start, end, (to_printable(text).strip(),))


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


def _stamp(time: float, point: str) -> str:
    seconds, rest = divmod(round(time * 1000), 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"
