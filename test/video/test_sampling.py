"""Sampling: the first frame at or after each tick, each frame at most once, without drift."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmduet.errors import OptionError
from mmduet.video import paper_frame_count, sample_by_clock, sample_by_pts
from mmduet.video.sampling import TICK_TOLERANCE


@dataclass(frozen=True)
class Stub:
    index: int
    time: float


def regular(count: int, fps: Fraction) -> Iterator[Stub]:
    return (Stub(k, float(k / fps)) for k in range(count))


def picked(frames: Iterator[Stub], fps: float, max_frames: int | None = None) -> list[int]:
    return [frame.index for frame in sample_by_pts(frames, fps, max_frames)]


def by_clock(count: int, input_fps: float, fps: float, max_frames: int | None = None) -> list[tuple[float, int]]:
    return list(sample_by_clock(range(count), input_fps, fps, max_frames))


gaps = st.lists(st.integers(0, 5000), min_size=1, max_size=200)
rates = st.sampled_from([0.2, 0.5, 1.0, 2.0, 3.0, 7.5, 29.97, 60.0])


@given(gaps, rates)
@settings(max_examples=200, deadline=None)
def test_each_tick_has_the_first_frame_at_or_after_it(gaps: list[int], fps: float) -> None:
    frames = [Stub(k, ms / 1000) for k, ms in enumerate(itertools.accumulate(gaps))]
    selected = [frame.index for frame in sample_by_pts(frames, fps)]
    last_tick = math.floor((frames[-1].time + TICK_TOLERANCE) * fps) + 1
    expected = set()
    for tick in range(last_tick + 1):
        at_or_after = [frame.index for frame in frames if frame.time + TICK_TOLERANCE >= tick / fps]
        expected |= set(at_or_after[:1])
    assert selected == sorted(expected)


@given(gaps, rates, st.integers(1, 20))
@settings(deadline=None)
def test_the_frame_limit_keeps_the_first_frames(gaps: list[int], fps: float, limit: int) -> None:
    frames = [Stub(k, ms / 1000) for k, ms in enumerate(itertools.accumulate(gaps))]
    assert list(sample_by_pts(frames, fps, limit)) == list(sample_by_pts(frames, fps))[:limit]


@pytest.mark.parametrize(
    ("input_fps", "fps"),
    [(Fraction(30), 2), (Fraction(30000, 1001), 2), (Fraction(25), 0.5), (Fraction(24000, 1001), 1), (Fraction(60), 3)],
)
def test_no_drift_over_a_hundred_thousand_frames(input_fps: Fraction, fps: float) -> None:
    count = 100_000
    exact = Fraction(fps)
    ticks = range(math.floor((count - 1) / input_fps * exact) + 1)
    assert picked(regular(count, input_fps), fps) == [math.ceil(tick / exact * input_fps) for tick in ticks]


def test_one_frame_is_selected_for_all_ticks_of_a_gap() -> None:
    frames = [Stub(k, time) for k, time in enumerate([0.0, 0.5, 3.7, 3.8, 4.0, 4.2])]
    assert picked(iter(frames), 1) == [0, 2, 4]


def test_a_frame_may_precede_its_tick_by_a_rounding_error_only() -> None:
    assert picked(iter([Stub(0, 0.0), Stub(1, 1 - 5e-7), Stub(2, 1.001)]), 1) == [0, 1]
    assert picked(iter([Stub(0, 0.0), Stub(1, 0.999), Stub(2, 1.001)]), 1) == [0, 2]


def test_a_rate_above_that_of_the_source_selects_every_frame_once() -> None:
    assert picked(regular(50, Fraction(10)), 1000) == list(range(50))


def test_without_a_rate_every_frame_is_selected() -> None:
    assert [frame.index for frame in sample_by_pts(regular(7, Fraction(3)), None)] == list(range(7))


def test_no_frame_is_read_beyond_the_limit() -> None:
    source = regular(1000, Fraction(10))
    assert picked(source, 1, max_frames=3) == [0, 10, 20]
    assert next(source).index == 21


def test_the_paper_clock_selects_frame_31_for_one_second_at_30_fps() -> None:
    assert [index for _, index in by_clock(160, 30, 1)] == [0, 31, 60, 91, 121, 151]


def test_the_paper_clock_is_exact_for_exact_float_sums() -> None:
    assert [index for _, index in by_clock(100, 32, 2)] == list(range(0, 100, 16))


def test_the_paper_clock_of_selected_frames_is_a_separate_sum() -> None:
    clocks = [clock for clock, _ in by_clock(400, 30, 10)]
    total, sums = 0.0, []
    for _ in clocks:
        sums.append(total)
        total += 1 / 10
    assert clocks == sums
    assert clocks[10] != 1.0  # the drift is reproduced, not repaired


def test_the_paper_clock_keeps_the_first_frames_up_to_the_limit() -> None:
    assert by_clock(1000, 30, 2, 5) == by_clock(1000, 30, 2)[:5]


@pytest.mark.parametrize(
    ("duration", "fps", "limit", "expected"),
    [(10.0, 2, None, 20), (10.3, 2, None, 21), (10.3, 2, 7, 7), (0.0, 2, None, 0), (0.9, 0.5, 4, 1)],
)
def test_paper_frame_count_rounds_up_and_is_limited(
    duration: float, fps: float, limit: int | None, expected: int
) -> None:
    assert paper_frame_count(duration, fps, limit) == expected


@pytest.mark.parametrize("fps", [0, -1.0, math.nan, math.inf])
def test_rates_that_are_not_positive_and_finite_are_rejected(fps: float) -> None:
    with pytest.raises(OptionError, match="fps"):
        sample_by_pts([], fps)
    with pytest.raises(OptionError, match="fps"):
        sample_by_clock([], 30, fps)
    with pytest.raises(OptionError, match="fps"):
        paper_frame_count(1.0, fps)


def test_a_frame_limit_below_one_and_a_duration_of_nan_are_rejected() -> None:
    with pytest.raises(OptionError, match="max_frames must be at least 1, or None for no limit, got 0"):
        sample_by_pts([], 1, 0)
    with pytest.raises(OptionError, match="duration must be a finite number of seconds, at least 0, got nan"):
        paper_frame_count(math.nan, 1)
