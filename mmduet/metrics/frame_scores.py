"""Relevance scores of frames, many videos at once: smoothing, normalisation, sums over clips; pure functions, no files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SMOOTHINGS = range(15)  # half widths w that MMDuet tries
MOST_FRAMES = 1 << 16  # frames of a batch, padding included: bounds the memory, and changes no result
TIME_TOLERANCE = 1e-6  # seconds that float clocks and container rounding can cost


@dataclass(frozen=True)
class FrameScores:
    """One video: ``times`` [F] in seconds, ascending, and ``relevance`` [F], the probability that a frame is relevant."""

    times: Sequence[float]
    relevance: Sequence[float]


@dataclass(frozen=True)
class FrameBatch:
    """Some videos padded to one length: ``times`` and ``relevance`` [Q, F], of which the first ``lengths`` [Q] are real."""

    times: FloatArray
    relevance: FloatArray
    lengths: IntArray

    @classmethod
    def of(cls, videos: Sequence[FrameScores]) -> FrameBatch:
        """Pad with zeros, which no function here looks at."""
        lengths = np.array([len(video.times) for video in videos], dtype=np.int64)
        times, relevance = np.zeros((2, len(videos), lengths.max(initial=0)))
        for q, video in enumerate(videos):
            times[q, : lengths[q]] = video.times
            relevance[q, : lengths[q]] = video.relevance
        return cls(times, relevance, lengths)

    @property
    def real(self) -> BoolArray:
        """[Q, F]: False where there is only padding."""
        mask: BoolArray = np.arange(self.times.shape[1]) < self.lengths[:, None]
        return mask


def batches(videos: Sequence[FrameScores], most_frames: int = MOST_FRAMES) -> Iterator[tuple[IntArray, FrameBatch]]:
    """The videos in batches of bounded size, with the place of each in ``videos``; like lengths together: little padding."""
    order = sorted(range(len(videos)), key=lambda q: len(videos[q].times))
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * len(videos[order[stop]].times) <= most_frames:
            stop += 1
        chosen = order[start:stop]
        yield np.array(chosen, dtype=np.int64), FrameBatch.of([videos[q] for q in chosen])
        start = stop


def moving_mean(scores: FloatArray, lengths: IntArray, before: int, after: int) -> FloatArray:
    """Mean over frames [i - before, i + after] clipped to the video; [Q, F] of which ``lengths`` [Q] are real, 0 elsewhere.

    Equal to the last bit to ``numpy.mean`` of each slice, as MMDuet's evaluator computes it: scores are compared for
    equality later (ties in a ranking, thresholds reached exactly), where a running sum would decide otherwise. So windows of
    one size are gathered as rows of a matrix, over which numpy adds in the same order as over a slice.
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


def normalised(scores: FloatArray, lengths: IntArray, tolerance: float = 0.0) -> FloatArray:
    """Min-max normalisation of each video to [0, 1]; NaN for a video of constant scores, and for padding. [Q, F].

    Scores are constant where they range over no more than ``tolerance`` times the greatest magnitude: means of equal numbers
    differ in their last bit, which a normalisation would blow up to the whole range. 0 is the original's comparison.
    """
    real = np.arange(scores.shape[1]) < lengths[:, None]
    low = np.where(real, scores, np.inf).min(axis=1, initial=np.inf)[:, None]
    high = np.where(real, scores, -np.inf).max(axis=1, initial=-np.inf)[:, None]
    return _between(np.where(real, scores, np.nan), low, high, tolerance)


def normalised_so_far(scores: FloatArray, lengths: IntArray, tolerance: float = 0.0) -> FloatArray:
    """Min-max normalisation by what has been seen up to each frame: causal; NaN as long as scores are constant. [Q, F].

    Every frame that sets a new maximum becomes 1, the first change of score included.
    """
    real = np.arange(scores.shape[1]) < lengths[:, None]
    low = np.minimum.accumulate(scores, axis=1)
    high = np.maximum.accumulate(scores, axis=1)
    return _between(np.where(real, scores, np.nan), low, high, tolerance)


def _between(scores: FloatArray, low: FloatArray, high: FloatArray, tolerance: float) -> FloatArray:
    with np.errstate(invalid="ignore"):  # padding is NaN, an empty video has infinite bounds
        constant = high - low <= tolerance * np.maximum(np.abs(low), np.abs(high))
        result: FloatArray = (scores - low) / np.where(constant, np.nan, high - low)
    return result


def clips_by_time(times: FloatArray, clip: float) -> IntArray:
    """The clip of ``clip`` seconds in which each frame lies, [Q, F]."""
    places: IntArray = np.floor((times + TIME_TOLERANCE) / clip).astype(np.int64)
    return places


def clips_by_count(times: FloatArray, clip: float) -> IntArray:
    """As MMDuet's evaluator forms clips: runs of int(clip / (t[1] - t[0])) frames, wherever they lie; [Q, F], F >= 2.

    At 1.001 s a frame (1 fps of a 29.97 fps video) that is one frame a clip of 2 s, hence not what is meant. Intervals are
    positive and at most ``clip``.
    """
    shortest = clip / times.shape[1]  # below which all frames are one clip, and the quotient may overflow
    per_clip = (clip / np.maximum(times[:, 1] - times[:, 0], shortest)).astype(np.int64)
    places: IntArray = np.arange(times.shape[1]) // per_clip[:, None]
    return places


def clip_sums(scores: FloatArray, places: IntArray, real: BoolArray) -> FloatArray:
    """The sum of the scores of each clip's real frames, added up in order; [Q, clips], 0 for a clip without frames."""
    clips = int(places[real].max(initial=-1)) + 1
    cell = places + clips * np.arange(len(places))[:, None]
    sums = np.bincount(cell[real], weights=scores[real], minlength=clips * len(places))
    return sums.reshape(len(places), clips).astype(np.float64)
