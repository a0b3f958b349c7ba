"""The metrics of temporal grounding."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_by_one import frame_iou

from mmduet.metrics.grounding import (
    frame_ious,
    frames_in_spans,
    mean_metrics,
    segment_iou,
    sweep_thresholds,
    text_iou,
    text_span,
)
from mmduet.metrics.span_overlap import iou


@pytest.mark.parametrize(
    ("predicted", "gold", "expected"),
    [
        ((0.0, 10.0), (5.0, 20.0), 5 / 20),
        ((5.0, 20.0), (5.0, 20.0), 1.0),
        ((0.0, 5.0), (5.0, 20.0), 0.0),
        ((0.0, 4.0), (5.0, 20.0), 0.0),
        ((20.0, 5.0), (5.0, 20.0), 0.0),  # reversed
        ((7.0, 7.0), (5.0, 20.0), 0.0),
        ((5.0, 5.0), (5.0, 5.0), 0.0),
        (None, (5.0, 20.0), 0.0),
    ],
)
def test_segment_iou(predicted: tuple[float, float] | None, gold: tuple[float, float], expected: float) -> None:
    assert segment_iou(predicted, gold) == pytest.approx(expected)


spans = st.tuples(st.floats(0, 100), st.floats(0.1, 100)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(spans, spans)
def test_segment_iou_equals_iou_and_text_iou_is_not_smaller(a: tuple[float, float], b: tuple[float, float]) -> None:
    assert segment_iou(a, b) == pytest.approx(iou(a, b), abs=1e-9)
    assert text_iou(a, b) >= segment_iou(a, b) - 1e-12  # +1 on both sides of the fraction


@pytest.mark.parametrize(
    ("answer", "duration", "expected"),
    [
        ("It happens at 3.5 - 12 seconds.", None, (3.5, 12.0)),
        ("From 10 to 50.", 30.0, (3.0, 15.0)),
        ("FROM 10 TO 50", 0.0, (0.0, 0.0)),
        ("from 3 until 12", 30.0, (3.0, 12.0)),
        ("From 10 to 50.", None, None),
        ("at 3", 30.0, None),
        ("3, 4 and 5", 30.0, None),
        ("never", 30.0, None),
        ("", None, None),
        ("1 - " + "9" * 400, 30.0, None),  # beyond floats
    ],
)
def test_text_span(answer: str, duration: float | None, expected: tuple[float, float] | None) -> None:
    assert text_span(answer, duration) == expected


@pytest.mark.parametrize(
    ("predicted", "gold", "expected"),
    [
        ((0.0, 9.0), (5.0, 19.0), 5 / 20),  # seconds 5..9 of 0..19
        ((5.0, 5.0), (5.0, 5.0), 1.0),
        ((0.0, 4.5), (5.0, 9.0), 0.5 / 10),
        ((0.0, 4.0), (5.0, 9.0), 0.0),
        ((9.0, 0.0), (0.0, 9.0), 0.0),
    ],
)
def test_text_iou(predicted: tuple[float, float], gold: tuple[float, float], expected: float) -> None:
    assert text_iou(predicted, gold) == pytest.approx(expected)


def test_frame_ious_by_hand() -> None:
    times = np.array([[0.0, 0.5, 1.0, 1.5, 2.0]])
    gold = frames_in_spans(times, [[(0.5, 1.0), (2.0, 9.0)]])
    assert gold.tolist() == [[False, True, True, False, True]]  # both ends inclusive
    scores = np.array([[0.0, 1.0, 0.4, 0.6, np.nan]])
    everything = np.ones_like(gold)
    # >= 0.4: frames 1 2 3 against 1 2 4; >= 0.5: 1 3; >= 1: 1
    ious = frame_ious(scores, gold, everything, np.array([0.4, 0.5, 1.0]))
    assert ious.tolist() == [[2 / 4, 1 / 4, 1 / 3]]
    last_is_padding = np.array([[True, True, True, True, False]])
    assert frame_ious(scores, gold, last_is_padding, np.array([0.4])).tolist() == [[2 / 3]]
    assert frame_ious(scores * np.nan, gold & False, everything, np.array([0.4])).tolist() == [[0.0]]  # empty union


def test_thresholds_have_the_float_error_of_numpy() -> None:
    thresholds = sweep_thresholds()
    assert len(thresholds) == 21
    assert thresholds[0] == 0.3
    assert thresholds[10] > 0.5
    half = np.array([[0.5]])
    reached = frame_ious(half, half > 0, half > 0, thresholds)[0]
    assert reached.tolist() == [1.0] * 10 + [0.0] * 11  # exactly one half does not reach "0.5"


def test_mean_metrics_by_hand() -> None:
    assert mean_metrics(np.array([0.0, 0.3, 0.5, 0.8])) == pytest.approx(
        {"mIoU": 40, "R1@0.3": 75, "R1@0.5": 50, "R1@0.7": 25}
    )


score = st.integers(0, 10).map(lambda tenths: tenths / 10) | st.just(math.nan)


@given(st.lists(st.tuples(score, st.booleans()), min_size=1, max_size=20), st.integers(0, 3))
def test_all_thresholds_at_once_equal_one_at_a_time(frames: list[tuple[float, bool]], padding: int) -> None:
    thresholds = np.array([0.1, 0.2, 0.5, 0.7000000000000001, 1.0])
    scores, gold = [s for s, _ in frames], [g for _, g in frames]
    real = np.array([[True] * len(frames) + [False] * padding])
    padded_scores, padded_gold = np.array([[*scores, *[1.0] * padding]]), np.array([[*gold, *[True] * padding]])
    fast = frame_ious(padded_scores, padded_gold, real, thresholds)
    assert fast[0].tolist() == [frame_iou(scores, gold, t) for t in thresholds]
