"""Read audio descriptions: texts for time slots of movies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmduet.annotations.json_files import as_rows, read_json_content
from mmduet.annotations.json_values import (
    InvalidValueError,
    annotation_errors,
    as_id,
    as_list,
    get_field,
    number_field,
    text_field,
)
from mmduet.spans import Span

TEXT_FIELDS = ("text", "caption")
SLOT_DECIMALS = 3  # slots are compared to the millisecond


def read_descriptions(path: Path) -> dict[str, dict[Span, str]]:
    """Return the descriptions by movie and time slot, in the order of time.

    Read are JSON or JSON lines of ``{movie, start, end, text}``, and ``{movie: [{start, end, text}]}``, in seconds. Raises
    ``AnnotationError`` naming the entry.
    """
    movies: dict[str, dict[Span, str]] = {}
    for movie, row, where in _entries(path):
        with annotation_errors(where):
            slot, slots = _parse_slot(row), movies.setdefault(movie, {})
            if slot in slots:
                raise InvalidValueError(f"{movie!r} has two descriptions from {slot.start} to {slot.end} s; keep one")
            slots[slot] = text_field(row, *TEXT_FIELDS)
    return {movie: dict(sorted(slots.items())) for movie, slots in movies.items() if slots}


def _entries(path: Path) -> list[tuple[str, Any, str]]:
    """Return (movie, row, place for a message) of each entry."""
    content = as_rows(read_json_content(path), "movie")
    entries = []
    if isinstance(content, dict):
        for movie, rows in content.items():
            with annotation_errors(f"{path}, {movie!r}"):
                entries += [
                    (movie, row, f"{path}, {movie!r}, entry {i}")
                    for i, row in enumerate(as_list(rows, "the list of descriptions"))
                ]
        return entries
    for i, row in enumerate(content):
        where = f"{path}, entry {i}"
        with annotation_errors(where):
            entries.append((as_id(get_field(row, "movie"), "movie"), row, where))
    return entries


def _parse_slot(row: object) -> Span:
    start, end = number_field(row, "start"), number_field(row, "end")
    if end < start:
        raise InvalidValueError(f"the slot ends at {end} s before it starts at {start} s; swap its ends")
    return Span(round(start, SLOT_DECIMALS), round(end, SLOT_DECIMALS))
