"""Smoothing, normalisation and clip sums of frame scores: batches give exactly the results of one video at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_by_one import normalised as normalised_one_by_one
from one_by_one import normalised_so_far as normalised_so_far_one_by_one
from one_by_one import smoothed

from mmduet.metrics.frame_scores import (
    FrameBatch,
    FrameScores,
    causal_min_max_normalize,
    clip_index_by_count,
    clip_index_by_time,
    clip_sums,
    make_batches,
    min_max_normalize,
    moving_mean,
)


def batch_of(*scores: list[float], interval: float = 1.0) -> FrameBatch:
    return FrameBatch.from_videos([FrameScores([interval * i for i in range(len(row))], row) for row in scores])


def rows(matrix: np.ndarray, batch: FrameBatch) -> list[list[float]]:
    return [row[:length].tolist() for row, length in zip(matrix, batch.lengths, strict=True)]


def test_windows_are_clipped_to_the_video() -> None:
    batch = batch_of([1.0, 2.0, 6.0, 3.0], [5.0])
    # (1+2)/2, (1+2+6)/3, (2+6+3)/3, (6+3)/2
    assert rows(moving_mean(batch.relevance, batch.lengths, 1, 1), batch) == [[1.5, 3.0, 11 / 3, 4.5], [5.0]]
    # no look-ahead: 1, (1+2)/2, (2+6)/2, (6+3)/2
    assert rows(moving_mean(batch.relevance, batch.lengths, 1, 0), batch) == [[1.0, 1.5, 4.0, 4.5], [5.0]]
    assert rows(moving_mean(batch.relevance, batch.lengths, 9, 9), batch) == [[3.0] * 4, [5.0]]
    assert rows(moving_mean(batch.relevance, batch.lengths, 10**9, 3), batch) == [[3.0] * 4, [5.0]]


def test_causal_mean_does_not_depend_on_later_frames() -> None:
    before, after = batch_of([0.1, 0.5, 0.2, 0.9]), batch_of([0.1, 0.5, 0.7, 0.0])
    for batch in (before, after):
        assert rows(moving_mean(batch.relevance, batch.lengths, 3, 0), batch)[0][:2] == [0.1, 0.3]
        assert rows(causal_min_max_normalize(batch.relevance, batch.lengths), batch)[0][1] == 1.0


def test_normalisation_by_hand() -> None:
    batch = batch_of([2.0, 4.0, 3.0, 0.0], [0.5, 0.5])
    whole = min_max_normalize(batch.relevance, batch.lengths)
    assert whole[0].tolist() == [0.5, 1.0, 0.75, 0.0]
    assert np.isnan(whole[1]).all()  # constant, then padding
    # so far: (2), then range 2..4 twice, then 0..4
    so_far = causal_min_max_normalize(batch.relevance, batch.lengths)
    assert np.isnan(so_far[0, 0])
    assert so_far[0, 1:].tolist() == [1.0, 0.5, 0.0]
    assert np.isnan(so_far[1]).all()


def test_scores_that_differ_only_by_rounding_are_constant() -> None:
    batch = batch_of([0.1] * 9)
    means = moving_mean(batch.relevance, batch.lengths, 1, 1)
    assert np.ptp(means) > 0  # (0.1 + 0.1 + 0.1) / 3 is not 0.1
    assert np.isnan(min_max_normalize(means, batch.lengths, 1e-12)).all()
    assert not np.isnan(min_max_normalize(means, batch.lengths)).any()  # as the original has it
    tiny = batch_of([1e-20, 3e-20])
    assert min_max_normalize(tiny.relevance, tiny.lengths, 1e-12).tolist() == [[0.0, 1.0]]


def test_clip_sums_by_hand() -> None:
    batch = batch_of([1.0, 2.0, 4.0, 8.0, 16.0], [1.0, 1.0, 1.0])
    places = clip_index_by_time(batch.times, 2.0)
    assert places.tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 0, 0]]  # the last two are padding
    assert clip_sums(batch.relevance, places, batch.mask).tolist() == [[3.0, 12.0, 16.0], [2.0, 1.0, 0.0]]
    assert clip_index_by_count(batch.times, 2.0)[0].tolist() == [0, 0, 1, 1, 2]


def test_a_clip_of_a_29_97_fps_video_has_two_frames() -> None:
    batch = batch_of([1.0] * 6, interval=1.001)
    assert clip_index_by_time(batch.times, 2.0).tolist() == [[0, 0, 1, 1, 2, 2]]
    assert clip_index_by_count(batch.times, 2.0).tolist() == [[0, 1, 2, 3, 4, 5]]  # the original: int(2 / 1.001) = 1
    assert clip_index_by_time(np.array([[2 - 1e-9]]), 2.0).tolist() == [[1]]  # a float clock's 2.0


def test_no_videos_and_very_short_intervals() -> None:
    assert list(make_batches([])) == []
    assert clip_index_by_count(np.array([[0.0, 5e-324, 1.0]]), 2.0).tolist() == [[0, 0, 0]]


decimals = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)
score_lists = st.lists(st.lists(decimals | st.floats(0, 1), min_size=1, max_size=40), min_size=1, max_size=5)


@given(score_lists, st.integers(0, 14), st.integers(0, 14))
def test_results_are_identical_to_those_of_one_slice_at_a_time(
    scores: list[list[float]], before: int, after: int
) -> None:
    batch = batch_of(*scores)
    means = moving_mean(batch.relevance, batch.lengths, before, after)
    slow = [smoothed(row, before, after) for row in scores]
    assert rows(means, batch) == slow
    for fast, one in (
        (min_max_normalize, normalised_one_by_one),
        (causal_min_max_normalize, normalised_so_far_one_by_one),
    ):
        for row, expected in zip(rows(fast(means, batch.lengths), batch), slow, strict=True):
            np.testing.assert_array_equal(row, one(expected))


@given(score_lists, st.integers(1, 200))
def test_every_video_is_in_one_batch(scores: list[list[float]], max_frames: int) -> None:
    videos = [FrameScores([float(i) for i in range(len(row))], row) for row in scores]
    relevance = {}
    for index, batch in make_batches(videos, max_frames):
        assert batch.times.size <= max_frames or len(index) == 1
        relevance.update(dict(zip(index.tolist(), rows(batch.relevance, batch), strict=True)))
    assert [relevance[q] for q in range(len(videos))] == scores


def test_clip_sums_add_frames_in_order() -> None:
    scores = [0.1, 0.2, 0.3, 0.4, 0.5]
    batch = batch_of(scores, interval=0.5)
    summed = clip_sums(batch.relevance, clip_index_by_count(batch.times, 2.0), batch.mask)
    assert summed.tolist() == [[sum(scores[:4]), 0.5]]
    assert sum(scores[:4]) == pytest.approx(1.0)
