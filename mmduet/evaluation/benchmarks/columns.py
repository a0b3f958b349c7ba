"""Build a report's means, items and intervals from per-item columns of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmduet.metrics.bootstrap import Interval, bootstrap_intervals

FloatArray = npt.NDArray[np.float64]
Columns = Mapping[str, FloatArray]
"""Values in [0, 1] of every item by metric; NaN for an item without a value."""


def means(columns: Columns) -> dict[str, float]:
    """Return the mean of each column times 100; NaN for a column without values."""
    return {name: _mean(values[~np.isnan(values)]) for name, values in columns.items()}


def _mean(values: FloatArray) -> float:
    return 100 * float(values.mean()) if len(values) else float("nan")


def items(ids: Sequence[object], columns: Columns) -> list[dict[str, Any]]:
    """Return a row per item: its id and its values times 100."""
    rows: list[dict[str, Any]] = [{"id": item_id} for item_id in ids]
    for name, values in columns.items():
        for row, value in zip(rows, (100 * values).tolist(), strict=True):
            if value == value:  # not NaN
                row[name] = value
    return rows


def intervals(columns: Columns, seed: int) -> dict[str, Interval]:
    """Return 95 % bootstrap intervals of ``means``, from jointly resampled items; none for a column without values."""
    return bootstrap_intervals(
        {name: 100 * values for name, values in columns.items() if not np.isnan(values).all()}, seed=seed
    )
