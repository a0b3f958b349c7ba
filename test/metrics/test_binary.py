"""Areas under curves and F1 of binary decisions: values of scikit-learn, and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.errors import OptionError
from mmduet.metrics.binary import average_precision, best_f1, f1_at, roc_auc, speaking_rate, threshold_curve

TIED = ([0.5, 0.5, 0.5, 0.2, 0.2, 0.9, 0.9, 0.1], [1, 0, 1, 0, 1, 1, 0, 0])
# roc_auc_score, average_precision_score, and f1_score of scores > 0.15, 0.3 and 0.5, as scikit-learn 1.9 computes them
SCIKIT_LEARN = [
    ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75, 0.8333333333333333, (0.8, 0.8, 0.6666666666666666)),
    (*TIED, 0.625, 0.5678571428571428, (0.7272727272727273, 0.6666666666666666, 0.3333333333333333)),
    ([0.3] * 5, [1, 0, 0, 1, 0], 0.5, 0.4, (0.5714285714285714, 0.0, 0.0)),
    ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], 0.0, 0.41666666666666663, (0.4, 0.0, 0.0)),
]


@pytest.mark.parametrize(("scores", "labels", "auc", "precision", "f1"), SCIKIT_LEARN)
def test_values_are_those_of_scikit_learn(
    scores: list[float], labels: list[int], auc: float, precision: float, f1: tuple[float, ...]
) -> None:
    assert roc_auc(scores, labels) == pytest.approx(auc, abs=1e-15)
    assert average_precision(scores, labels) == pytest.approx(precision, abs=1e-15)
    assert [f1_at(scores, labels, threshold) for threshold in (0.15, 0.3, 0.5)] == pytest.approx(f1, abs=1e-15)


def test_many_items_with_ties_agree_with_scikit_learn() -> None:
    index = np.arange(200)
    scores = (index * 37 % 53) / 53
    labels = ((index * index + index // 3) % 7 < 1 + (scores > 0.6)).astype(int)
    assert roc_auc(scores, labels) == pytest.approx(0.6477226652250303, abs=1e-14)
    assert average_precision(scores, labels) == pytest.approx(0.38089548912195753, abs=1e-14)
    assert f1_at(scores, labels, 0.5) == pytest.approx(0.46258503401360546, abs=1e-14)


items = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0]), st.integers(0, 1)), max_size=12)


@given(items)
def test_roc_auc_is_the_share_of_pairs_in_order(pairs: list[tuple[float, int]]) -> None:
    scores, labels = [s for s, _ in pairs], [y for _, y in pairs]
    positives, negatives = ([s for s, y in pairs if y == label] for label in (1, 0))
    ordered = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    if positives and negatives:
        assert roc_auc(scores, labels) == pytest.approx(ordered / len(positives) / len(negatives))
    else:
        assert math.isnan(roc_auc(scores, labels))


@given(items)
def test_average_precision_is_the_mean_precision_at_the_positive_items(pairs: list[tuple[float, int]]) -> None:
    scores, labels = [s for s, _ in pairs], [y for _, y in pairs]
    precisions = [
        sum(y for s, y in pairs if s >= score) / sum(s >= score for s in scores) for score, label in pairs if label
    ]
    if precisions:
        assert average_precision(scores, labels) == pytest.approx(np.mean(precisions))
    else:
        assert math.isnan(average_precision(scores, labels))


@given(items)
def test_best_f1_is_reached_at_its_threshold_and_exceeded_at_none(pairs: list[tuple[float, int]]) -> None:
    scores, labels = [s for s, _ in pairs], [y for _, y in pairs]
    threshold, best = best_f1(scores, labels)
    if not sum(labels):
        assert math.isnan(threshold)
        assert math.isnan(best)
        return
    assert f1_at(scores, labels, threshold) == best
    assert all(f1_at(scores, labels, other) <= best for other in [-1.0, *scores])


def test_a_threshold_separates_adjacent_numbers() -> None:
    low = 0.3
    high = math.nextafter(low, 1)
    threshold, best = best_f1([low, high], [0, 1])
    assert best == 1.0
    assert low <= threshold < high


def test_a_curve_has_one_point_per_distinct_score() -> None:
    curve = threshold_curve(*TIED)
    assert curve.scores.tolist() == [0.9, 0.5, 0.2, 0.1]
    assert curve.predicted.tolist() == [2, 5, 7, 8]
    assert curve.precision.tolist() == [1 / 2, 3 / 5, 4 / 7, 4 / 8]
    assert curve.recall.tolist() == [1 / 4, 3 / 4, 1.0, 1.0]
    assert curve.f1.max() == best_f1(*TIED)[1]


def test_the_speaking_rate_counts_scores_above_the_threshold() -> None:
    assert speaking_rate([0.2, 0.5, 0.6, 0.9], 0.5) == 0.5
    assert math.isnan(speaking_rate([], 0.5))


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1], [0, 1], "same length"),
        ([0.1, math.nan], [0, 1], "finite"),
        ([0.1, 0.2], [0, -100], "labels must be 0 or 1, got -100"),
    ],
)
def test_unusable_input_is_an_error(scores: list[float], labels: list[int], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        roc_auc(scores, labels)
