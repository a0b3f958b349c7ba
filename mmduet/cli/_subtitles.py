"""Knows how replies become WebVTT cues; nothing of how they came about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, zip_longest
from pathlib import Path

from mmduet.cli._events import Said
from mmduet.files import whole_file

LONGEST_CUE = 4000  # milliseconds


def write_subtitles(path: Path, replies: Iterable[Said]) -> None:
    """Write ``path`` whole, or leave it as it was."""
    with whole_file(path) as part:
        part.write_text(webvtt(replies), encoding="utf-8")


def webvtt(replies: Iterable[Said]) -> str:
    """A cue per reply, from its time to the next reply's or for four seconds; replies of one moment share a cue."""
    cues = list(_cues(replies))
    blocks = ["WEBVTT\n"]
    for (start, text), following in zip_longest(cues, cues[1:]):
        end = min(start + LONGEST_CUE, following[0]) if following else start + LONGEST_CUE
        blocks.append(f"{_stamp(start)} --> {_stamp(end)}\n{text}\n")
    return "\n".join(blocks)


def _cues(replies: Iterable[Said]) -> Iterator[tuple[int, str]]:
    """Start in milliseconds and payload of each cue, in order of time; a reply without words has none."""
    spoken = sorted((reply for reply in replies if reply.text.strip()), key=lambda reply: reply.time)
    for start, together in groupby(spoken, key=lambda reply: round(reply.time * 1000)):
        yield start, "\n".join(_escaped(reply.shown) for reply in together)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _stamp(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:03}"
