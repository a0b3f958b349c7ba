"""Replies are matched with the spans in which they are due, and their timing is measured."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.metrics.reply_matching import TOLERANCE_SECONDS, TimedText, compare_replies, match_spans
from mmduet.metrics.reply_timing import DueReply, TimingCounts, compare_timing
from mmduet.spans import Span

TIMES = st.lists(st.integers(0, 12).map(lambda n: n / 2), max_size=5)
SPANS = st.lists(
    st.tuples(st.integers(0, 10), st.integers(0, 4)).map(lambda s: Span(s[0] / 2, (s[0] + s[1]) / 2)), max_size=4
)


def test_a_reply_counts_once_and_a_span_takes_one_reply() -> None:
    due = [DueReply(Span(1.0, 3.0), 3.0, "a"), DueReply(Span(2.0, 6.0), 5.0, "b")]
    replies = [TimedText(2.5, "a"), TimedText(3.0, "a"), TimedText(3.5, "a"), TimedText(8.0, "c")]
    found = compare_timing(due, replies, seconds=30.0)
    figures = found.to_dict()
    assert (found.counts.events, found.counts.replies, found.counts.matched, found.counts.exact) == (2, 4, 2, 1)
    assert figures["speak_f1"] == pytest.approx(4 / 6)
    assert figures["speak_precision"] == pytest.approx(2 / 4)
    assert figures["repeat_rate"] == pytest.approx(1 / 4)  # "a" at 3.5; "c" repeats nothing
    assert figures["timing_error_seconds"] == pytest.approx((0.5 + 2.0) / 2)
    assert figures["replies_per_minute"] == pytest.approx(8.0)


def test_figures_that_are_not_defined_are_left_out() -> None:
    assert TimingCounts().to_dict() == {
        "speak_f1": 1.0,
        "speak_precision": 0.0,
        "speak_recall": 0.0,
        "repeat_rate": 0.0,
    }


def test_counts_of_streams_are_pooled() -> None:
    due = [DueReply(Span(1.0, 2.0), 1.0)]
    matched, silent = compare_timing(due, [TimedText(1.5, "")], 10.0), compare_timing(due, [], 20.0)
    pooled = (matched + silent).to_dict()
    assert pooled["speak_recall"] == 0.5
    assert pooled["timing_error_seconds"] == 0.5
    assert pooled["replies_per_minute"] == 2.0


@given(SPANS, TIMES)
def test_the_matching_is_maximum(spans: list[Span], times: list[float]) -> None:
    pairs = match_spans(spans, times)
    assert all(spans[s].start <= times[r] <= spans[s].end for s, r in pairs)
    assert len({s for s, _ in pairs}) == len({r for _, r in pairs}) == len(pairs)
    larger = len(pairs) + 1
    assert not any(
        all(spans[s].start <= times[r] <= spans[s].end for s, r in zip(chosen, order, strict=True))
        for chosen in combinations(range(len(spans)), larger)
        for order in permutations(range(len(times)), larger)
    )


@given(TIMES, TIMES)
def test_events_of_scenes_are_matched_as_by_their_own_measure(ends: list[float], times: list[float]) -> None:
    events = [TimedText(end, "x") for end in ends]
    replies = [TimedText(time, "x") for time in times]
    due = [DueReply(Span(end, end + TOLERANCE_SECONDS), end, "x") for end in ends]
    assert compare_timing(due, replies, 1.0).counts == compare_replies(events, replies)
