"""The panels of a report: sweeps over settings, and the distribution of items."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from html_pages import decode_svg, write_and_read

from mmduet.evaluation.report import Report
from mmduet.reports.panels import distribution_panels, sweep_panels

Json = dict[str, Any]


def items(*values: float) -> list[Json]:
    return [{"id": f"q{i}", "mIoU": value} for i, value in enumerate(values)]


def report_of_sweep(settings: dict[str, Sequence[float]], value: Callable[..., float]) -> Report:
    rows: list[Json] = [{}]
    for name, values in settings.items():
        rows = [{**row, name: v} for row in rows for v in values]
    return Report("grounding", {"mIoU": 1.0}, sweep=[{**row, "mIoU": value(**row)} for row in rows])


def test_sweep_over_two_settings_is_a_heat_map() -> None:
    report = report_of_sweep(
        {"smoothing": range(15), "threshold": [0.3, 0.32, 0.5]}, lambda smoothing, threshold: smoothing * threshold
    )
    (panel,) = sweep_panels(report)
    assert panel.remark == "best 7.00 at smoothing 14, threshold 0.5"
    assert (panel.low, panel.high) == ("0.00", "7.00")
    assert "<image" in decode_svg(panel.image.src)
    assert panel.image.alt == f"Heat map of mIoU over smoothing and threshold: {panel.remark}"


def test_sweep_over_one_setting_is_a_line() -> None:
    (panel,) = sweep_panels(report_of_sweep({"smoothing": range(15)}, lambda smoothing: 50.0 - (smoothing - 3) ** 2))
    assert panel.remark == "best 50.00 at smoothing 3"
    assert panel.low == ""
    assert "<image" not in decode_svg(panel.image.src)


def test_equally_good_settings_are_counted() -> None:
    settings = {"smoothing": range(3), "threshold": [0.3, 0.5]}
    (flat,) = sweep_panels(report_of_sweep(settings, lambda smoothing, threshold: 7.0))
    assert (flat.remark, flat.low) == ("7.00 at every setting", "")
    (tied,) = sweep_panels(report_of_sweep(settings, lambda smoothing, threshold: 1.0 * min(smoothing, 1)))
    assert tied.remark == "best 1.00 at smoothing 1, threshold 0.3 and 3 more"


@pytest.mark.parametrize("settings", [{}, {"a": [1]}, {"a": [1, 2], "b": [1, 2], "c": [1, 2]}])
def test_other_sweeps_have_a_table_only(tmp_path: Path, settings: dict[str, Sequence[float]]) -> None:
    report = report_of_sweep(settings, lambda **_: 12.5)
    assert sweep_panels(report) == []
    assert "12.50" in write_and_read(tmp_path, report).text


def test_settings_without_a_value_are_left_out() -> None:
    report = report_of_sweep(
        {"smoothing": [0, 1], "threshold": [0.3, 0.5]},
        lambda smoothing, threshold: math.nan if smoothing else threshold,
    )
    (panel,) = sweep_panels(report)
    assert panel.remark == "best 0.50 at smoothing 0, threshold 0.5"


def test_distribution_panels_summarise_the_items() -> None:
    histogram, ranked = distribution_panels(Report("grounding", {}, items(0.0, 0.0, 100.0, 20.0, math.nan)))
    assert histogram.remark == "4 items, mean 30.00, median 10.00"
    assert ranked.remark == "50 % have 0, 25 % have 100"
    assert distribution_panels(Report("grounding", {"mIoU": 1.0})) == []
