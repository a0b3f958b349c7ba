"""Arrange a report's metrics in tables, format numbers, and choose the metric that items are ranked by; no drawing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mmduet.evaluation.report import Report

MAIN_METRICS = {
    "qvhighlights": ("HL-min-VeryGood-mAP", "MR-full-mAP"),
    "grounding": ("mIoU",),
    "magqa": ("in_span",),
    "proactive": ("PAUC@0.5",),
    "ovo": ("Total", "accuracy"),
    "captions": ("CIDEr",),
    "dense_captioning": ("SODA_c",),
    "audio_description": ("R@5/16", "CIDEr"),
}
COUNTS = frozenset({"turns", "distinct_turns", "n_preds"})
OUT_OF_FIVE = frozenset({"in_span"})
NO_VALUE = "\N{EN DASH}"
MIN_GRID_ROWS = 3  # metrics with the same levels that justify a grid


@dataclass(frozen=True)
class MetricBar:
    """A value and the ends of its interval as percentages of the metric's range."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class MetricRow:
    """A formatted metric; ``bar`` is None for a metric without a range."""

    name: str
    value: str
    interval: str
    bar: MetricBar | None


@dataclass(frozen=True)
class MetricKind:
    """A kind of metrics, recognised by a prefix of their names.

    ``prefix`` is a regular expression; ``badge`` is a warning displayed beside the title.
    """

    prefix: str
    title: str
    badge: str
    remark: str


@dataclass(frozen=True)
class MetricTable:
    """The metrics of one kind."""

    kind: MetricKind
    rows: Sequence[MetricRow]

    @property
    def has_intervals(self) -> bool:
        """Whether any metric has an interval."""
        return any(row.interval for row in self.rows)


@dataclass(frozen=True)
class LevelGrid:
    """Metrics at several levels, such as thresholds: one row per metric, one column per level."""

    levels: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


PLAIN_METRICS = MetricKind("", "Metrics", "", "")
METRIC_KINDS = (
    MetricKind(
        "causal-",
        "Without look-ahead",
        "no future frames",
        "Each frame is scored from itself and earlier frames only, as in a live stream.",
    ),
    MetricKind(
        "best-",
        "Best of the sweep",
        "tuned on the test set",
        "Each metric at its best setting, chosen on these results. Compare it only with numbers that were chosen the same way.",
    ),
    MetricKind(
        "oracle-(?:[a-z]+-)?",
        "Oracle",
        "uses the gold answers",
        "Each item uses the setting that fits its own gold answer best: an upper bound, not a result.",
    ),
)


def build_tables(report: Report) -> list[MetricTable]:
    """Return one table per kind of metric in the order of ``METRIC_KINDS``, without the metrics of ``build_grid``."""
    in_grid = {f"{base}@{level}" for base, levels in _metric_families(report).items() for level in levels}
    listed = [name for name in report.metrics if name not in in_grid]
    names = {kind: [name for name in listed if kind_of(name) is kind] for kind in (PLAIN_METRICS, *METRIC_KINDS)}
    return [
        MetricTable(kind, [_build_row(name, report) for name in of_kind]) for kind, of_kind in names.items() if of_kind
    ]


def build_grid(report: Report) -> LevelGrid | None:
    """Return the metrics that have several levels as a grid, or None if there are too few of them."""
    families = _metric_families(report)
    levels = next(iter(families.values()), [])
    rows = [(base, [format_number(report.metrics[f"{base}@{level}"]) for level in levels]) for base in families]
    return LevelGrid(levels, rows) if rows else None


def _metric_families(report: Report) -> dict[str, list[str]]:
    """Return the levels of metrics named ``base@level`` by base, if enough bases share the same levels for a grid."""
    levels_of: dict[str, list[str]] = {}
    for name in report.metrics:
        base, _, level = name.rpartition("@")
        if base and kind_of(name) is PLAIN_METRICS and name not in report.intervals:
            levels_of.setdefault(base, []).append(level)
    common = max(levels_of.values(), key=len, default=[])
    families = {base: levels for base, levels in levels_of.items() if levels == common and len(levels) > 1}
    return families if len(families) >= MIN_GRID_ROWS else {}


def kind_of(name: str) -> MetricKind:
    """Return the kind of a metric."""
    return next((kind for kind in METRIC_KINDS if re.match(kind.prefix, name)), PLAIN_METRICS)


def _build_row(name: str, report: Report) -> MetricRow:
    value, interval = report.metrics[name], report.intervals.get(name)
    text = f"{format_number(interval[0])} to {format_number(interval[1])}" if interval else ""
    return MetricRow(name, format_number(value), text, build_bar(name, value, interval))


def build_bar(name: str, value: float, interval: tuple[float, float] | None = None) -> MetricBar | None:
    """Return the bar of a metric; None for counts and values that are not finite."""
    points = (value, *(interval or (value, value)))
    if any(name.endswith(count) for count in COUNTS) or not all(map(math.isfinite, points)):
        return None
    low, high = value_range(name, points)
    shares = (100 * min(max((x - low) / (high - low), 0.0), 1.0) for x in points)
    return MetricBar(*shares)


def value_range(name: str, values: Sequence[float]) -> tuple[float, float]:
    """Return the smallest and the largest possible value of a metric, widened to ``values``: CIDEr may exceed 100."""
    if any(name.endswith(score) for score in OUT_OF_FIVE):
        return 1.0, 5.0
    return min(0.0, *values), max(100.0, *values)


def format_number(value: object) -> str:
    """Return a number with two decimals, an integer without; a dash for anything that is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return NO_VALUE
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def main_metric(report: Report) -> str | None:
    """Return the metric that is displayed as the headline, or None without metrics."""
    return next((name for name in _metrics_by_preference(report) if name in report.metrics), None)


def main_item_metric(report: Report) -> str | None:
    """Return the metric that items are ranked by, or None if no item has one."""
    names = _metrics_by_preference(report)
    return next((name for name in names if any(is_number(item.get(name)) for item in report.items)), None)


def _metrics_by_preference(report: Report) -> Iterator[str]:
    yield from MAIN_METRICS.get(report.benchmark, ())
    yield from report.metrics


def is_number(value: object) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def item_numbers(item: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the names and formatted values of an item's numbers."""
    return [(name, format_number(value)) for name, value in item.items() if name != "id" and is_number(value)]
