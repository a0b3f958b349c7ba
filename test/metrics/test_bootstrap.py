"""Bootstrap intervals: compared with one resample at a time, and properties of every interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.errors import OptionError
from mmduet.metrics.bootstrap import Interval, bootstrap_intervals

VALUES = [0.0, 10.0, 20.0, 40.0, 80.0]


def bootstrap_interval(values: Sequence[float] | np.ndarray, **options: Any) -> Interval:
    return bootstrap_intervals({"values": values}, **options)["values"]


def test_an_interval_is_between_percentiles_of_resampled_means() -> None:
    rng = np.random.default_rng(7)
    means = [np.mean(np.array(VALUES)[rng.integers(5, size=5)]) for _ in range(200)]
    low, high = bootstrap_interval(VALUES, samples=200, confidence=0.9, seed=7)
    assert (low, high) == pytest.approx((np.percentile(means, 5), np.percentile(means, 95)))


def test_the_interval_of_two_values_by_hand() -> None:
    # Resamples of (0, 100): 00, 0 100, 100 0, 100 100, so means 0, 50, 50, 100 in equal shares. A tail of 0.2 on each side
    # lies within the outer quarters, a tail of 0.3 in the middle half.
    assert bootstrap_interval([0.0, 100.0], confidence=0.6, samples=4000) == (0.0, 100.0)
    assert bootstrap_interval([0.0, 100.0], confidence=0.4, samples=4000) == (50.0, 50.0)


def test_intervals_cover_the_mean_as_often_as_their_confidence() -> None:
    rng = np.random.default_rng(0)
    columns = {f"{k}": rng.normal(size=80) for k in range(400)}
    inside = sum(low <= 0 <= high for low, high in bootstrap_intervals(columns, samples=400).values())
    assert 0.90 <= inside / 400 <= 0.98


def test_columns_are_resampled_jointly() -> None:
    values = np.random.default_rng(1).normal(size=50)
    paired = bootstrap_intervals({"a": values, "b": -values, "c": values + 5})
    assert paired["b"] == pytest.approx((-paired["a"][1], -paired["a"][0]))
    assert paired["c"] == pytest.approx((paired["a"][0] + 5, paired["a"][1] + 5))
    assert paired["a"] == pytest.approx(bootstrap_interval(values))


def test_items_without_a_value_are_left_out() -> None:
    rng = np.random.default_rng(0)
    values = np.array([np.nan, 3.0, 5.0])
    means = [np.nanmean(values[drawn]) for drawn in rng.integers(3, size=(300, 3)) if drawn.any()]
    expected = np.percentile(means, 2.5), np.percentile(means, 97.5)
    assert bootstrap_intervals({"all": [1.0, 2.0, 3.0], "some": values}, samples=300)["some"] == pytest.approx(expected)


@pytest.mark.parametrize("max_draws", [1, 12])
def test_the_number_of_draws_at_once_does_not_change_the_result(max_draws: int) -> None:
    assert bootstrap_interval(VALUES, max_draws=max_draws) == pytest.approx(bootstrap_interval(VALUES))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.integers(0, 5))
def test_intervals_lie_within_the_values_and_widen_with_the_confidence(values: list[float], seed: int) -> None:
    narrow = bootstrap_interval(values, confidence=0.5, samples=50, seed=seed)
    wide = bootstrap_interval(values, confidence=0.99, samples=50, seed=seed)
    slack = 1e-6
    assert min(values) - slack <= wide[0] <= narrow[0] <= narrow[1] <= wide[1] <= max(values) + slack
    assert bootstrap_interval(values, confidence=0.5, samples=50, seed=seed) == narrow


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"a": []}, {}, "column a has only NaN; leave it out"),
        ({"a": [float("nan")]}, {}, "column a has only NaN; leave it out"),
        ({"a": [1.0, float("inf")]}, {}, "column a has an infinite value; its mean has no interval"),
        ({"a": [1.0], "b": [1.0, 2.0]}, {}, r"columns must have the same length, got \{'a': 1, 'b': 2\}"),
        ({"a": [1.0]}, {"samples": 0}, r"bootstrap samples must be at least 1 \(usually 1000\), got 0"),
        (
            {"a": [1.0]},
            {"confidence": 1.0},
            r"bootstrap confidence must be between 0 and 1 \(usually 0\.95\), got 1\.0",
        ),
    ],
)
def test_invalid_columns_and_options_are_rejected(
    columns: dict[str, list[float]], options: dict[str, float], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        bootstrap_intervals(columns, **options)  # type: ignore[arg-type]
