"""Bootstrap confidence intervals of the metrics that are means over the items of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mmduet.evaluation.report import Report
from mmduet.metrics.bootstrap import bootstrap_intervals

TOLERANCE = 1e-6  # in units of the metric


def add_intervals(report: Report, seed: int = 0) -> Report:
    """Return the report with 95 % percentile intervals, unless it has intervals; items are resampled jointly for all metrics.

    A metric that is not the mean of its items (CIDEr over all captions, a padded mean) gets no interval.
    """
    if report.intervals or len(report.items) < 2:
        return report
    columns = {name: _column(report, name) for name in report.metrics}
    means = {name: column for name, column in columns.items() if _is_mean(column, report.metrics[name])}
    return replace(report, intervals=bootstrap_intervals(means, seed=seed)) if means else report


def _column(report: Report, name: str) -> Any:
    return np.array([_number(item, name) for item in report.items])


def _number(item: Mapping[str, Any], name: str) -> float:
    value = item.get(name)
    return float(value) if isinstance(value, int | float) else math.nan


def _is_mean(column: Any, metric: float) -> bool:
    known = column[~np.isnan(column)]
    return len(known) > 1 and abs(float(known.mean()) - metric) <= TOLERANCE
