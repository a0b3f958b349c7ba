"""The metrics of QVHighlights: highlights and moments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_by_one import average_precision as average_precision_one_by_one
from qvhighlights_cases import ap

from mmduet.annotations.qvhighlights_files import ClipRatings
from mmduet.metrics import moments
from mmduet.metrics.highlights import ClipScoresBatch, RatingsBatch, highlight_scores
from mmduet.metrics.moments import IOU_THRESHOLDS, first_window_iou, moment_scores


@pytest.mark.parametrize(
    ("scores", "positive", "expected"),
    [
        # thresholds .9 .8 .1 find 1/1, 2/3, 3/4; interpolated 1, 3/4, 3/4
        ([0.9, 0.8, 0.8, 0.1], [1, 0, 1, 1], (1 + 3 / 4 + 3 / 4) / 3),
        ([0.9, 0.8, 0.7, 0.1], [0, 0, 1, 1], (2 / 4 + 2 / 4) / 2),  # 1/3 at half recall is less than 2/4 at the whole
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], 1 / 4),  # one threshold
        ([0.5, 0.5, 0.5, 0.1], [1, 1, 0, 1], (3 / 4 + 3 / 4) / 2),  # two levels of recall for three positives
        ([0.1, 0.2], [0, 0], 0.0),
        ([0.1, 0.2], [1, 1], 1.0),
        ([-1.0, 0.0, -2.0], [1, 0, 0], 1 / 2),
    ],
)
def test_average_precision_by_hand(scores: list[float], positive: list[int], expected: float) -> None:
    assert ap(scores, positive) == pytest.approx(expected)
    assert average_precision_one_by_one(scores, [bool(p) for p in positive]) == pytest.approx(expected)


def test_highlights_of_one_query_by_hand() -> None:
    # 3 clips; clip 1 is rated 4, 2, 0 and clip 2 is rated 3, 3, 4
    gold = RatingsBatch.from_videos([ClipRatings(3, [1, 2], [[4, 2, 0], [3, 3, 4]])])
    scores = highlight_scores(gold, ClipScoresBatch.from_rows([[0.1, 0.9, 0.5]]))
    # VeryGood: annotator 1 has clip 1, found first; 2 has none; 3 has clip 2, found second
    assert scores["HL-min-VeryGood-mAP"].tolist() == pytest.approx([(1 + 0 + 1 / 2) / 3])
    assert scores["HL-min-VeryGood-Hit1"].tolist() == [1.0]  # the first annotator's
    # Good: clips 1 and 2, then 2 twice
    assert scores["HL-min-Good-mAP"].tolist() == pytest.approx([(1 + 1 / 2 + 1 / 2) / 3])
    # Fair: 1 and 2, 1 and 2, then 2
    assert scores["HL-min-Fair-mAP"].tolist() == pytest.approx([(1 + 1 + 1 / 2) / 3])


def test_the_top_clip_is_the_first_maximum_and_may_lie_past_the_video() -> None:
    gold = RatingsBatch.from_videos([ClipRatings(2, [1], [[4, 4, 4]])] * 3)
    scores = highlight_scores(gold, ClipScoresBatch.from_rows([[0.5, 0.5], [0.1, 0.2], [0.1, 0.2, 0.3]]))
    assert scores["HL-min-VeryGood-Hit1"].tolist() == [0.0, 1.0, 0.0]
    assert scores["HL-min-VeryGood-mAP"].tolist() == pytest.approx([1 / 2, 1.0, 1.0])  # the third clip is cut


def test_padding_outranks_negative_scores() -> None:
    gold = RatingsBatch.from_videos([ClipRatings(3, [0], [[4, 4, 4]])])
    scores = highlight_scores(gold, ClipScoresBatch.from_rows([[-0.1, -0.5]]))
    assert scores["HL-min-VeryGood-mAP"].tolist() == pytest.approx([1 / 2])  # clip 2, with 0.0, comes first
    assert scores["HL-min-VeryGood-Hit1"].tolist() == [1.0]  # the top of what was given


few_scores = st.sampled_from([-1.0, 0.0, 0.1, 0.2, 0.3])


@given(st.lists(st.tuples(few_scores, st.booleans()), min_size=1, max_size=12), st.integers(0, 4))
def test_average_precision_equals_one_threshold_at_a_time(clips: list[tuple[float, bool]], padding: int) -> None:
    scores, positive = [score for score, _ in clips], [p for _, p in clips]
    expected = average_precision_one_by_one(scores, positive)
    padded = ap([*scores, *[-math.inf] * padding], [*positive, *[0] * padding])
    assert padded == pytest.approx(expected)
    assert ap([3 * s + 1 for s in scores], positive) == pytest.approx(expected)  # only ranks matter


def moment(gold: list[list[float]], predicted: list[list[float]], length: str = "full") -> tuple[list[float], float]:
    scores = moment_scores([[tuple(g) for g in gold]], [[tuple(p) for p in predicted]])  # type: ignore[misc]
    return scores[length]["AP"][0].tolist(), float(scores[length]["IoU"][0])


def test_moments_by_hand() -> None:
    gold = [[0.0, 20.0], [40.0, 50.0]]
    predicted = [[41.0, 50.0, 0.2], [0.0, 20.0, 0.9], [0.0, 19.0, 0.5]]
    aps, first = moment(gold, predicted)
    # by score: [0, 20] fits exactly, [0, 19] finds that one taken, [41, 50] has IoU 9/10 with the other:
    # precision 1/1, 1/2, 2/3, each true positive worth half the recall
    assert aps == pytest.approx([(1 + 2 / 3) / 2] * 9 + [1 / 2])
    assert first == pytest.approx(9 / 10)  # the first in the file
    # lengths: [40, 50] is short, [0, 20] is middle, predicted windows stay
    assert moment(gold, predicted, "short")[0] == pytest.approx([1 / 3] * 9 + [0])
    assert moment(gold, predicted, "middle")[0] == pytest.approx([1.0] * 10)
    assert np.isnan(moment(gold, predicted, "long")[0]).all()


def test_only_the_first_ten_windows_count() -> None:
    late = [[50.0, 60.0, 0.1]] * 10 + [[0.0, 20.0, 0.9]]
    assert moment([[0.0, 20.0]], late) == ([0.0] * 10, 0.0)
    assert moment([[0.0, 20.0]], late[1:])[0] == [1.0] * 10


def test_the_later_of_two_gold_windows_with_equal_iou_is_matched() -> None:
    # [0, 4] has IoU 2/4 with both; [0, 2] then finds its own free
    aps, _ = moment([[0.0, 2.0], [2.0, 4.0]], [[0.0, 4.0, 0.9], [0.0, 2.0, 0.1]])
    assert aps[0] == 1.0


def test_windows_without_length_or_reversed_match_nothing() -> None:
    assert moment([[0.0, 20.0]], [[5.0, 5.0, 1.0]]) == ([0.0] * 10, 0.0)
    assert moment([[0.0, 20.0]], [[20.0, 0.0, 1.0]]) == ([0.0] * 10, 0.0)
    assert moment([[5.0, 5.0]], [[5.0, 5.0, 1.0]]) == ([0.0] * 10, 0.0)


def moment_ap_one_by_one(gold: list[list[float]], predicted: list[list[float]], threshold: float) -> float:
    ranked = sorted(predicted[:10], key=lambda window: -window[2])
    free, true = set(range(len(gold))), []
    for start, end, _ in ranked:
        best, best_iou = -1, -1.0
        for g in sorted(free):
            shared = max(0.0, min(end, gold[g][1]) - max(start, gold[g][0]))
            overlap = shared / ((end - start) + (gold[g][1] - gold[g][0]) - shared) if shared else 0.0
            if overlap >= best_iou:
                best, best_iou = g, overlap
        true.append(best_iou >= threshold)
        if true[-1]:
            free.remove(best)
    precisions = [sum(true[: k + 1]) / (k + 1) for k in range(len(true))]
    return sum(max(precisions[k:]) for k in range(len(true)) if true[k]) / len(gold)


whole_windows = st.tuples(st.integers(0, 20), st.integers(1, 20), st.integers(0, 3)).map(
    lambda w: [float(w[0]), float(w[0] + w[1]), w[2] / 4]
)


@given(
    st.lists(st.lists(whole_windows, min_size=1, max_size=5), min_size=1, max_size=3),
    st.lists(st.lists(whole_windows, min_size=1, max_size=12), min_size=3, max_size=3),
)
def test_moments_equal_one_window_at_a_time(gold: list[list[list[float]]], predicted: list[list[list[float]]]) -> None:
    spans = [[(w[0], w[1]) for w in windows] for windows in gold]
    windows = [[(w[0], w[1], w[2]) for w in row] for row in predicted[: len(gold)]]
    fast = moments.average_precision(spans, windows)
    slow = [[moment_ap_one_by_one(gold[q], predicted[q], t) for t in IOU_THRESHOLDS] for q in range(len(gold))]
    assert fast == pytest.approx(np.array(slow))
    assert (first_window_iou(spans, windows) <= 1).all()


def test_the_size_of_chunks_does_not_change_the_result() -> None:
    gold = [[(0.0, 10.0 + q), (20.0, 30.0)] for q in range(5)]
    predicted = [[(0.0, 12.0, 0.5), (19.0, 30.0, 0.9)]] * 5
    whole = moments.average_precision(gold, predicted)
    np.testing.assert_array_equal(moments.average_precision(gold, predicted, chunk_size=2), whole)
