"""Sampling as a property of times: nearest at or after each tick, once each, without drift."""

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
    taken = [frame.index for frame in sample_by_pts(frames, fps)]
    last_tick = math.floor((frames[-1].time + TICK_TOLERANCE) * fps) + 1
    wanted = set()
    for tick in range(last_tick + 1):
        at_or_after = [frame.index for frame in frames if frame.time + TICK_TOLERANCE >= tick / fps]
        wanted |= set(at_or_after[:1])
    assert taken == sorted(wanted)


@given(gaps, rates, st.integers(1, 20))
@settings(deadline=None)
def test_the_cap_keeps_the_head(gaps: list[int], fps: float, cap: int) -> None:
    frames = [Stub(k, ms / 1000) for k, ms in enumerate(itertools.accumulate(gaps))]
    assert list(sample_by_pts(frames, fps, cap)) == list(sample_by_pts(frames, fps))[:cap]


@pytest.mark.parametrize(
    ("input_fps", "fps"),
    [(Fraction(30), 2), (Fraction(30000, 1001), 2), (Fraction(25), 0.5), (Fraction(24000, 1001), 1), (Fraction(60), 3)],
)
def test_no_drift_over_a_hundred_thousand_frames(input_fps: Fraction, fps: float) -> None:
    count = 100_000
    exact = Fraction(fps)
    ticks = range(math.floor((count - 1) / input_fps * exact) + 1)
    assert picked(regular(count, input_fps), fps) == [math.ceil(tick / exact * input_fps) for tick in ticks]


def test_a_gap_is_answered_once_and_ticks_go_on_after_it() -> None:
    frames = [Stub(k, time) for k, time in enumerate([0.0, 0.5, 3.7, 3.8, 4.0, 4.2])]
    assert picked(iter(frames), 1) == [0, 2, 4]


def test_a_frame_a_rounding_early_counts_but_a_millisecond_early_does_not() -> None:
    assert picked(iter([Stub(0, 0.0), Stub(1, 1 - 5e-7), Stub(2, 1.001)]), 1) == [0, 1]
    assert picked(iter([Stub(0, 0.0), Stub(1, 0.999), Stub(2, 1.001)]), 1) == [0, 2]


def test_more_ticks_than_frames_takes_every_frame_once() -> None:
    assert picked(regular(50, Fraction(10)), 1000) == list(range(50))


def test_no_rate_takes_every_frame() -> None:
    assert [frame.index for frame in sample_by_pts(regular(7, Fraction(3)), None)] == list(range(7))


def test_nothing_is_read_beyond_the_cap() -> None:
    source = regular(1000, Fraction(10))
    assert picked(source, 1, max_frames=3) == [0, 10, 20]
    assert next(source).index == 21


def test_paper_takes_frame_31_at_one_second_of_30_fps() -> None:
    assert [index for _, index in by_clock(160, 30, 1)] == [0, 31, 60, 91, 121, 151]


def test_paper_is_exact_where_the_sum_is() -> None:
    assert [index for _, index in by_clock(100, 32, 2)] == list(range(0, 100, 16))


def test_paper_clock_of_the_output_is_its_own_sum() -> None:
    clocks = [clock for clock, _ in by_clock(400, 30, 10)]
    total, sums = 0.0, []
    for _ in clocks:
        sums.append(total)
        total += 1 / 10
    assert clocks == sums
    assert clocks[10] != 1.0  # the drift is reproduced, not repaired


def test_paper_caps_the_head() -> None:
    assert by_clock(1000, 30, 2, 5) == by_clock(1000, 30, 2)[:5]


@pytest.mark.parametrize(
    ("duration", "fps", "cap", "up", "down"),
    [(10.0, 2, None, 20, 20), (10.3, 2, None, 21, 20), (10.3, 2, 7, 7, 7), (0.0, 2, None, 0, 0), (0.9, 0.5, 4, 1, 0)],
)
def test_paper_frame_count(duration: float, fps: float, cap: int | None, up: int, down: int) -> None:
    assert paper_frame_count(duration, fps, cap, "ceil") == up
    assert paper_frame_count(duration, fps, cap, "floor") == down


@pytest.mark.parametrize("fps", [0, -1.0, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(fps: float) -> None:
    with pytest.raises(OptionError, match="fps"):
        sample_by_pts([], fps)
    with pytest.raises(OptionError, match="fps"):
        sample_by_clock([], 30, fps)
    with pytest.raises(OptionError, match="fps"):
        paper_frame_count(1.0, fps)


def test_a_cap_below_one_is_refused() -> None:
    with pytest.raises(OptionError, match="max_frames 0"):
        sample_by_pts([], 1, 0)
    with pytest.raises(OptionError, match="duration"):
        paper_frame_count(math.nan, 1)
