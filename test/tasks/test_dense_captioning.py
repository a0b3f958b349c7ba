"""Captioned segments from replies and scores: values computed by hand, and properties of all replies."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mmduet.spans import CaptionedSpan as Caption
from mmduet.tasks.segments import paper_segments_from_replies, segments_from_replies

REPLIES = [(8.0, "cut"), (13.5, "cook"), (21.0, "cook"), (23.5, "serve")]


def test_segment_reaches_from_the_previous_one_to_its_reply() -> None:
    assert segments_from_replies(REPLIES, begin=2.0) == [
        Caption(2.0, 8.0, "cut"),
        Caption(8.0, 21.0, "cook"),
        Caption(21.0, 23.5, "serve"),
    ]


def test_paper_segments_drop_the_first_text() -> None:
    assert paper_segments_from_replies(REPLIES) == [
        Caption(8.0, 21.0, "cook"),
        Caption(21.0, 23.5, "serve"),
    ]
    assert paper_segments_from_replies(REPLIES[1:3]) == []
    assert paper_segments_from_replies([]) == []


def test_replies_are_sorted_and_no_segment_starts_after_its_end() -> None:
    assert segments_from_replies(REPLIES[::-1]) == segments_from_replies(REPLIES)
    assert segments_from_replies([(1.0, "cut")], begin=3.0) == [Caption(1.0, 1.0, "cut")]
    assert segments_from_replies([]) == []


def test_text_repeated_after_another_is_a_separate_segment() -> None:
    assert [s.caption for s in segments_from_replies([(1, "a"), (2, "b"), (3, "a")])] == ["a", "b", "a"]


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from("ab")), max_size=10))
def test_segments_cover_the_time_up_to_the_last_reply(replies: list[tuple[float, str]]) -> None:
    segments = segments_from_replies(replies)
    bounds = [0.0, *(segment.end for segment in segments)]
    assert [segment.start for segment in segments] == bounds[:-1]
    assert bounds == sorted(bounds)
    assert bounds[-1] == max((time for time, _ in replies), default=0.0)
    assert all(a.caption != b.caption for a, b in pairwise(segments))


def make_scores(*high_times: float, last: float = 10.0, step: float = 0.5) -> list[tuple[float, float]]:
    """Return a timed score for every ``step`` seconds: high at ``high_times``, low elsewhere."""
    return [(i * step, 0.9 if i * step in high_times else 0.01) for i in range(round(last / step) + 1)]


def test_high_scores_around_a_reply_give_the_bounds() -> None:
    replies = [(4.0, "cut"), (8.0, "cook")]
    scores = make_scores(3.5, 4.0, 4.5, 8.0)
    assert segments_from_replies(replies, informative=scores) == [
        Caption(2.0, 5.0, "cut"),
        Caption(7.5, 8.5, "cook"),
    ]
    # bounded by the previous segment and the next reply
    assert segments_from_replies([(4.0, "cut"), (4.5, "cook")], informative=scores) == [
        Caption(2.5, 4.5, "cut"),
        Caption(4.5, 5.0, "cook"),
    ]


def test_bounds_come_from_the_replies_where_scores_are_low() -> None:
    replies = [(4.0, "cut"), (8.0, "cook")]
    assert segments_from_replies(replies, informative=make_scores(8.0)) == [
        Caption(0.0, 4.0, "cut"),
        Caption(7.5, 8.5, "cook"),
    ]
    assert segments_from_replies(replies, 1.0, informative=[]) == [
        Caption(1.0, 4.0, "cut"),
        Caption(4.0, 8.0, "cook"),
    ]
    assert segments_from_replies([(4.0, "cut")], informative=[(4.0, 0.9)]) == [Caption(4.0, 4.0, "cut")]


def test_repeated_reply_extends_the_segment() -> None:
    assert segments_from_replies([(4.0, "cut"), (5.5, "cut")], informative=make_scores(4.0, 5.5, 6.0)) == [
        Caption(1.5, 6.5, "cut")
    ]


@given(
    st.lists(st.tuples(st.floats(0, 9), st.sampled_from("abc"))),
    st.sets(st.sampled_from([i / 2 for i in range(20)])),
)
def test_segments_are_ordered_and_disjoint(replies: list[tuple[float, str]], high_times: set[float]) -> None:
    segments = segments_from_replies(replies, informative=make_scores(*high_times))
    for segment, following in pairwise(segments):
        assert segment.start <= segment.end <= following.start <= following.end
