"""Which numbers of a report stand in which table, how they are written, and by which one an item is judged; draws nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mmduet.evaluation.report import Report

MAIN = {
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
NOTHING = "\N{EN DASH}"
FEWEST_FAMILIES = 3  # of metrics at levels that make a grid


@dataclass(frozen=True)
class Bar:
    """Where a value and the ends of its interval lie on a scale, in per cent of it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """A metric as it is written; ``bar`` None: it has no scale."""

    name: str
    value: str
    interval: str
    bar: Bar | None


@dataclass(frozen=True)
class Kind:
    """What a prefix of metrics' names says of them; ``mark`` is what a reader must not miss."""

    prefix: str  # a pattern
    title: str
    mark: str
    remark: str


@dataclass(frozen=True)
class Table:
    """Metrics of one kind."""

    kind: Kind
    rows: Sequence[Row]

    @property
    def intervals(self) -> bool:
        """Whether any metric has one."""
        return any(row.interval for row in self.rows)


@dataclass(frozen=True)
class Grid:
    """Metrics that are told at several levels each, such as thresholds: a row for each metric, a column for each level."""

    levels: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


PLAIN = Kind("", "Metrics", "", "")
KINDS = (
    Kind(
        "causal-",
        "Without look-ahead",
        "no future frames",
        "A frame is judged by itself and the frames before it, as a live stream has to be.",
    ),
    Kind(
        "best-",
        "Best of the sweep",
        "tuned on the test set",
        "Each metric at the setting that suits it best, found by looking at these very results. It compares with numbers that "
        "were chosen in the same way, and with no others.",
    ),
    Kind(
        "oracle-(?:[a-z]+-)?",
        "Oracle",
        "knows the answers",
        "Every item takes the setting that suits its own gold answer best: an upper bound, not a result.",
    ),
)


def tables(report: Report) -> list[Table]:
    """One table for each kind of metric that the report has, in the order of ``KINDS``, less what stands in ``grid``."""
    elsewhere = {f"{base}@{level}" for base, levels in _families(report).items() for level in levels}
    listed = [name for name in report.metrics if name not in elsewhere]
    names = {kind: [name for name in listed if kind_of(name) is kind] for kind in (PLAIN, *KINDS)}
    return [Table(kind, [_row(name, report) for name in of_kind]) for kind, of_kind in names.items() if of_kind]


def grid(report: Report) -> Grid | None:
    """Metrics at several levels; None where a table holds them as well."""
    families = _families(report)
    levels = next(iter(families.values()), [])
    rows = [(base, [shown(report.metrics[f"{base}@{level}"]) for level in levels]) for base in families]
    return Grid(levels, rows) if rows else None


def _families(report: Report) -> dict[str, list[str]]:
    """Levels by what stands before the "@", where so many metrics have the same levels that a table of them all is no use."""
    found: dict[str, list[str]] = {}
    for name in report.metrics:
        base, _, level = name.rpartition("@")
        if base and kind_of(name) is PLAIN and name not in report.intervals:
            found.setdefault(base, []).append(level)
    common = max(found.values(), key=len, default=[])
    families = {base: levels for base, levels in found.items() if levels == common and len(levels) > 1}
    return families if len(families) >= FEWEST_FAMILIES else {}


def kind_of(name: str) -> Kind:
    """The kind that a metric's prefix says."""
    return next((kind for kind in KINDS if re.match(kind.prefix, name)), PLAIN)


def _row(name: str, report: Report) -> Row:
    value, interval = report.metrics[name], report.intervals.get(name)
    told = f"{shown(interval[0])} to {shown(interval[1])}" if interval else ""
    return Row(name, shown(value), told, bar(name, value, interval))


def bar(name: str, value: float, interval: tuple[float, float] | None = None) -> Bar | None:
    """None for counts and for what is no number."""
    ends = (value, *(interval or (value, value)))
    if any(name.endswith(count) for count in COUNTS) or not all(map(math.isfinite, ends)):
        return None
    low, high = scale(name, ends)
    share, start, end = (100 * min(max((x - low) / (high - low), 0.0), 1.0) for x in ends)
    return Bar(share, start, end)


def scale(name: str, values: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest a metric can be, or is: CIDEr may exceed 100."""
    if any(name.endswith(score) for score in OUT_OF_FIVE):
        return 1.0, 5.0
    return min(0.0, *values), max(100.0, *values)


def shown(value: object) -> str:
    """A number as it is written: two digits, none for whole numbers, a dash for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return NOTHING
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def main_metric(report: Report) -> str | None:
    """The metric that stands for the report; None where it has none."""
    return next((name for name in _preferred(report) if name in report.metrics), None)


def main_number(report: Report) -> str | None:
    """The number that items are compared by; None where no item has one that is also a metric, or known as main."""
    return next((name for name in _preferred(report) if any(is_number(item.get(name)) for item in report.items)), None)


def _preferred(report: Report) -> Iterator[str]:
    yield from MAIN.get(report.benchmark, ())
    yield from report.metrics


def is_number(value: object) -> bool:
    """A finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def numbers(item: Mapping[str, object]) -> list[tuple[str, str]]:
    """An item's numbers, written."""
    return [(name, shown(value)) for name, value in item.items() if name != "id" and is_number(value)]
