"""Confidence intervals: only metrics that are means of items have one."""

from __future__ import annotations

import math

import pytest

from mmduet.evaluation.intervals import add_intervals
from mmduet.evaluation.report import Report


def report(**metrics: float) -> Report:
    items = [{"id": str(i), "score": float(i), "rare": 1.0 if i < 4 else None} for i in range(10)]
    return Report("x", metrics, items)


def test_only_means_of_items_have_intervals() -> None:
    found = add_intervals(report(score=4.5, rare=1.0, corpus=4.5, other=math.nan)).intervals
    assert set(found) == {"score", "rare"}
    low, high = found["score"]
    assert 2 < low < 4.5 < high < 7
    assert found["rare"] == pytest.approx((1.0, 1.0))
    assert add_intervals(report(score=5.0)).intervals == {}


def test_equal_seeds_give_equal_intervals_and_existing_ones_are_kept() -> None:
    assert add_intervals(report(score=4.5), 1).intervals == add_intervals(report(score=4.5), 1).intervals
    report_with_intervals = Report("x", {"score": 4.5}, report().items, intervals={"score": (1.0, 2.0)})
    assert add_intervals(report_with_intervals).intervals == {"score": (1.0, 2.0)}
