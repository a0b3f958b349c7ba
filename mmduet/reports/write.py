"""Puts a report's page together and writes it; what stands on it is made by its neighbours, how it looks by the templates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmduet import __version__
from mmduet.errors import OptionError
from mmduet.evaluation.report import Json, Report
from mmduet.files import write_text
from mmduet.reports.cases import Case, case, worst_items
from mmduet.reports.curves import settings, spread_panels, sweep_panels
from mmduet.reports.film import Films
from mmduet.reports.joined import Files, key_of
from mmduet.reports.tables import Bar, bar, grid, is_number, main_metric, main_number, shown, tables

MOST_PROBLEMS = 50
FEW_PROBLEMS = 10  # are shown without being asked for
TITLES = {
    "qvhighlights": "QVHighlights",
    "grounding": "Temporal grounding",
    "magqa": "MAGQA",
    "proactive": "Proactive answering",
    "ovo": "OVO-Bench",
    "captions": "Captions",
    "dense_captioning": "Dense captioning",
    "audio_description": "Audio description",
}
PROFILES = {
    "fixed": "the metrics as they are defined",
    "paper": "as the original evaluator computes them, quirks included",
}
# Characters that HTML has no place for, and halves of pairs that UTF-8 has none for.
NO_TEXT = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160), *range(0xD800, 0xE000)), "\ufffd")


def write_page(
    path: Path,
    report: Report,
    *,
    predictions: Path | None = None,
    annotations: Path | Sequence[Path] | None = None,
    videos: Path | None = None,
    worst: int = 8,
) -> None:
    """Write ``report`` to ``path`` as one HTML file without scripts and without anything from elsewhere, whole or not at all.

    ``predictions`` and ``annotations`` are the files (or folder) that were evaluated: what they tell of the ``worst`` items is
    shown beside their numbers, with film strips where ``videos`` holds their videos. The same input makes the same page. Raises
    ``AnnotationError`` for a file that is no JSON, ``OptionError`` for a negative ``worst`` or where nothing can be written.
    """
    if worst < 0:
        raise OptionError(f"worst is {worst}; use the number of items to show, 0 for none")
    given = [predictions] if predictions else []
    right = [annotations] if isinstance(annotations, Path) else list(annotations or ())
    view = {
        "title": TITLES.get(report.benchmark, report.benchmark),
        "files": [("predictions", file.name) for file in given] + [("annotations", file.name) for file in right],
        "version": __version__,
        "profile": report.profile,
        "profile_remark": PROFILES[report.profile],
        "items": len(report.items),
        "main": _main(report),
        "tables": tables(report),
        "grid": grid(report),
        "intervals": bool(report.intervals),
        "notes": report.notes,
        "problems": _problems(report),
        "sweep": {
            "panels": sweep_panels(report),
            "lines": len(settings(report)) == 1,
            "columns": _columns(report),
            "rows": _sweep_rows(report),
        },
        "spread": {"name": main_number(report), "panels": spread_panels(report)},
        "worst": _worst(report, given, right, videos, worst),
    }
    write_text(path, _render(view))


def _render(view: dict[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(view).translate(NO_TEXT)


def _main(report: Report) -> dict[str, str | Bar | None] | None:
    """The number that stands large at the top."""
    if (name := main_metric(report)) is None:
        return None
    interval = report.intervals.get(name)
    value = report.metrics[name]
    return {
        "name": name,
        "value": shown(value),
        "interval": f"{shown(interval[0])} to {shown(interval[1])}" if interval else "",
        "bar": bar(name, value, interval),
    }


def _problems(report: Report) -> dict[str, Any]:
    counted = Counter(problem.counted for problem in report.problems)
    return {
        "count": len(report.problems),
        "counted": counted.most_common(),
        "shown": report.problems[:MOST_PROBLEMS],
        "more": len(report.problems[MOST_PROBLEMS:]),
        "open": len(report.problems) <= FEW_PROBLEMS,
    }


def _columns(report: Report) -> list[str]:
    return list(report.sweep[0]) if report.sweep else []


def _sweep_rows(report: Report) -> list[list[str]]:
    """The sweep as a table; what was set is written as short as it can be."""
    varied = settings(report)
    return [
        [
            f"{row[name]:g}" if name in varied and is_number(row.get(name)) else shown(row.get(name))
            for name in _columns(report)
        ]
        for row in report.sweep
    ]


def _worst(
    report: Report, predictions: Sequence[Path], annotations: Sequence[Path], videos: Path | None, most: int
) -> dict[str, Any] | None:
    """The cases, and what a reader must know of how they were chosen."""
    name = main_number(report)
    if name is None or not most:
        return None
    said, gold = Files(predictions, report.benchmark), Files(annotations, report.benchmark)
    items = worst_items(report, name, most, lambda item: said.has(key_of(item, report.benchmark)[0]))
    show = partial(case, name=name, report=report, gold=gold, said=said, films=Films(videos) if videos else None)
    cases: list[Case] = [show(item) for item in items]
    return {"name": name, "cases": cases, "equal": _left_out(report.items, items, name), "last": shown(items[-1][name])}


def _left_out(items: Sequence[Json], chosen: Sequence[Json], name: str) -> int:
    """How many items that are not among the ``chosen`` are no better than the last of these."""
    last = float(chosen[-1][name])
    return sum(is_number(item.get(name)) and float(item[name]) <= last for item in items) - len(chosen)
