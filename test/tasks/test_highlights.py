"""Highlights from score curves: values computed by hand, and properties of all curves."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.errors import OptionError
from mmduet.events import Scores
from mmduet.spans import ScoredSpan
from mmduet.tasks import HighlightDetection, StreamResult
from mmduet.tasks.highlights import MAX_HIGHLIGHT_SECONDS, top_highlights

PULSES = [0.0] * 8 + [0.9] * 8 + [0.0] * 16 + [0.6] * 4 + [0.0] * 12  # at 4 fps: 2 to 4 s, 8 to 9 s
TIMES = [k / 4 for k in range(len(PULSES))]


def make_stream(scores: list[float], duration: float | None = None) -> StreamResult:
    return StreamResult.from_outputs([Scores(k, k / 4, score, score) for k, score in enumerate(scores)], duration)


def test_highlight_covers_the_frames_with_half_of_the_peak_saliency() -> None:
    """Averaged over 2 s, the first pulse peaks at 15/16 of its score and the second at half: too low to be a highlight."""
    (first,) = top_highlights(TIMES, PULSES, 5)
    assert first == ScoredSpan(2.0, 4.0, pytest.approx(0.9 * 15 / 16))
    first, second = top_highlights(
        TIMES, [1.4 * score if k > 20 else score for k, score in enumerate(PULSES)], 5, (0.5, 0.5)
    )
    assert second == ScoredSpan(8.0, 9.0, pytest.approx(0.84 * 7 / 8))
    assert first == ScoredSpan(2.0, 4.0, pytest.approx(0.9))


def test_highlight_without_a_query_lies_before_its_informative_frames() -> None:
    scores = [0.0] * 12 + [1.0, 1.0] + [0.0] * 10  # informative at 3 and 3.25 s
    (found,) = HighlightDetection(max_seconds=10).result(make_stream(scores)).top
    assert found == ScoredSpan(1.25, 3.25, pytest.approx(0.25))
    (around,) = HighlightDetection("x", max_seconds=10).result(make_stream(scores)).top
    assert around.start < 3.0 < 3.5 <= around.end


def test_at_most_max_highlights_are_returned_best_first() -> None:
    peaks = [0.0, 0.7, 0.0, 0.0, 0.9, 0.0, 0.0, 0.8, 0.0]
    scores = [score for peak in peaks for score in [peak] * 8]
    times = [k / 4 for k in range(len(scores))]
    assert [h.score for h in top_highlights(times, scores, 2)] == pytest.approx([0.9 * 15 / 16, 0.8 * 15 / 16])
    assert [h.start for h in top_highlights(times, scores, 9)] == [8.0, 14.0, 2.0]


def test_highlights_of_a_long_scene_have_bounded_length() -> None:
    scores = [0.8] * 200
    found = top_highlights([k / 4 for k in range(200)], scores, 2)
    assert [h.end - h.start for h in found] == [MAX_HIGHLIGHT_SECONDS, MAX_HIGHLIGHT_SECONDS]


@pytest.mark.parametrize(("frames", "limit"), [(64, 4.0), (400, 10.0)])
def test_a_highlight_is_at_most_a_quarter_of_the_video(frames: int, limit: float) -> None:
    """A video of 16 s or 100 s is about the query all the time."""
    stream = make_stream([0.8] * frames)
    assert [h.end - h.start for h in HighlightDetection("x", 2).result(stream).top] == [limit, limit]
    (longer,) = HighlightDetection("x", 1, max_seconds=7.5).result(stream).top
    assert longer.end - longer.start == 7.5
    held = StreamResult(stream.scores, (), stream.duration + 60, stream.duration + 60)
    assert max(h.end - h.start for h in HighlightDetection("x", 20, max_seconds=5).result(held).top) == 5


@pytest.mark.parametrize("max_seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_maximum_length_is_rejected(max_seconds: float) -> None:
    with pytest.raises(OptionError, match="max_seconds must be a number of seconds above 0"):
        HighlightDetection("x", max_seconds=max_seconds)


def test_low_scores_give_highlights_only_in_the_paper_profile() -> None:
    assert top_highlights(TIMES, [0.02] * len(TIMES), 5) == []
    assert top_highlights([], [], 5) == []
    assert HighlightDetection("x").result(make_stream([0.0] * 8)).top == ()
    assert HighlightDetection("x", profile="paper").result(make_stream([0.02] * 8 + [0.05] * 8)).top[0].start >= 1.0


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(1, 4), st.sampled_from([(1.0, 1.0), (0.0, 2.0), (0.0, 0.0)]))
def test_highlights_are_sorted_disjoint_and_bounded(
    scores: list[float], max_highlights: int, smoothing: tuple[float, float]
) -> None:
    times = [k / 4 for k in range(len(scores))]
    found = top_highlights(times, scores, max_highlights, smoothing, max_seconds=3.0)
    assert len(found) <= max_highlights
    assert all(a.score >= b.score for a, b in pairwise(found))
    assert all(a.end <= b.start or b.end <= a.start for a, b in combinations(found, 2))
    assert all(0 <= h.start < h.end <= len(scores) / 4 and h.end - h.start <= 3.0 for h in found if len(scores) > 1)
    assert all(0.1 <= h.score <= 1 + 1e-9 for h in found)


def test_single_frames_and_uneven_times_are_accepted() -> None:
    assert top_highlights([3.0], [0.9], 1) == [ScoredSpan(3.0, 3.0, 0.9)]
    (found,) = top_highlights([0.0, 5.0, 5.1, 9.0], [0.0, 1.0, 1.0, 0.0], 1, (0.0, 0.0))
    assert (found.start, found.end) == (5.0, 9.0)


def test_result_has_the_saliency_of_each_clip() -> None:
    result = HighlightDetection("x").result(make_stream(PULSES, 12.5))
    assert len(result.clips) == 6
    assert result.clips[1] == pytest.approx(8 * 0.9)
    assert result.clips[4] == pytest.approx(4 * 0.6)
    assert sum(result.clips) == pytest.approx(8 * 0.9 + 4 * 0.6)


def test_query_selects_the_score_head() -> None:
    assert HighlightDetection("x").heads == ("relevance",)
    assert HighlightDetection().heads == ("informative",)


def test_max_highlights_below_1_is_rejected() -> None:
    with pytest.raises(OptionError, match="number of top highlights must be at least 1, got 0"):
        HighlightDetection("x", 0)
