"""Tables of metrics, the format of numbers, and the choice of the main metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from mmduet.evaluation.report import Report
from mmduet.reports.tables import (
    PLAIN_METRICS,
    build_bar,
    build_grid,
    build_tables,
    format_number,
    kind_of,
    main_item_metric,
    main_metric,
)

Json = dict[str, Any]


def test_metrics_are_grouped_by_kind() -> None:
    names = ("mIoU", "best-mIoU", "causal-R1@0.5", "oracle-threshold-mIoU", "oracle-mIoU", "bestiary")
    tables = build_tables(Report("x", dict.fromkeys(names, 1.0)))
    assert [(table.kind.title, [row.name for row in table.rows]) for table in tables] == [
        ("Metrics", ["mIoU", "bestiary"]),
        ("Without look-ahead", ["causal-R1@0.5"]),
        ("Best of the sweep", ["best-mIoU"]),
        ("Oracle", ["oracle-threshold-mIoU", "oracle-mIoU"]),
    ]
    assert [table.kind.badge for table in tables] == [
        "",
        "no future frames",
        "tuned on the test set",
        "uses the gold answers",
    ]
    assert kind_of("mIoU") is PLAIN_METRICS


def test_metrics_with_common_levels_form_a_grid() -> None:
    metrics = {f"{name}@{level}": 1.0 for level in (0.3, 0.5) for name in ("CIDEr", "F1", "Recall")}
    report = Report("x", {"SODA_c": 2.0, **metrics})
    grid = build_grid(report)
    assert grid is not None
    assert list(grid.levels) == ["0.3", "0.5"]
    assert [name for name, _ in grid.rows] == ["CIDEr", "F1", "Recall"]
    assert [row.name for table in build_tables(report) for row in table.rows] == ["SODA_c"]


@pytest.mark.parametrize(
    "metrics",
    [
        {"R1@0.3": 1.0, "R1@0.5": 1.0, "R1@0.7": 1.0},
        {"R@1/16": 1.0, "R@5/16": 1.0},
        {"a@1": 1.0, "b@1": 1.0, "c@1": 1.0},
        {"a@1": 1.0, "a@2": 1.0, "b@1": 1.0, "b@3": 1.0, "c@1": 1.0, "c@4": 1.0},
        {},
    ],
)
def test_too_few_levels_stay_in_the_table(metrics: Json) -> None:
    report = Report("x", metrics)
    assert build_grid(report) is None
    assert [row.name for table in build_tables(report) for row in table.rows] == list(metrics)


def test_metrics_with_intervals_stay_in_the_table() -> None:
    metrics = {f"{name}@{level}": 1.0 for level in (1, 2) for name in "abc"}
    assert build_grid(Report("x", metrics, intervals=dict.fromkeys(metrics, (0.0, 2.0)))) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (1234, "1,234"), (45.678, "45.68"), (0.0, "0.00"), (math.nan, "\N{EN DASH}"), (math.inf, "\N{EN DASH}"),
     (None, "\N{EN DASH}"), (True, "\N{EN DASH}"), ("1", "\N{EN DASH}")],
)  # fmt: skip
def test_format_number(value: object, text: str) -> None:
    assert format_number(value) == text


def test_bars_use_the_range_of_the_metric() -> None:
    assert build_bar("mIoU", 40.0, (30.0, 50.0)) == build_bar("x", 40.0, (30.0, 50.0))
    bar = build_bar("in_span", 3.0, (2.0, 5.0))
    assert bar is not None
    assert (bar.value, bar.low, bar.high) == (50.0, 25.0, 100.0)
    cider = build_bar("CIDEr", 160.0, (80.0, 200.0))
    assert cider is not None
    assert (cider.value, cider.low, cider.high) == (80.0, 40.0, 100.0)
    assert build_bar("turns", 3.0) is build_bar("n_preds", 3.0) is build_bar("mIoU", math.nan) is None


@pytest.mark.parametrize(
    ("benchmark", "metrics", "item", "metric", "item_metric"),
    [
        ("grounding", ["R1@0.3", "mIoU"], ["R1@0.3", "mIoU"], "mIoU", "mIoU"),
        ("qvhighlights", ["MR-full-mAP"], ["MR-full-mAP"], "MR-full-mAP", "MR-full-mAP"),
        ("ovo", ["EPM", "Total"], ["accuracy", "answers"], "Total", "accuracy"),
        ("proactive", ["PAUC@0", "PAUC@0.5"], ["PAUC@0", "PAUC@0.5", "replies"], "PAUC@0.5", "PAUC@0.5"),
        ("audio_description", ["CIDEr"], ["descriptions"], "CIDEr", None),
        ("new", ["a", "b"], ["b"], "a", "b"),
        ("new", [], ["b"], None, None),
    ],
)
def test_main_metric_and_main_item_metric(
    benchmark: str, metrics: Sequence[str], item: Sequence[str], metric: str | None, item_metric: str | None
) -> None:
    report = Report(benchmark, dict.fromkeys(metrics, 1.0), [{"id": 1, **dict.fromkeys(item, 2.0)}])
    assert (main_metric(report), main_item_metric(report)) == (metric, item_metric)
