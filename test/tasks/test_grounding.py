"""Relevant spans, offline and online: values computed by hand, and properties of all score curves."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.errors import OptionError
from mmduet.events import Scores
from mmduet.spans import ScoredSpan
from mmduet.tasks import OnlineGrounding, OnlineSpan, StreamResult, TemporalGrounding
from mmduet.tasks.grounding import best_span, find_spans, frame_mask, rescale_min_max
from mmduet.tasks.online_grounding import Hysteresis, SpanEnded, SpanStarted, detect_spans

CURVES = st.lists(st.floats(0, 1), max_size=30)
TWO_SCENES = [0.1] * 4 + [0.9, 0.8] * 4 + [0.2] * 8 + [0.7] * 4  # at 2 fps: 2 to 6 s, 10 to 12 s


def make_stream(relevance: list[float], fps: float = 2.0, duration: float | None = None) -> StreamResult:
    return StreamResult.from_outputs(make_scores(relevance, fps), duration)


def make_scores(relevance: list[float], fps: float = 2.0) -> list[Scores]:
    return [Scores(k, k / fps, 0.0, score) for k, score in enumerate(relevance)]


def test_every_relevant_scene_has_a_span_and_one_is_the_best() -> None:
    found = TemporalGrounding("x").result(make_stream(TWO_SCENES))
    assert found.spans == (ScoredSpan(2.0, 6.0, pytest.approx(0.85)), ScoredSpan(10.0, 12.0, pytest.approx(0.7)))
    assert found.best == found.spans[0]
    assert found.mask == (False,) * 4 + (True,) * 8 + (False,) * 8 + (True,) * 4
    assert found.query == "x"


@pytest.mark.parametrize("after", [[0.9] * 4, [0.6] * 16])
def test_part_after_a_dip_that_costs_more_than_the_part_adds_is_a_separate_span(after: list[float]) -> None:
    """The dip of 1.25 s is too short to end the scene, yet the part after it is not lost."""
    found = TemporalGrounding("x").result(make_stream([0.9] * 4 + [0.05] * 5 + after, fps=4.0))
    assert [(span.start, span.end) for span in found.spans] == [(0.0, 1.0), (2.25, 2.25 + len(after) / 4)]


def test_no_relevant_frame_gives_no_span() -> None:
    found = TemporalGrounding("x").result(make_stream([0.2] * 9))
    assert (found.spans, found.best, any(found.mask)) == ((), None, False)
    assert TemporalGrounding("x").result(make_stream([])).spans == ()


def test_mask_marks_frames_above_the_threshold() -> None:
    assert frame_mask([0.5, 0.51, 0.4], 0.5) == [False, True, False]


def test_paper_profile_rescales_scores_to_the_videos_range() -> None:
    faint = [0.01 + 0.1 * score for score in TWO_SCENES]
    assert TemporalGrounding("x").result(make_stream(faint)).spans == ()
    found = TemporalGrounding("x", "paper").result(make_stream(faint))
    assert [(span.start, span.end) for span in found.spans] == [(2.0, 6.0), (10.0, 12.0)]
    assert found.mask == TemporalGrounding("x").result(make_stream(TWO_SCENES)).mask
    assert TemporalGrounding("x", "paper").result(make_stream([0.3] * 5)).spans == ()  # all scores are equal


def test_no_span_ends_after_the_video() -> None:
    """At 0.5 fps the last frame would otherwise last until 10 s."""
    for task in (TemporalGrounding("x"), OnlineGrounding("x")):
        (span,) = task.result(make_stream([0.1, 0.1, 0.9, 0.9, 0.9], fps=0.5, duration=9.0)).spans
        assert (span.start, span.end) == (4.0, 9.0)
        (span,) = task.result(make_stream([0.9], duration=2.5)).spans
        assert (span.start, span.end) == (0.0, 2.5)  # the only frame lasts as long as the video
    (online,) = OnlineGrounding("x").result(make_stream([0.1, 0.1, 0.9, 0.9, 0.9], fps=0.5, duration=9.0)).spans
    assert (online.start_decided, online.end_decided) == (4.0, 9.0)


def test_paper_profile_online_rescales_scores_to_the_range_so_far() -> None:
    faint = [0.01 + 0.1 * score for score in TWO_SCENES]
    assert OnlineGrounding("x").result(make_stream(faint)).spans == ()
    found = OnlineGrounding("x", profile="paper").result(make_stream(faint)).spans
    assert [(span.start, span.end) for span in found] == [(2.0, 6.0), (10.0, 12.0)]
    assert OnlineGrounding("x", profile="paper").result(make_stream([0.3] * 5)).spans == ()


@given(CURVES.filter(lambda scores: len(set(scores)) > 1))
def test_rescaled_scores_range_from_0_to_1_and_keep_their_order(scores: list[float]) -> None:
    curve = rescale_min_max(scores)
    assert (min(curve), max(curve)) == (0.0, 1.0)
    assert all(a <= b for (_, a), (_, b) in pairwise(sorted(zip(scores, curve, strict=True))))


@given(CURVES)
def test_spans_are_disjoint_and_ordered_and_include_the_best(scores: list[float]) -> None:
    times = [k / 4 for k in range(len(scores))]
    found = find_spans(times, scores)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(span.start < span.end and 0.5 < span.score <= 1 for span in found if len(scores) > 1)
    inside = [any(span.start <= time < span.end for span in found) for time in times]
    assert all(within for within, relevant in zip(inside[:-1], frame_mask(scores), strict=False) if relevant)
    best = best_span(times, scores)
    assert best is None if not found else best in [(span.start, span.end) for span in found]


# online


def span_events(relevance: list[float], options: Hysteresis | None = None) -> list[SpanStarted | SpanEnded]:
    return list(detect_spans(make_scores(relevance), options))


def test_start_is_decided_above_the_high_threshold_and_end_after_the_patience() -> None:
    curve = [0.1, 0.5, 0.7, 0.9, 0.2, 0.3, 0.3, 0.3]
    assert span_events(curve) == [SpanStarted(0.5, 1.0), SpanEnded(0.5, 2.0, 3.0)]


def test_short_dip_and_scores_below_the_high_threshold_give_no_event() -> None:
    assert span_events([0.9, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1]) == [SpanStarted(0.0, 0.0), SpanEnded(0.0, 2.0, 3.0)]
    assert span_events([0.1, 0.5, 0.6, 0.5, 0.1, 0.5]) == []


def test_open_span_ends_with_the_stream() -> None:
    assert span_events([0.1, 0.9, 0.9]) == [SpanStarted(0.5, 0.5), SpanEnded(0.5, 1.5, 1.5)]
    assert span_events([0.1, 0.9, 0.9, 0.1]) == [SpanStarted(0.5, 0.5), SpanEnded(0.5, 1.5, 2.0)]
    assert span_events([0.9]) == [SpanStarted(0.0, 0.0), SpanEnded(0.0, 0.0, 0.0)]


@given(CURVES, CURVES, st.sampled_from([Hysteresis(), Hysteresis(0.5, 0.5, 0.0), Hysteresis(0.9, 0.1, 2.0)]))
def test_events_do_not_depend_on_later_frames(past: list[float], future: list[float], options: Hysteresis) -> None:
    now = (len(past) - 1) / 2
    with_future = [event for event in span_events([*past, *future], options) if event.time <= now]
    without_future = span_events(past, options)
    assert with_future == without_future[: len(with_future)]
    assert len(without_future) - len(with_future) <= 1  # an open span ends with the stream


@given(CURVES)
def test_online_spans_begin_before_they_are_decided_and_are_disjoint(scores: list[float]) -> None:
    found = OnlineGrounding("x").result(make_stream(scores)).spans
    for span in found:
        assert span.start <= span.start_decided <= span.end_decided
        assert span.start <= span.end <= span.end_decided
    assert all(a.end <= b.start and a.end_decided <= b.start_decided for a, b in pairwise(found))


def test_online_and_offline_agree_on_clear_scores() -> None:
    online, offline = (
        OnlineGrounding("x").result(make_stream(TWO_SCENES)),
        TemporalGrounding("x").result(make_stream(TWO_SCENES)),
    )
    assert [(s.start, s.end) for s in online.spans] == [(s.start, s.end) for s in offline.spans]
    assert online.spans == (OnlineSpan(2.0, 6.0, 2.0, 7.0), OnlineSpan(10.0, 12.0, 10.0, 12.0))


@pytest.mark.parametrize(("threshold", "low", "high"), [(0.5, 0.4, 0.6), (0.0, 0.0, 0.1), (1.0, 0.9, 0.99)])
def test_hysteresis_lies_around_the_threshold(threshold: float, low: float, high: float) -> None:
    hysteresis = Hysteresis.from_threshold(threshold)
    assert (hysteresis.low, hysteresis.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    "values", [(0.3, 0.4, 1.0), (1.0, 0.4, 1.0), (0.6, -0.1, 1.0), (0.6, 0.4, -1.0), (0.6, 0.4, float("nan"))]
)
def test_invalid_hysteresis_is_rejected(values: tuple[float, float, float]) -> None:
    with pytest.raises(OptionError, match="low <= high"):
        Hysteresis(*values)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_thresholds_outside_0_to_1_are_rejected(threshold: float) -> None:
    with pytest.raises(OptionError, match=f"threshold must be from 0 to 1, got {threshold}"):
        TemporalGrounding("x", threshold=threshold)
