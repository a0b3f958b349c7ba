"""From replies to segments, against values computed by hand."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mmduet.spans import CaptionedSpan as Caption
from mmduet.tasks.segments import paper_segments_from_replies, segments_from_replies

REPLIES = [(8.0, "cut"), (13.5, "cook"), (21.0, "cook"), (23.5, "serve")]


def test_a_reply_tells_what_happened_since_the_one_before() -> None:
    assert segments_from_replies(REPLIES, begin=2.0) == [
        Caption(2.0, 8.0, "cut"),
        Caption(8.0, 21.0, "cook"),
        Caption(21.0, 23.5, "serve"),
    ]


def test_the_reference_drops_the_first_text() -> None:
    assert paper_segments_from_replies(REPLIES) == [
        Caption(8.0, 21.0, "cook"),
        Caption(21.0, 23.5, "serve"),
    ]
    assert paper_segments_from_replies(REPLIES[1:3]) == []
    assert paper_segments_from_replies([]) == []


def test_replies_are_put_in_order_and_none_starts_after_its_end() -> None:
    assert segments_from_replies(REPLIES[::-1]) == segments_from_replies(REPLIES)
    assert segments_from_replies([(1.0, "cut")], begin=3.0) == [Caption(1.0, 1.0, "cut")]
    assert segments_from_replies([]) == []


def test_a_text_that_comes_back_later_is_a_segment_of_its_own() -> None:
    assert [s.caption for s in segments_from_replies([(1, "a"), (2, "b"), (3, "a")])] == ["a", "b", "a"]


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from("ab")), max_size=10))
def test_segments_cover_the_time_from_the_beginning_to_the_last_reply(replies: list[tuple[float, str]]) -> None:
    segments = segments_from_replies(replies)
    bounds = [0.0, *(segment.end for segment in segments)]
    assert [segment.start for segment in segments] == bounds[:-1]
    assert bounds == sorted(bounds)
    assert bounds[-1] == max((time for time, _ in replies), default=0.0)
    assert all(a.caption != b.caption for a, b in pairwise(segments))


def scored(*sure: float, last: float = 10.0, step: float = 0.5) -> list[tuple[float, float]]:
    """Every half second a frame; the head is sure at some."""
    return [(i * step, 0.9 if i * step in sure else 0.01) for i in range(round(last / step) + 1)]


def test_scores_tell_where_an_event_began_and_ended() -> None:
    replies = [(4.0, "cut"), (8.0, "cook")]
    sure = scored(3.5, 4.0, 4.5, 8.0)
    assert segments_from_replies(replies, informative=sure) == [
        Caption(2.0, 5.0, "cut"),
        Caption(7.5, 8.5, "cook"),
    ]
    # not before the segment before it, not beyond the next reply
    assert segments_from_replies([(4.0, "cut"), (4.5, "cook")], informative=sure) == [
        Caption(2.5, 4.5, "cut"),
        Caption(4.5, 5.0, "cook"),
    ]


def test_where_the_head_is_not_sure_replies_tell() -> None:
    replies = [(4.0, "cut"), (8.0, "cook")]
    assert segments_from_replies(replies, informative=scored(8.0)) == [
        Caption(0.0, 4.0, "cut"),
        Caption(7.5, 8.5, "cook"),
    ]
    assert segments_from_replies(replies, 1.0, informative=[]) == [
        Caption(1.0, 4.0, "cut"),
        Caption(4.0, 8.0, "cook"),
    ]
    assert segments_from_replies([(4.0, "cut")], informative=[(4.0, 0.9)]) == [Caption(4.0, 4.0, "cut")]


def test_saying_the_same_again_prolongs_it() -> None:
    assert segments_from_replies([(4.0, "cut"), (5.5, "cut")], informative=scored(4.0, 5.5, 6.0)) == [
        Caption(1.5, 6.5, "cut")
    ]


@given(
    st.lists(st.tuples(st.floats(0, 9), st.sampled_from("abc"))),
    st.sets(st.sampled_from([i / 2 for i in range(20)])),
)
def test_segments_are_in_order_and_never_run_backwards(replies: list[tuple[float, str]], sure: set[float]) -> None:
    segments = segments_from_replies(replies, informative=scored(*sure))
    for segment, following in pairwise(segments):
        assert segment.start <= segment.end <= following.start <= following.end
