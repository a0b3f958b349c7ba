"""Statistics of the heads over several steps."""

from __future__ import annotations

import pytest

from mmduet.duet import IGNORE
from mmduet.training.progress_metrics import HeadStatistics


def test_steps_are_pooled_and_frames_without_labels_left_out() -> None:
    statistics = HeadStatistics()
    statistics.add("informative", [[0.125, 0.375], [0.75, 0.99]], [[0, 0], [1, IGNORE]])
    statistics.add("informative", [0.25, 0.8], [1, 0])
    # labelled frames by score: .8 negative, .75 positive, .375 negative, .25 positive, .125 negative
    assert statistics.compute() == pytest.approx(
        {
            "informative_roc_auc": 3 / 6,
            "informative_pr_auc": (1 / 2 + 2 / 4) / 2,
            "informative_f1": 2 * 1 / (2 + 2),
            "speaking_rate": 2 / 5,
        }
    )


def test_a_silent_head_is_not_good() -> None:
    """98 % of the frames are predicted right, and F1 is 0."""
    statistics = HeadStatistics()
    statistics.add("informative", [0.1] * 100, [1, 1, *[0] * 98])
    metrics = statistics.compute()
    assert metrics["informative_f1"] == 0.0
    assert metrics["informative_pr_auc"] == pytest.approx(0.02)
    assert metrics["speaking_rate"] == 0.0


def test_undefined_values_are_left_out() -> None:
    statistics = HeadStatistics()
    assert statistics.compute() == {}
    statistics.add("relevance", [0.2, 0.3], [0, 0])
    assert statistics.compute() == {}
    statistics.add("relevance", [0.2], [IGNORE])
    statistics.add("informative", [0.7], [1])
    assert statistics.compute() == {"informative_pr_auc": 1.0, "informative_f1": 1.0, "speaking_rate": 1.0}


def test_statistics_are_merged_and_reset() -> None:
    first, second, both = HeadStatistics(), HeadStatistics(), HeadStatistics()
    for statistics, scores, labels in ((first, [0.2, 0.9], [0, 1]), (second, [0.95, 0.4], [0, 1])):
        statistics.add("relevance", scores, labels)
        both.add("relevance", scores, labels)
    first.merge(second)
    assert first.compute() == both.compute()
    first.reset()
    assert first.compute() == {}
