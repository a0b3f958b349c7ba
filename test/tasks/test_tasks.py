"""Best span, clip saliency and JSON form of results, against values computed by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.spans import CaptionedSpan, ScoredSpan
from mmduet.tasks import (
    Answer,
    Answers,
    Captions,
    GroundingResult,
    Highlights,
    OnlineGroundingResult,
    OnlineSpan,
    TaskResult,
)
from mmduet.tasks.grounding import best_span
from mmduet.tasks.highlights import clip_saliency, top_clip

TIMES = [k / 2 for k in range(8)]


def test_best_span_bridges_a_dip_and_ends_where_the_next_frame_begins() -> None:
    assert best_span(TIMES, [0.1, 0.9, 0.9, 0.4, 0.9, 0.1, 0.1, 0.1]) == (0.5, 2.5)
    assert best_span(TIMES, [0.6, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9]) == (3.0, 4.0)
    assert best_span(TIMES, [0.5] * 8) is None
    assert best_span([], []) is None
    assert best_span([3.0], [0.9]) == (3.0, 3.0)


def test_two_long_scenes_are_separate_spans() -> None:
    """Both scenes with the dip between them have the larger sum, but a dip of ``bridge_seconds`` or more separates them."""
    times = [float(k) for k in range(40)]
    scores = [0.9] * 16 + [0.1] * 4 + [0.9] * 20
    assert best_span(times, scores) == (20.0, 40.0)
    assert best_span(times, scores, bridge_seconds=5.0) == (0.0, 40.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(1, 4))
def test_best_span_is_the_best_of_all_spans_without_a_long_dip(scores: list[float], bridge: int) -> None:
    times = [float(k) for k in range(len(scores))]

    def has_only_short_dips(i: int, j: int) -> bool:
        dip = 0
        for score in scores[i : j + 1]:
            dip = dip + 1 if score <= 0.5 else 0
            if dip >= bridge:
                return False
        return True

    spans = [(i, j) for i in range(len(scores)) for j in range(i, len(scores)) if has_only_short_dips(i, j)]
    sums = {(i, j): sum(s - 0.5 for s in scores[i : j + 1]) for i, j in spans}
    best = max(sums.values(), default=0.0)
    span = best_span([*times, float(len(scores))], [*scores, 0.0], bridge_seconds=float(bridge))
    if span is None:
        assert best <= 1e-9
    else:
        assert abs(sums[int(span[0]), int(span[1]) - 1] - best) < 1e-6


def test_saliency_sums_complete_clips_only() -> None:
    times = [0.0, 1.0, 2.0, 3.0, 4.0]
    assert clip_saliency(times, [0.5, 0.25, 1.0, 1.0, 9.0], duration=5.0) == [0.75, 2.0]
    assert top_clip([0.1, 0.7, 0.7]) == 1


# JSON


SPAN = ScoredSpan(1.0, 2.5, 0.75)
SPAN_JSON = {"start": 1.0, "end": 2.5, "score": 0.75}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (
            Captions((CaptionedSpan(0.0, 3.0, "one"),)),
            {"segments": [{"start": 0.0, "end": 3.0, "caption": "one"}]},
        ),
        (
            Answers("What?", 0.5, (Answer(1.0, 6.5, "A dog."),)),
            {"question": "What?", "asked": 0.5, "answers": [{"start": 1.0, "end": 6.5, "text": "A dog."}]},
        ),
        (
            GroundingResult("x", (SPAN,), SPAN, (True, False)),
            {"query": "x", "spans": [SPAN_JSON], "best": SPAN_JSON, "mask": [True, False]},
        ),
        (GroundingResult("x", (), None, ()), {"query": "x", "spans": [], "best": None, "mask": []}),
        (
            OnlineGroundingResult("x", (OnlineSpan(1.0, 2.0, 1.5, 3.0),)),
            {"query": "x", "spans": [{"start": 1.0, "end": 2.0, "start_told": 1.5, "end_told": 3.0}]},
        ),
        (
            Highlights(None, (SPAN,), (0.5, 1.5)),
            {"query": None, "top": [SPAN_JSON], "clips": [0.5, 1.5], "clip_seconds": 2.0},
        ),
    ],
)
def test_results_as_json_have_stable_names_in_order(result: TaskResult, expected: dict[str, object]) -> None:
    assert result.to_dict() == expected
    assert list(result.to_dict()) == list(expected)
