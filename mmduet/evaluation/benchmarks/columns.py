"""From one number for each query and metric to what a report holds: means, items and intervals; knows no benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmduet.metrics.bootstrap import Interval, bootstrap_intervals

FloatArray = npt.NDArray[np.float64]
Columns = Mapping[str, FloatArray]  # name of a metric -> a number in [0, 1] for each query, NaN where it has none


def means(columns: Columns) -> dict[str, float]:
    """The mean of each column, times 100; NaN for a column without a number."""
    return {name: _mean(values[~np.isnan(values)]) for name, values in columns.items()}


def _mean(values: FloatArray) -> float:
    return 100 * float(values.mean()) if len(values) else float("nan")


def items(ids: Sequence[object], columns: Columns) -> list[dict[str, Any]]:
    """A row for each query: its id and the numbers that it has, times 100."""
    rows: list[dict[str, Any]] = [{"id": query} for query in ids]
    for name, values in columns.items():
        for row, value in zip(rows, (100 * values).tolist(), strict=True):
            if value == value:  # not NaN
                row[name] = value
    return rows


def intervals(columns: Columns, seed: int) -> dict[str, Interval]:
    """95 % bootstrap intervals of ``means``, all over the same resampled queries; none for a column without a number."""
    return bootstrap_intervals({n: 100 * v for n, v in columns.items() if not np.isnan(v).all()}, seed=seed)
