"""Spans of relevance, offline and while the video plays, against values computed by hand and against what must hold."""

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


def watched(relevance: list[float], fps: float = 2.0, duration: float | None = None) -> StreamResult:
    return StreamResult.from_outputs(heard(relevance, fps), duration)


def heard(relevance: list[float], fps: float = 2.0) -> list[Scores]:
    return [Scores(k, k / fps, 0.0, score) for k, score in enumerate(relevance)]


def test_every_scene_has_its_span_and_one_is_the_best() -> None:
    found = TemporalGrounding("x").result(watched(TWO_SCENES))
    assert found.spans == (ScoredSpan(2.0, 6.0, pytest.approx(0.85)), ScoredSpan(10.0, 12.0, pytest.approx(0.7)))
    assert found.best == found.spans[0]
    assert found.mask == (False,) * 4 + (True,) * 8 + (False,) * 8 + (True,) * 4
    assert found.query == "x"


@pytest.mark.parametrize("after", [[0.9] * 4, [0.6] * 16])
def test_what_a_dip_costs_more_than_it_brings_is_a_span_of_its_own(after: list[float]) -> None:
    """A second and a quarter of nothing is not yet another scene, and yet nothing of what follows is lost."""
    found = TemporalGrounding("x").result(watched([0.9] * 4 + [0.05] * 5 + after, fps=4.0))
    assert [(span.start, span.end) for span in found.spans] == [(0.0, 1.0), (2.25, 2.25 + len(after) / 4)]


def test_nothing_relevant_is_no_span() -> None:
    found = TemporalGrounding("x").result(watched([0.2] * 9))
    assert (found.spans, found.best, any(found.mask)) == ((), None, False)
    assert TemporalGrounding("x").result(watched([])).spans == ()


def test_frames_exceed_the_threshold_or_do_not() -> None:
    assert frame_mask([0.5, 0.51, 0.4], 0.5) == [False, True, False]


def test_under_paper_what_counts_is_where_a_score_lies_between_the_videos_own() -> None:
    faint = [0.01 + 0.1 * score for score in TWO_SCENES]
    assert TemporalGrounding("x").result(watched(faint)).spans == ()
    found = TemporalGrounding("x", "paper").result(watched(faint))
    assert [(span.start, span.end) for span in found.spans] == [(2.0, 6.0), (10.0, 12.0)]
    assert found.mask == TemporalGrounding("x").result(watched(TWO_SCENES)).mask
    assert TemporalGrounding("x", "paper").result(watched([0.3] * 5)).spans == ()  # nothing stands out


def test_nothing_lasts_longer_than_the_video() -> None:
    """At half a frame a second the last frame would stand until 10 s."""
    for task in (TemporalGrounding("x"), OnlineGrounding("x")):
        (span,) = task.result(watched([0.1, 0.1, 0.9, 0.9, 0.9], fps=0.5, duration=9.0)).spans
        assert (span.start, span.end) == (4.0, 9.0)
        (span,) = task.result(watched([0.9], duration=2.5)).spans
        assert (span.start, span.end) == (0.0, 2.5)  # all that was seen of it
    (online,) = OnlineGrounding("x").result(watched([0.1, 0.1, 0.9, 0.9, 0.9], fps=0.5, duration=9.0)).spans
    assert (online.start_decided, online.end_decided) == (4.0, 9.0)


def test_under_paper_online_goes_by_what_was_lowest_and_highest_until_then() -> None:
    faint = [0.01 + 0.1 * score for score in TWO_SCENES]
    assert OnlineGrounding("x").result(watched(faint)).spans == ()
    found = OnlineGrounding("x", profile="paper").result(watched(faint)).spans
    assert [(span.start, span.end) for span in found] == [(2.0, 6.0), (10.0, 12.0)]
    assert OnlineGrounding("x", profile="paper").result(watched([0.3] * 5)).spans == ()


@given(CURVES.filter(lambda scores: len(set(scores)) > 1))
def test_stretched_scores_reach_from_0_to_1_and_keep_their_order(scores: list[float]) -> None:
    curve = rescale_min_max(scores)
    assert (min(curve), max(curve)) == (0.0, 1.0)
    assert all(a <= b for (_, a), (_, b) in pairwise(sorted(zip(scores, curve, strict=True))))


