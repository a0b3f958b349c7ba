"""Matching of replies with events, and overlap of spans."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.metrics.reply_matching import MatchCounts, TimedText, compare_replies, match_replies
from mmduet.metrics.span_overlap import iou, recall_at_1


def test_matching_is_one_to_one_and_not_before_the_end_of_an_event() -> None:
    events = [TimedText(2.0, "a"), TimedText(5.0, "b"), TimedText(9.0, "c")]
    replies = [
        TimedText(1.99, "a"),
        TimedText(2.0, "a"),
        TimedText(2.5, "a"),
        TimedText(6.0, "x"),
        TimedText(10.01, "c"),
    ]
    assert match_replies(events, replies) == [(0, 1), (1, 3)]
    counts = compare_replies(events, replies)
    # "a" at 2.5 repeats the replies at 2.0 and 1.99; "a" at 1.99 is the first
    assert counts == MatchCounts(events=3, replies=5, matched=2, exact=1, repeats=1)
    assert counts.precision == pytest.approx(2 / 5)
    assert counts.recall == pytest.approx(2 / 3)
    assert counts.f1 == pytest.approx(4 / 8)
    assert counts.exact_share == pytest.approx(1 / 2)
    assert counts.repeat_rate == pytest.approx(1 / 5)


def test_f1_without_events_or_replies() -> None:
    assert compare_replies([], []).f1 == 1.0
    assert compare_replies([TimedText(1.0, "a")], []).f1 == 0.0
    assert compare_replies([], [TimedText(1.0, "a")]).f1 == 0.0


def test_counts_can_be_added() -> None:
    assert MatchCounts(1, 2, 1, 1, 0) + MatchCounts(3, 1, 1, 0, 1) == MatchCounts(4, 3, 2, 1, 1)


times = st.lists(st.floats(0, 30), max_size=8)


@given(times, times)
def test_matching_finds_the_maximum_number_of_pairs(ends: list[float], replies: list[float]) -> None:
    """The number is that of exhaustive augmenting paths."""
    pairs = match_replies([TimedText(t, "") for t in ends], [TimedText(t, "") for t in replies])
    assert len({e for e, _ in pairs}) == len({r for _, r in pairs}) == len(pairs)
    assert all(-1e-6 <= replies[r] - ends[e] <= 1 + 1e-6 for e, r in pairs)
    owner: dict[int, int] = {}

    def augment(event: int, visited: set[int]) -> bool:
        for reply, time in enumerate(replies):
            if reply not in visited and -1e-6 <= time - ends[event] <= 1 + 1e-6:
                visited.add(reply)
                if reply not in owner or augment(owner[reply], visited):
                    owner[reply] = event
                    return True
        return False

    assert len(pairs) == sum(augment(event, set()) for event in range(len(ends)))


def test_iou_and_recall_by_hand() -> None:
    assert iou((0, 4), (2, 6)) == pytest.approx(2 / 6)
    assert iou((0, 1), (2, 3)) == 0.0
    assert iou((1, 1), (1, 1)) == 0.0
    gold = [[(0.0, 4.0)], [(0.0, 1.0), (5.0, 9.0)], [(0.0, 2.0)], [(0.0, 2.0)]]
    assert recall_at_1([(0.0, 4.0), (5.0, 8.0), None, (1.5, 9.0)], gold, 0.5) == pytest.approx(2 / 4)
