"""From replies to segments, against values computed by hand."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mmduet.tasks.dense_captioning import Segment, paper_segments_of, segments_of

REPLIES = [(8.0, "cut"), (13.5, "cook"), (21.0, "cook"), (23.5, "serve")]


def test_a_reply_tells_what_happened_since_the_one_before() -> None:
    assert segments_of(REPLIES, begin=2.0) == [
        Segment(2.0, 8.0, "cut"),
        Segment(8.0, 21.0, "cook"),
        Segment(21.0, 23.5, "serve"),
    ]


def test_the_reference_drops_the_first_text() -> None:
    assert paper_segments_of(REPLIES) == [Segment(8.0, 21.0, "cook"), Segment(21.0, 23.5, "serve")]
    assert paper_segments_of(REPLIES[1:3]) == []
    assert paper_segments_of([]) == []


def test_replies_are_put_in_order_and_none_starts_after_its_end() -> None:
    assert segments_of(REPLIES[::-1]) == segments_of(REPLIES)
    assert segments_of([(1.0, "cut")], begin=3.0) == [Segment(1.0, 1.0, "cut")]
    assert segments_of([]) == []


def test_a_text_that_comes_back_later_is_a_segment_of_its_own() -> None:
    assert [s.caption for s in segments_of([(1, "a"), (2, "b"), (3, "a")])] == ["a", "b", "a"]


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from("ab")), max_size=10))
def test_segments_cover_the_time_from_the_beginning_to_the_last_reply(replies: list[tuple[float, str]]) -> None:
    segments = segments_of(replies)
    bounds = [0.0, *(segment.end for segment in segments)]
    assert [segment.start for segment in segments] == bounds[:-1]
    assert bounds == sorted(bounds)
    assert bounds[-1] == max((time for time, _ in replies), default=0.0)
    assert all(a.caption != b.caption for a, b in pairwise(segments))
