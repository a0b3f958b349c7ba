"""PAUC: the area under the curve of a gold answer, and the replies that count."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.metrics.pauc import OMEGAS, Point, count_repeats, drop_late_losses, pauc, replies_in_window

WINDOW = (10.0, 20.0)
TWO = [Point(12, 1), Point(16, 2)]


@pytest.mark.parametrize(
    ("points", "omega", "expected"),
    [
        # 0.5 for 2 s, 1 for 4 s, 2 for 4 s, of 2 for 10 s
        (TWO, 0.0, (0.5 * 2 + 1 * 4 + 2 * 4) / 20),
        # the points come half as late: .5 for 1 s, 1 for 2 s, 2 for 7 s
        (TWO, 0.5, (0.5 * 1 + 1 * 2 + 2 * 7) / 20),
        (TWO, 1.0, 2 * 10 / 20),
        ([Point(10, 2)], 0.0, 1.0),
        ([Point(20, 2)], 0.0, 0.25),
        ([Point(20, 2)], 0.5, (0.5 * 5 + 2 * 5) / 20),
        ([Point(15, 0)], 0.0, 0.5 * 5 / 20),
        ([], 0.0, 0.25),
        ([], 1.0, 0.25),
    ],
)
def test_areas_by_hand(points: list[Point], omega: float, expected: float) -> None:
    assert pauc(points, WINDOW, omega) == pytest.approx(expected)


def test_the_last_value_counts_in_a_window_without_length() -> None:
    assert pauc([Point(3, 1), Point(3, 2)], (3, 3), 0.0) == 1.0
    assert pauc([], (3, 3), 0.0) == 0.25


points_in_window = st.lists(st.builds(Point, st.floats(10, 20), st.integers(0, 2)), max_size=6)


@given(points_in_window, st.floats(10, 20))
def test_areas_are_shares_and_late_losses_are_dropped_once(points: list[Point], end: float) -> None:
    kept = drop_late_losses(points, end)
    areas = [pauc(kept, WINDOW, omega) for omega in OMEGAS]
    assert all(-1e-9 <= area <= 1 + 1e-9 for area in areas)
    assert areas[2] == pytest.approx((kept[-1].score if kept else 0.5) / 2)
    assert [p.time for p in kept] == sorted(p.time for p in kept)
    assert drop_late_losses(kept, end) == kept


@given(st.floats(10, 20), st.floats(0, 10), st.sampled_from(OMEGAS))
def test_an_earlier_correct_reply_is_never_worse(time: float, later: float, omega: float) -> None:
    late = min(20.0, time + later)
    assert pauc([Point(time, 2)], WINDOW, omega) >= pauc([Point(late, 2)], WINDOW, omega) - 1e-9


def test_losses_after_the_event_are_dropped() -> None:
    points = [Point(12, 0), Point(13, 1), Point(16, 0), Point(17, 1), Point(18, 2)]
    assert drop_late_losses(points, 15) == [points[0], points[1], points[3], points[4]]
    assert drop_late_losses(points, 20) == points  # losses within the event stay
    assert drop_late_losses(points[2:], 15) == points[2:]  # there was no score before
    assert (
        pauc(drop_late_losses([Point(12, 2), Point(12, 1)], 15), WINDOW, 1.0) == 0.5
    )  # at one time the last point counts


def test_replies_in_the_window_count_once_per_text() -> None:
    texts = ["a", "b", "b", "a", "c", "d"]
    assert replies_in_window([9.9, 10.0, 11.0, 15.0, 20.0, 20.1], texts, WINDOW) == [1, 3, 4]
    assert replies_in_window([math.nan, -1.0], ["a", "b"], WINDOW) == []
    assert count_repeats(texts) == 2
    assert count_repeats([]) == 0


def test_a_late_loss_at_the_time_of_a_gain_is_dropped() -> None:
    points = [Point(4, 1), Point(7, 2), Point(7, 0)]
    kept = drop_late_losses(points, 5)
    assert kept == points[:2]
    assert pauc(kept, (0, 10), 0.0) == pytest.approx((4 * 0.5 + 3 * 1 + 3 * 2) / 20)
    assert pauc(kept, (0, 10), 1.0) == 1
    inside = [Point(4, 2), Point(4, 1)]  # at one time within the event, the last point counts
    assert pauc(drop_late_losses(inside, 5), (0, 10), 0.0) == pytest.approx((4 * 0.5 + 6 * 1) / 20)