@given(CURVES)
def test_spans_are_disjoint_in_order_and_the_best_is_one_of_them(scores: list[float]) -> None:
    times = [k / 4 for k in range(len(scores))]
    found = find_spans(times, scores)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(span.start < span.end and 0.5 < span.score <= 1 for span in found if len(scores) > 1)
    inside = [any(span.start <= time < span.end for span in found) for time in times]
    assert all(within for within, relevant in zip(inside[:-1], frame_mask(scores), strict=False) if relevant)
    best = best_span(times, scores)
    assert best is None if not found else best in [(span.start, span.end) for span in found]


# while it plays


def events(relevance: list[float], options: Hysteresis | None = None) -> list[SpanStarted | SpanEnded]:
    return list(detect_spans(heard(relevance), options))


def test_a_start_is_told_when_it_is_sure_and_an_end_when_it_is_over() -> None:
    curve = [0.1, 0.5, 0.7, 0.9, 0.2, 0.3, 0.3, 0.3]
    assert events(curve) == [SpanStarted(0.5, 1.0), SpanEnded(0.5, 2.0, 3.0)]


def test_a_dip_and_a_rise_that_is_never_sure_tell_nothing() -> None:
    assert events([0.9, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1]) == [SpanStarted(0.0, 0.0), SpanEnded(0.0, 2.0, 3.0)]
    assert events([0.1, 0.5, 0.6, 0.5, 0.1, 0.5]) == []


def test_what_is_still_there_at_the_end_ends_there() -> None:
    assert events([0.1, 0.9, 0.9]) == [SpanStarted(0.5, 0.5), SpanEnded(0.5, 1.5, 1.5)]
    assert events([0.1, 0.9, 0.9, 0.1]) == [SpanStarted(0.5, 0.5), SpanEnded(0.5, 1.5, 2.0)]
    assert events([0.9]) == [SpanStarted(0.0, 0.0), SpanEnded(0.0, 0.0, 0.0)]


@given(CURVES, CURVES, st.sampled_from([Hysteresis(), Hysteresis(0.5, 0.5, 0.0), Hysteresis(0.9, 0.1, 2.0)]))
def test_what_is_told_of_a_frame_does_not_depend_on_what_follows(
    seen: list[float], to_come: list[float], options: Hysteresis
) -> None:
    until = (len(seen) - 1) / 2
    told = [event for event in events([*seen, *to_come], options) if event.time <= until]
    alone = events(seen, options)
    assert told == alone[: len(told)]
    assert len(alone) - len(told) <= 1  # what was open ends with the video


@given(CURVES)
def test_told_spans_begin_before_they_are_told_and_follow_each_other(scores: list[float]) -> None:
    found = OnlineGrounding("x").result(watched(scores)).spans
    for span in found:
        assert span.start <= span.start_decided <= span.end_decided
        assert span.start <= span.end <= span.end_decided
    assert all(a.end <= b.start and a.end_decided <= b.start_decided for a, b in pairwise(found))


def test_where_the_scores_are_clear_it_finds_what_is_found_offline() -> None:
    online, offline = (
        OnlineGrounding("x").result(watched(TWO_SCENES)),
        TemporalGrounding("x").result(watched(TWO_SCENES)),
    )
    assert [(s.start, s.end) for s in online.spans] == [(s.start, s.end) for s in offline.spans]
    assert online.spans == (OnlineSpan(2.0, 6.0, 2.0, 7.0), OnlineSpan(10.0, 12.0, 10.0, 12.0))


@pytest.mark.parametrize(("threshold", "low", "high"), [(0.5, 0.4, 0.6), (0.0, 0.0, 0.1), (1.0, 0.9, 0.99)])
def test_hysteresis_around_a_threshold(threshold: float, low: float, high: float) -> None:
    found = Hysteresis.from_threshold(threshold)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    "bad", [(0.3, 0.4, 1.0), (1.0, 0.4, 1.0), (0.6, -0.1, 1.0), (0.6, 0.4, -1.0), (0.6, 0.4, float("nan"))]
)
def test_hysteresis_that_could_never_begin_or_end(bad: tuple[float, float, float]) -> None:
    with pytest.raises(OptionError, match="low <= high"):
        Hysteresis(*bad)
