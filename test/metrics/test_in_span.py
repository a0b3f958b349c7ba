"""The in-span score of MAGQA."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from mmduet.metrics import in_span


def test_question_scores_by_hand() -> None:
    assert list(in_span.pairs_in_span([0.0, 4.0, 5.0, 8.0], [(0, 4), (6, 10)])) == [(0, 0), (0, 1), (1, 3)]
    assert in_span.question_score(2, {(0, 0): 5, (0, 1): 5, (1, 3): 2}) == 3.5
    assert in_span.question_score(2, {(0, 0): 5, (0, 1): 3}) == 2.5
    assert in_span.question_score(1, {}) == 1.0
    assert math.isnan(in_span.question_score(0, {}))


def test_a_turn_without_a_time_is_in_every_span_or_in_none() -> None:
    assert list(in_span.pairs_in_span([-1.0, 1.0], [(0, 2), (5, 6)])) == [(0, 0), (0, 1), (1, 0)]
    assert list(in_span.pairs_in_span([-1.0, 1.0], [(0, 2), (-3, 6)], match_untimed=False)) == [(0, 1), (1, 1)]
    assert not in_span.is_in_span(math.nan, (0, 2))


@given(st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 5)), st.integers(1, 5)))
def test_scores_lie_within_the_scale_and_better_grades_never_lower_them(scores: dict[tuple[int, int], float]) -> None:
    score = in_span.question_score(4, scores)
    assert 1 <= score <= 5
    best = {**scores, **{(answer, 9): 5.0 for answer in range(4)}}
    assert in_span.question_score(4, best) >= score
