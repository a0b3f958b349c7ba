"""Write an evaluation report as one self-contained HTML file; the layout is in the templates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmduet import __version__
from mmduet.annotations.json_values import Json
from mmduet.errors import OptionError
from mmduet.evaluation.report import Report
from mmduet.files import write_text
from mmduet.reports.cases import build_case, worst_items
from mmduet.reports.panels import distribution_panels, sweep_panels, swept_settings
from mmduet.reports.row_index import RowIndex, join_key
from mmduet.reports.tables import (
    build_bar,
    build_grid,
    build_tables,
    format_number,
    is_number,
    main_item_metric,
    main_metric,
)
from mmduet.viz.film_strip import VideoFolder

MAX_PROBLEMS = 50
MAX_OPEN_PROBLEMS = 10  # a longer list is collapsed
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
PROFILE_DESCRIPTIONS = {
    "fixed": "the metrics as they are defined",
    "paper": "as the original evaluator computes them, quirks included",
}
# Control characters, which HTML does not allow, and unpaired surrogates, which UTF-8 cannot encode.
INVALID_CHARACTERS = dict.fromkeys(
    (*range(9), 11, 12, *range(14, 32), *range(127, 160), *range(0xD800, 0xE000)), "\ufffd"
)


def write_html_report(
    path: Path,
    report: Report,
    *,
    predictions: Path | None = None,
    annotations: Path | Sequence[Path] | None = None,
    videos: Path | None = None,
    worst: int = 8,
) -> None:
    """Write ``report`` to ``path`` as one HTML file without scripts and without external resources.

    The file is written completely or not at all, and the same input gives the same bytes.

    Args:
        predictions: The evaluated file (or folder); its contents are displayed for the worst items.
        annotations: The annotation files, displayed in the same way.
        videos: A folder with the videos, for film strips.
        worst: The number of worst items to display; 0 for none.

    Raises:
        AnnotationError: a file is not JSON.
        OptionError: ``worst`` is negative, or the file cannot be written.
    """
    if worst < 0:
        raise OptionError(f"worst must be at least 0, got {worst}")
    prediction_files = [predictions] if predictions else []
    annotation_files = [annotations] if isinstance(annotations, Path) else list(annotations or ())
    view = {
        "title": TITLES.get(report.benchmark, report.benchmark),
        "files": [
            *(("predictions", file.name) for file in prediction_files),
            *(("annotations", file.name) for file in annotation_files),
        ],
        "version": __version__,
        "profile": report.profile,
        "profile_description": PROFILE_DESCRIPTIONS[report.profile],
        "items": len(report.items),
        "headline": _headline(report),
        "tables": build_tables(report),
        "grid": build_grid(report),
        "has_intervals": bool(report.intervals),
        "notes": report.notes,
        "problems": _problems(report),
        "sweep": _sweep(report),
        "distribution": {"metric": main_item_metric(report), "panels": distribution_panels(report)},
        "worst": _worst_cases(report, prediction_files, annotation_files, videos, worst),
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
    return environment.get_template("page.html").render(view).translate(INVALID_CHARACTERS)


def _headline(report: Report) -> dict[str, Any] | None:
    """Return the main metric, which is displayed large at the top."""
    if (name := main_metric(report)) is None:
        return None
    interval = report.intervals.get(name)
    value = report.metrics[name]
    return {
        "name": name,
        "value": format_number(value),
        "interval": f"{format_number(interval[0])} to {format_number(interval[1])}" if interval else "",
        "bar": build_bar(name, value, interval),
    }


def _problems(report: Report) -> dict[str, Any]:
    return {
        "count": len(report.problems),
        "counted_as": Counter(problem.counted_as for problem in report.problems).most_common(),
        "listed": report.problems[:MAX_PROBLEMS],
        "omitted": len(report.problems[MAX_PROBLEMS:]),
        "open": len(report.problems) <= MAX_OPEN_PROBLEMS,
    }


def _sweep(report: Report) -> dict[str, Any]:
    """Return the panels and the table of the sweep; its settings are formatted as short as possible."""
    settings, columns = swept_settings(report), list(report.sweep[0]) if report.sweep else []

    def cell(name: str, value: object) -> str:
        return f"{value:g}" if name in settings and is_number(value) else format_number(value)

    return {
        "panels": sweep_panels(report),
        "has_lines": len(settings) == 1,
        "columns": columns,
        "rows": [[cell(name, row.get(name)) for name in columns] for row in report.sweep],
    }


def _worst_cases(
    report: Report, predictions: Sequence[Path], annotations: Sequence[Path], videos: Path | None, count: int
) -> dict[str, Any] | None:
    """Return the worst cases, and how many further items are as bad as the last of them."""
    metric = main_item_metric(report)
    if metric is None or not count:
        return None
    predicted, gold = RowIndex(predictions, report.benchmark), RowIndex(annotations, report.benchmark)
    items = worst_items(report, metric, count, lambda item: predicted.has(join_key(item, report.benchmark)[0]))
    case_of = partial(
        build_case,
        metric=metric,
        report=report,
        gold=gold,
        predictions=predicted,
        videos=VideoFolder(videos) if videos else None,
    )
    return {
        "metric": metric,
        "cases": [case_of(item) for item in items],
        "equal": _count_equal(report.items, items, metric),
        "last_value": format_number(items[-1][metric]),
    }


def _count_equal(items: Sequence[Json], chosen: Sequence[Json], metric: str) -> int:
    """Return how many items besides ``chosen`` are not better than the last of these."""
    last = float(chosen[-1][metric])
    return sum(is_number(item.get(metric)) and float(item[metric]) <= last for item in items) - len(chosen)
