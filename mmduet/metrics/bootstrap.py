"""How sure a mean over items is: percentile bootstrap intervals, all metrics resampled by the same items; no files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mmduet.errors import OptionError

Interval = tuple[float, float]
FloatArray = npt.NDArray[np.float64]

MOST_DRAWS = 1 << 21  # items drawn at once: bounds the memory, and changes no result


def bootstrap_interval(
    values: Sequence[float] | FloatArray, *, samples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """The percentile bootstrap interval (Efron 1979) of the mean of ``values`` [N], in their unit.

    The same seed gives the same interval. Raises ``OptionError`` where there are no values or an option makes no sense.
    """
    columns = {"values": values}
    return bootstrap_intervals(columns, samples=samples, confidence=confidence, seed=seed)["values"]


def bootstrap_intervals(
    columns: Mapping[str, Sequence[float] | FloatArray],
    *,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """The interval of the mean of each column [N]; place i of every column is item i, so the resamples are paired.

    NaN says that an item has no such number: it is left out of that column's mean, in every resample. A column's interval
    does not depend on which others stand beside it. Raises ``OptionError`` for columns of unequal lengths, an infinite
    number, a column without any number, fewer than one sample, or a confidence that is not between 0 and 1.
    """
    _check(samples, confidence)
    if not columns:
        return {}
    table = _table(columns)
    rng = np.random.default_rng(seed)
    means = np.concatenate([_means(weights, table) for weights in _resamples(len(table), samples, rng)])  # [S, M]
    tail = 100 * (1 - confidence) / 2
    low, high = np.nanpercentile(means, [tail, 100 - tail], axis=0)
    return {name: (float(low[m]), float(high[m])) for m, name in enumerate(columns)}


def _check(samples: int, confidence: float) -> None:
    if samples < 1:
        raise OptionError(f"bootstrap samples is {samples}; use 1 or more (1000 is usual)")
    if not 0 < confidence < 1:
        raise OptionError(f"bootstrap confidence is {confidence}; use a share between 0 and 1 (0.95 is usual)")


def _table(columns: Mapping[str, Sequence[float] | FloatArray]) -> FloatArray:
    """The columns side by side, [N, M], checked."""
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    if len({len(values) for values in arrays.values()}) > 1:
        raise OptionError(
            f"columns differ in length: { ({n: len(v) for n, v in arrays.items()}) }; give all the same items"
        )
    for name, values in arrays.items():
        if np.isinf(values).any():
            raise OptionError(f"column {name} holds an infinite number; its mean has no interval")
        if np.isnan(values).all():
            raise OptionError(f"column {name} holds no number; leave it out")
    return np.stack(list(arrays.values()), axis=1)


def _resamples(items: int, samples: int, rng: np.random.Generator) -> Iterator[FloatArray]:
    """How often each item is drawn in each resample, [some samples, N] at a time; every row sums to N."""
    at_once = max(1, MOST_DRAWS // items)
    for start in range(0, samples, at_once):
        rows = min(at_once, samples - start)
        drawn = rng.integers(items, size=(rows, items)) + items * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * items)
        yield counts.reshape(rows, items).astype(np.float64)


def _means(weights: FloatArray, table: FloatArray) -> FloatArray:
    """Weighted means over the items that have the number, [S, M]; NaN for a resample that drew none of them."""
    present = ~np.isnan(table)
    total = weights @ np.where(present, table, 0.0)
    with np.errstate(invalid="ignore"):
        means: FloatArray = total / (weights @ present.astype(np.float64))
    return means
