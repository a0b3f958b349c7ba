"""Compute percentile bootstrap intervals of means, with all metrics resampled over the same items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mmduet.errors import OptionError

Interval = tuple[float, float]
FloatArray = npt.NDArray[np.float64]

MAX_DRAWS_PER_CHUNK = 1 << 21  # items


def bootstrap_intervals(
    columns: Mapping[str, Sequence[float] | FloatArray],
    *,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    max_draws: int = MAX_DRAWS_PER_CHUNK,
) -> dict[str, Interval]:
    """Return the percentile bootstrap interval (Efron 1979) of the mean of each column [N], in the unit of its values.

    Position i of every column is item i, so resamples are paired. The same seed gives the same intervals.

    An item whose value is NaN is left out of that column's mean in every resample. A column's interval does not depend on
    the other columns. ``max_draws`` bounds how many items are drawn at once, and thereby memory; it does not change the result.

    Raises:
        OptionError: the columns differ in length, a column has an infinite value or only NaN, ``samples`` is below 1, or
            ``confidence`` is not between 0 and 1.
    """
    _check(samples, confidence)
    if not columns:
        return {}
    table = _table(columns)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [_means(weights, table) for weights in _resamples(len(table), samples, rng, max_draws)]
    )  # [S, M]
    tail = 100 * (1 - confidence) / 2
    low, high = np.nanpercentile(means, [tail, 100 - tail], axis=0)
    return {name: (float(low[m]), float(high[m])) for m, name in enumerate(columns)}


def _check(samples: int, confidence: float) -> None:
    if samples < 1:
        raise OptionError(f"bootstrap samples must be at least 1 (usually 1000), got {samples}")
    if not 0 < confidence < 1:
        raise OptionError(f"bootstrap confidence must be between 0 and 1 (usually 0.95), got {confidence}")


def _table(columns: Mapping[str, Sequence[float] | FloatArray]) -> FloatArray:
    """Check the columns and return them as a table [N, M]."""
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    if len({len(values) for values in arrays.values()}) > 1:
        raise OptionError(f"columns must have the same length, got { ({n: len(v) for n, v in arrays.items()}) }")
    for name, values in arrays.items():
        if np.isinf(values).any():
            raise OptionError(f"column {name} has an infinite value; its mean has no interval")
        if np.isnan(values).all():
            raise OptionError(f"column {name} has only NaN; leave it out")
    return np.stack(list(arrays.values()), axis=1)


def _resamples(items: int, samples: int, rng: np.random.Generator, max_draws: int) -> Iterator[FloatArray]:
    """Yield how often each item is drawn in each resample, in chunks [some samples, N]; every row sums to N."""
    chunk = max(1, max_draws // items)
    for start in range(0, samples, chunk):
        rows = min(chunk, samples - start)
        drawn = rng.integers(items, size=(rows, items)) + items * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * items)
        yield counts.reshape(rows, items).astype(np.float64)


def _means(weights: FloatArray, table: FloatArray) -> FloatArray:
    """Return weighted means over the items with a value [S, M]; NaN for a resample that drew none of them."""
    present = ~np.isnan(table)
    total = weights @ np.where(present, table, 0.0)
    with np.errstate(invalid="ignore"):
        means: FloatArray = total / (weights @ present.astype(np.float64))
    return means
