"""Spans and highlights from score curves, against values computed by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mmduet.tasks.grounding import best_span
from mmduet.tasks.highlights import clip_saliency, top_clip

TIMES = [k / 2 for k in range(8)]


def test_best_span_bridges_a_dip_and_ends_where_the_next_frame_begins() -> None:
    assert best_span(TIMES, [0.1, 0.9, 0.9, 0.4, 0.9, 0.1, 0.1, 0.1]) == (0.5, 2.5)
    assert best_span(TIMES, [0.6, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9]) == (3.0, 4.0)
    assert best_span(TIMES, [0.5] * 8) is None
    assert best_span([], []) is None
    assert best_span([3.0], [0.9]) == (3.0, 3.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_best_span_is_the_best_of_all_spans(scores: list[float]) -> None:
    times = [float(k) for k in range(len(scores))]
    sums = {(i, j): sum(s - 0.5 for s in scores[i : j + 1]) for i in range(len(scores)) for j in range(i, len(scores))}
    best = max(sums.values())
    span = best_span(times, scores)
    if span is None:
        assert best <= 1e-9
    else:
        last = len(scores) - 1 if span[1] >= len(scores) - 1 and scores[-1] > 0.5 else int(span[1]) - 1
        assert abs(sums[(int(span[0]), last)] - best) < 1e-6 or best - sums[(int(span[0]), int(span[1]) - 1)] < 1e-6


def test_saliency_sums_whole_clips_only() -> None:
    times = [0.0, 1.0, 2.0, 3.0, 4.0]
    assert clip_saliency(times, [0.5, 0.25, 1.0, 1.0, 9.0], duration=5.0) == [0.75, 2.0]
    assert top_clip([0.1, 0.7, 0.7]) == 1
