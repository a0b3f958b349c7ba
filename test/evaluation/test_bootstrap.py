"""Bootstrap intervals against drawing one resample at a time, and what must hold of any interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.errors import OptionError
from mmduet.metrics import bootstrap
from mmduet.metrics.bootstrap import bootstrap_interval, bootstrap_intervals

VALUES = [0.0, 10.0, 20.0, 40.0, 80.0]


def test_is_the_percentiles_of_resampled_means() -> None:
    rng = np.random.default_rng(7)
    means = [np.mean(np.array(VALUES)[rng.integers(5, size=5)]) for _ in range(200)]
    low, high = bootstrap_interval(VALUES, samples=200, confidence=0.9, seed=7)
    assert (low, high) == pytest.approx((np.percentile(means, 5), np.percentile(means, 95)))


def test_two_values_have_the_interval_that_can_be_counted() -> None:
    # Resamples of (0, 100): 00, 0 100, 100 0, 100 100, so means 0, 50, 50, 100 in equal shares. A tail of 0.2 on each side
    # lies within the outer quarters, a tail of 0.3 in the middle half.
    assert bootstrap_interval([0.0, 100.0], confidence=0.6, samples=4000) == (0.0, 100.0)
    assert bootstrap_interval([0.0, 100.0], confidence=0.4, samples=4000) == (50.0, 50.0)


def test_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    columns = {f"{k}": rng.normal(size=80) for k in range(400)}
    inside = sum(low <= 0 <= high for low, high in bootstrap_intervals(columns, samples=400).values())
    assert 0.90 <= inside / 400 <= 0.98


def test_metrics_are_resampled_by_the_same_items() -> None:
    values = np.random.default_rng(1).normal(size=50)
    paired = bootstrap_intervals({"a": values, "b": -values, "c": values + 5})
    assert paired["b"] == pytest.approx((-paired["a"][1], -paired["a"][0]))
    assert paired["c"] == pytest.approx((paired["a"][0] + 5, paired["a"][1] + 5))
    assert paired["a"] == pytest.approx(bootstrap_interval(values))


def test_an_item_without_a_number_is_left_out_of_every_mean() -> None:
    rng = np.random.default_rng(0)
    with_hole = np.array([np.nan, 3.0, 5.0])
    means = [np.nanmean(with_hole[drawn]) for drawn in rng.integers(3, size=(300, 3)) if drawn.any()]
    expected = np.percentile(means, 2.5), np.percentile(means, 97.5)
    assert bootstrap_intervals({"all": [1.0, 2.0, 3.0], "some": with_hole}, samples=300)["some"] == pytest.approx(
        expected
    )


def test_memory_is_bounded_without_a_change_of_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap_interval(VALUES)
    monkeypatch.setattr(bootstrap, "MAX_DRAWS_PER_CHUNK", 12)
    assert bootstrap_interval(VALUES) == pytest.approx(whole)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.integers(0, 5))
def test_lies_within_the_values_widens_with_confidence_and_repeats(values: list[float], seed: int) -> None:
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
        ({"a": [1.0, float("inf")]}, {}, "infinite"),
        ({"a": [1.0], "b": [1.0, 2.0]}, {}, r"columns must have the same length, got \{'a': 1, 'b': 2\}"),
        ({"a": [1.0]}, {"samples": 0}, r"bootstrap samples must be at least 1 \(usually 1000\), got 0"),
        (
            {"a": [1.0]},
            {"confidence": 1.0},
            r"bootstrap confidence must be between 0 and 1 \(usually 0\.95\), got 1\.0",
        ),
    ],
)
def test_invalid_options_raise(columns: dict[str, list[float]], options: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        bootstrap_intervals(columns, **options)  # type: ignore[arg-type]
