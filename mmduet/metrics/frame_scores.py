"""Smooth and normalize the relevance scores of frames, and sum them over clips, for many videos at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmduet.spans import FrameScores

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SMOOTHINGS = range(15)  # half widths of the moving mean that MMDuet tries
MAX_BATCH_FRAMES = 1 << 16  # including padding: bounds memory, does not change results
TIME_TOLERANCE_SECONDS = 1e-6  # for rounding in containers and floats


@dataclass(frozen=True)
class FrameBatch:
    """Videos padded to one length: ``times`` and ``relevance`` [Q, F], of which the first ``lengths`` [Q] are frames."""

    times: FloatArray
    relevance: FloatArray
    lengths: IntArray

    @classmethod
    def from_videos(cls, videos: Sequence[FrameScores]) -> FrameBatch:
        """Pad with zeros, which no function here uses."""
        lengths = np.array([len(video.times) for video in videos], dtype=np.int64)
        times, relevance = np.zeros((2, len(videos), lengths.max(initial=0)))
        for q, video in enumerate(videos):
            times[q, : lengths[q]] = video.times
            relevance[q, : lengths[q]] = video.relevance
        return cls(times, relevance, lengths)

    @property
    def mask(self) -> BoolArray:
        """True for frames, False for padding [Q, F]."""
        mask: BoolArray = np.arange(self.times.shape[1]) < self.lengths[:, None]
        return mask


def make_batches(
    videos: Sequence[FrameScores], max_frames: int = MAX_BATCH_FRAMES
) -> Iterator[tuple[IntArray, FrameBatch]]:
    """Yield (indices into ``videos``, batch). Videos of similar length are batched together, to limit padding."""
    order = sorted(range(len(videos)), key=lambda q: len(videos[q].times))
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * len(videos[order[stop]].times) <= max_frames:
            stop += 1
        chosen = order[start:stop]
        yield np.array(chosen, dtype=np.int64), FrameBatch.from_videos([videos[q] for q in chosen])
        start = stop


def moving_mean(scores: FloatArray, lengths: IntArray, before: int, after: int) -> FloatArray:
    """Return the means over frames [i - before, i + after], clipped to the video; both [Q, F], padded with 0.

    The result equals ``numpy.mean`` of each slice to the last bit, as in MMDuet's evaluator: scores are later compared for
    equality (ties in a ranking, thresholds reached exactly), where a running sum would differ. Therefore windows of one size
    are gathered as rows of a matrix, which NumPy sums in the same order as a slice.
    """
    frame = np.arange(scores.shape[1])
    start = np.maximum(frame - before, 0)
    size = np.minimum(frame + after + 1, lengths[:, None]) - start  # [Q, F]
    size[frame >= lengths[:, None]] = 0  # padding
    smooth = np.zeros_like(scores)
    for width in range(1, min(before + after + 1, scores.shape[1]) + 1):
        video, place = np.nonzero(size == width)
        windows = scores[video[:, None], start[place][:, None] + np.arange(width)]  # [windows, width]
        smooth[video, place] = windows.mean(axis=1)
    return smooth


def min_max_normalize(scores: FloatArray, lengths: IntArray, tolerance: float = 0.0) -> FloatArray:
    """Normalize each video's scores [Q, F] to [0, 1] by minimum and maximum; NaN for constant scores and padding.

    Scores count as constant if their range is at most ``tolerance`` times the largest magnitude: means of equal numbers
    differ in the last bit, which normalization would expand to the whole range. The original uses 0.
    """
    mask = np.arange(scores.shape[1]) < lengths[:, None]
    low = np.where(mask, scores, np.inf).min(axis=1, initial=np.inf)[:, None]
    high = np.where(mask, scores, -np.inf).max(axis=1, initial=-np.inf)[:, None]
    return _normalize(np.where(mask, scores, np.nan), low, high, tolerance)


def causal_min_max_normalize(scores: FloatArray, lengths: IntArray, tolerance: float = 0.0) -> FloatArray:
    """Normalize each score [Q, F] by minimum and maximum up to its frame; NaN while scores are constant.

    Every frame that sets a new maximum becomes 1, including the first change of score.
    """
    mask = np.arange(scores.shape[1]) < lengths[:, None]
    low = np.minimum.accumulate(scores, axis=1)
    high = np.maximum.accumulate(scores, axis=1)
    return _normalize(np.where(mask, scores, np.nan), low, high, tolerance)


def _normalize(scores: FloatArray, low: FloatArray, high: FloatArray, tolerance: float) -> FloatArray:
    with np.errstate(invalid="ignore"):  # padding is NaN, and the bounds of an empty video are infinite
        constant = high - low <= tolerance * np.maximum(np.abs(low), np.abs(high))
        result: FloatArray = (scores - low) / np.where(constant, np.nan, high - low)
    return result


def clip_index_by_time(times: FloatArray, clip: float) -> IntArray:
    """Return the index of the clip of ``clip`` seconds in which each frame lies, [Q, F]."""
    indices: IntArray = np.floor((times + TIME_TOLERANCE_SECONDS) / clip).astype(np.int64)
    return indices


def clip_index_by_count(times: FloatArray, clip: float) -> IntArray:
    """Return the clip index of each frame as MMDuet's evaluator does: runs of int(clip / (t[1] - t[0])) frames; [Q, F], F >= 2.

    At 1.001 s per frame (1 fps of a 29.97 fps video) this gives one frame per clip of 2 s, which is not intended. Intervals
    are positive and at most ``clip``.
    """
    shortest = clip / times.shape[1]  # below this all frames are one clip, and the quotient could overflow
    per_clip = (clip / np.maximum(times[:, 1] - times[:, 0], shortest)).astype(np.int64)
    indices: IntArray = np.arange(times.shape[1]) // per_clip[:, None]
    return indices


def clip_sums(scores: FloatArray, clip_index: IntArray, mask: BoolArray) -> FloatArray:
    """Return the sum of the scores of each clip's frames, added in order [Q, clips]; 0 for a clip without frames."""
    clips = int(clip_index[mask].max(initial=-1)) + 1
    cell = clip_index + clips * np.arange(len(clip_index))[:, None]
    sums = np.bincount(cell[mask], weights=scores[mask], minlength=clips * len(clip_index))
    return sums.reshape(len(clip_index), clips).astype(np.float64)
