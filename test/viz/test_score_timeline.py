"""Data rules of score timelines."""

from __future__ import annotations

from mmduet.viz.score_timeline import downsample

MAX_POINTS = 2000


def test_downsampled_curves_keep_their_peaks() -> None:
    times, values = [float(k) for k in range(50_001)], [0.0] * 50_001
    values[31_337] = 1.0
    kept_times, kept = downsample(times, values, MAX_POINTS)
    assert len(kept_times) == len(kept) <= MAX_POINTS
    assert kept_times[kept.index(1.0)] == 31_337


def test_short_curves_are_not_changed() -> None:
    assert downsample([0.0, 1.0], [0.3, 0.2], 2) == ([0.0, 1.0], [0.3, 0.2])
