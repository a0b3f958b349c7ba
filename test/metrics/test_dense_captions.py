"""The metrics of dense captioning: overlaps, SODA_c and paragraphs."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.evaluation.scorers.meteor import Meteor
from mmduet.metrics.captions import Candidate
from mmduet.metrics.dense_captions import (
    UNMATCHED_CAPTION,
    LocalizationScore,
    VideoCaptions,
    f1,
    iou,
    iou_above,
    localization_score,
    matched_pairs,
    starting_within,
)
from mmduet.metrics.dense_evaluators import EVALUATORS, VideoScores, summarize
from mmduet.metrics.paragraphs import paragraph_candidates, shifted_paragraph_candidates
from mmduet.metrics.soda import max_ordered_assignment, permute_columns_by_string, soda_c
from mmduet.spans import CaptionedSpan


def segments(*spans: tuple[float, float]) -> tuple[CaptionedSpan, ...]:
    return tuple(CaptionedSpan(start, end, f"caption {i}") for i, (start, end) in enumerate(spans))


def test_iou_by_hand() -> None:
    a, b, c = segments((0, 10), (5, 15), (20, 30))
    assert iou(a, b) == pytest.approx(5 / 15)
    assert iou(a, c) == 0
    assert iou(a, a) == pytest.approx(1)
    (reversed_segment,) = segments((10, 0))
    assert iou(a, reversed_segment) == 0


spans = st.tuples(st.floats(0, 100), st.floats(0, 100)).map(sorted).map(tuple)


@given(spans, spans)
def test_iou_is_a_symmetric_share(a: tuple[float, float], b: tuple[float, float]) -> None:
    one, other = segments(a, b)
    assert 0 <= iou(one, other) <= 1
    assert iou(one, other) == iou(other, one)


def test_precision_and_recall_by_hand() -> None:
    # IoU with the event 0-10: 1 and 4/10; the event 50-60 matches no prediction
    video = VideoCaptions(segments((0, 10), (0, 4)), (segments((0, 10), (50, 60)),))
    assert localization_score(video, iou_above(0.3)) == LocalizationScore(1.0, 0.5)
    assert localization_score(video, iou_above(0.5)) == LocalizationScore(0.5, 0.5)
    assert localization_score(video, starting_within(1)) == LocalizationScore(1.0, 0.5)
    assert localization_score(VideoCaptions((), video.references), iou_above(0.3)) == LocalizationScore(0.0, 0.0)


def test_the_best_reference_set_counts_separately_for_precision_and_recall() -> None:
    video = VideoCaptions(segments((0, 10), (20, 30)), (segments((0, 10)), None, segments((0, 10), (20, 30), (40, 50))))
    # P: 1/2 and 1; R: 1 and 2/3
    assert localization_score(video, iou_above(0.5)) == LocalizationScore(1.0, 1.0)


def test_an_iou_equal_to_the_threshold_does_not_match() -> None:
    """The epsilon of the original evaluators keeps it just below the threshold."""
    video = VideoCaptions(segments((0, 5)), (segments((0, 10)),))
    assert localization_score(video, iou_above(0.5)).precision == 0
    assert matched_pairs(video, 0.5) == [Candidate("caption 0", (UNMATCHED_CAPTION,))]


def test_a_start_at_the_maximum_distance_does_not_match() -> None:
    video = VideoCaptions(segments((3, 9)), (segments((0, 1)),))
    assert localization_score(video, starting_within(3)).recall == 0
    assert localization_score(video, starting_within(3.1)).recall == 1


def test_each_prediction_is_paired_with_every_event_that_it_overlaps() -> None:
    video = VideoCaptions(segments((0, 10), (50, 60)), (segments((0, 9), (30, 40)), segments((1, 10))))
    assert matched_pairs(video, 0.5, "nothing") == [
        Candidate("caption 0", ("caption 0",)),
        Candidate("caption 0", ("caption 0",)),
        Candidate("caption 1", ("nothing",)),
    ]


def test_the_unmatched_caption_matters_only_by_its_length(meteor: Meteor) -> None:
    ((short, _), (long, _)) = meteor.scores(
        [
            [Candidate("a dog", ("a dog",)), Candidate("x y", (UNMATCHED_CAPTION,))],
            [Candidate("a dog", ("a dog",)), Candidate("x y", ("abc123!@#",))],
        ]
    )
    assert 0 < long < short < 1


def test_f1_of_each_flavour_by_hand() -> None:
    videos = [
        VideoScores(1, (LocalizationScore(1.0, 0.5),) * 2 + (LocalizationScore(0.0, 0.0),) * 2, ({},) * 4, (0.0,)),
        VideoScores(1, (LocalizationScore(0.0, 0.0),) * 4, ({},) * 4, (0.0,)),
    ]
    videos = [replace(video, captions=(dict.fromkeys(NAMES, 0.0),) * 4) for video in videos]
    # each video: P = 1/2, R = 1/4 and 0, 0
    assert summarize(videos, EVALUATORS["vid2seq"])["F1"] == pytest.approx((2 * 1 / 2 * 1 / 4 / (3 / 4) + 0) / 2)
    # of the means: P = 1/4, R = 1/8
    assert summarize(videos, EVALUATORS["densevid2021"])["F1"] == pytest.approx(2 * 1 / 4 * 1 / 8 / (3 / 8))
    # at .3 and .5: P = 1/2, R = 1/4; at .7 and .9: 0
    videos = [replace(video, by_distance=(LocalizationScore(0.0, 0.0),) * 6) for video in videos]
    assert summarize(videos, EVALUATORS["vidchapters"])["F1"] == pytest.approx((2 * 1 / 2 * 1 / 4 / (3 / 4)) / 2)


NAMES = ("CIDEr", "METEOR", "ROUGE_L", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4")


def test_soda_by_hand() -> None:
    # two events, two predictions that fit exactly; captions fit crosswise, which the order forbids
    events = predictions = segments((0, 10), (10, 20))
    assert soda_c(predictions, events, np.array([[0.2, 0.9], [0.9, 0.4]])) == pytest.approx((0.2 + 0.4) / 2)
    # one of three predictions fits: P = .6 / 3, R = .6 / 1
    three = segments((0, 10), (30, 40), (50, 60))
    assert soda_c(three, events[:1], np.array([[0.6, 1.0, 1.0]])) == pytest.approx(2 * 0.2 * 0.6 / 0.8)
    assert soda_c((), events, np.zeros((2, 0))) == 0


def test_soda_of_several_sets_by_hand() -> None:
    empty = (dict.fromkeys(NAMES, 0.0),) * 4
    scores = [
        VideoScores(1, (LocalizationScore(0, 0),) * 4, empty, (0.4, 0.2)),
        VideoScores(1, (LocalizationScore(0, 0),) * 4, empty, (0.1, None)),
    ]
    metrics = summarize(scores, EVALUATORS["vid2seq"])
    assert metrics["SODA_c_1"] == pytest.approx((0.4 + 0.1) / 2)
    assert metrics["SODA_c_2"] == pytest.approx(0.2)
    assert metrics["SODA_c"] == pytest.approx((0.25 + 0.2) / 2)
    assert metrics["SODA_c_best"] == pytest.approx((0.4 + 0.1) / 2)


def test_columns_are_permuted_only_beyond_ten() -> None:
    ten = np.arange(10.0)[None]
    assert permute_columns_by_string(ten).tolist() == ten.tolist()
    assert permute_columns_by_string(np.arange(12.0)[None]).tolist() == [[0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]]


@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_the_assignment_is_the_best_of_all(rows: int, columns: int, data: st.DataObject) -> None:
    numbers = st.lists(st.floats(0, 1), min_size=rows * columns, max_size=rows * columns)
    weights = np.array(data.draw(numbers)).reshape(rows, columns)
    best = max(
        sum(weights[r, c] for r, c in zip(some, others, strict=True))
        for size in range(min(rows, columns) + 1)
        for some in itertools.combinations(range(rows), size)
        for others in itertools.combinations(range(columns), size)
    )
    assert max_ordered_assignment(weights) == pytest.approx(best)


def test_paragraphs_by_hand() -> None:
    predicted = {"b": ["Cut 2 eggs", "Don't stir"], "c": []}
    events = {"a": [["One."]], "b": [["Two."], ["Two", "more"]], "c": [["Three."]]}
    joined = Candidate("cut eggs don t stir", ("two", "two more"))
    assert paragraph_candidates(predicted, events) == [Candidate("", ("one",)), joined, Candidate("", ("three",))]
    assert shifted_paragraph_candidates(predicted, events) == [
        Candidate("cut eggs don t stir", ("one",)),
        Candidate("", ("two", "two more")),
    ]


def test_f1_without_precision_and_recall_is_0() -> None:
    assert f1(0, 0) == 0
