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


def test_two_long_scenes_are_not_told_as_one() -> None:
    """Each alone is worth more than both with what lies between them; below the bridge they are one."""
    times = [float(k) for k in range(40)]
    scores = [0.9] * 16 + [0.1] * 4 + [0.9] * 20
    assert best_span(times, scores) == (20.0, 40.0)
    assert best_span(times, scores, bridge=5.0) == (0.0, 40.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(1, 4))
def test_best_span_is_the_best_of_all_spans_without_a_long_dip(scores: list[float], bridge: int) -> None:
    times = [float(k) for k in range(len(scores))]

    def whole(i: int, j: int) -> bool:
        dip = 0
        for score in scores[i : j + 1]:
            dip = dip + 1 if score <= 0.5 else 0
            if dip >= bridge:
                return False
        return True

    spans = [(i, j) for i in range(len(scores)) for j in range(i, len(scores)) if whole(i, j)]
    sums = {(i, j): sum(s - 0.5 for s in scores[i : j + 1]) for i, j in spans}
    best = max(sums.values(), default=0.0)
    span = best_span([*times, float(len(scores))], [*scores, 0.0], bridge=float(bridge))
    if span is None:
        assert best <= 1e-9
    else:
        assert abs(sums[int(span[0]), int(span[1]) - 1] - best) < 1e-6


def test_saliency_sums_whole_clips_only() -> None:
    times = [0.0, 1.0, 2.0, 3.0, 4.0]
    assert clip_saliency(times, [0.5, 0.25, 1.0, 1.0, 9.0], duration=5.0) == [0.75, 2.0]
    assert top_clip([0.1, 0.7, 0.7]) == 1
