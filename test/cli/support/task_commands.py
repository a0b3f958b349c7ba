"""What the tests of ``caption``, ``ground``, ``highlight`` and ``ask`` share: clips with known truth, tables, a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from command_line import Done

Json = dict[str, Any]


def tables(done: Done) -> dict[str, list[list[str]]]:
    """The rows of each video's table, by its name; cells are two spaces apart or more."""
    found: dict[str, list[list[str]]] = {}
    rows: list[list[str]] = []
    for line in done.out.splitlines():
        if line and not line[0].isspace() and ": " in line and " frame" in line:
            rows = found.setdefault(line.split(": ")[0], [])
        elif line[:1] == " " and line.strip() and line.strip()[0].isdigit():
            rows.append([cell.strip() for cell in line.strip().split("  ") if cell.strip()])
    return found


def report(path: Path) -> Json:
    found = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def iou(one: tuple[float, float], other: tuple[float, float]) -> float:
    inter = max(min(one[1], other[1]) - max(one[0], other[0]), 0.0)
    return inter / (max(one[1], other[1]) - min(one[0], other[0]))
