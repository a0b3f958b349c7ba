"""Support for the tests of ``caption``, ``ground``, ``highlight`` and ``ask``: printed tables, reports and span overlap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from command_line import CommandResult

Json = dict[str, Any]


def tables(done: CommandResult) -> dict[str, list[list[str]]]:
    """Return the rows of each printed table by the name of its video; cells are at least two spaces apart."""
    rows_by_video: dict[str, list[list[str]]] = {}
    rows: list[list[str]] = []
    for line in done.out.splitlines():
        if line and not line[0].isspace() and ": " in line and " frame" in line:
            rows = rows_by_video.setdefault(line.split(": ")[0], [])
        elif line[:1] == " " and line.strip() and line.strip()[0].isdigit():
            rows.append([cell.strip() for cell in line.strip().split("  ") if cell.strip()])
    return rows_by_video


def report(path: Path) -> Json:
    """Return the contents of a file written by ``--output``."""
    contents = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(contents, dict)
    return contents


def iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Return intersection over union of two overlapping spans, 0 for disjoint ones."""
    intersection = max(min(a[1], b[1]) - max(a[0], b[0]), 0.0)
    return intersection / (max(a[1], b[1]) - min(a[0], b[0]))
