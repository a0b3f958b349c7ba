"""Score highlight detection of QVHighlights: HIT@1 and mAP from a score per clip, for many queries at once.

Source: Lei et al. 2021 (QVHighlights), section 5.1, as computed by their ``standalone_eval``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

ANNOTATORS = 3
MIN_RATINGS = {"Fair": 2, "Good": 3, "VeryGood": 4}  # of a highlight; papers report VeryGood
METRICS = tuple(f"HL-min-{level}-{kind}" for level in MIN_RATINGS for kind in ("mAP", "Hit1"))


class VideoRatings(Protocol):
    """The annotators' ratings of one video."""

    @property
    def clips(self) -> int:
        """The number of clips."""
        ...

    @property
    def ids(self) -> Sequence[int]:
        """The clips that were rated."""
        ...

    @property
    def ratings(self) -> Sequence[Sequence[float]]:
        """For each clip of ``ids`` one rating (0 to 4) per annotator."""
        ...


@dataclass(frozen=True)
class RatingsBatch:
    """The ratings of many queries [Q, annotators, C], 0 where none exists, and the numbers of ``clips`` [Q]."""

    ratings: FloatArray
    clips: IntArray

    @classmethod
    def from_videos(cls, queries: Sequence[VideoRatings]) -> RatingsBatch:
        """Pad to the longest video."""
        clips = np.array([query.clips for query in queries], dtype=np.int64)
        ratings = np.zeros((len(queries), ANNOTATORS, clips.max(initial=0)))
        for q, query in enumerate(queries):
            if query.ids:
                ratings[q][:, query.ids] = np.transpose(query.ratings)
        return cls(ratings, clips)

    def __getitem__(self, chosen: IntArray) -> RatingsBatch:
        """Select queries by index."""
        return RatingsBatch(self.ratings[chosen], self.clips[chosen])


@dataclass(frozen=True)
class ClipScoresBatch:
    """Finite predicted scores [Q, any width], of which the first ``lengths`` [Q], at least one, are valid."""

    scores: FloatArray
    lengths: IntArray

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[float]]) -> ClipScoresBatch:
        """Pad rows of unequal lengths."""
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        scores = np.zeros((len(rows), lengths.max(initial=1)))
        for q, row in enumerate(rows):
            scores[q, : len(row)] = row
        return cls(scores, lengths)


def highlight_scores(gold: RatingsBatch, predicted: ClipScoresBatch) -> dict[str, FloatArray]:
    """Return each of ``METRICS`` per query [Q], from 0 to 1; a query's AP is the mean over annotators."""
    fitted = fit_to_length(predicted, gold.clips)
    tops = top_clips(predicted)
    columns: dict[str, FloatArray] = {}
    for level, min_rating in MIN_RATINGS.items():
        positive = gold.ratings >= min_rating
        columns[f"HL-min-{level}-mAP"] = average_precision(fitted, positive).mean(axis=1)
        columns[f"HL-min-{level}-Hit1"] = hits_at_1(tops, positive, gold.clips)
    return columns


def fit_to_length(predicted: ClipScoresBatch, clips: IntArray) -> FloatArray:
    """Return scores for exactly the video's clips [Q, max clips]: cut, or padded with 0.0, and -inf past the end.

    The zeros are those of the original and outrank negative scores.
    """
    clip = np.arange(clips.max(initial=0))
    fitted = np.zeros((len(clips), len(clip)))
    width = min(len(clip), predicted.scores.shape[1])
    given = clip[:width] < predicted.lengths[:, None]
    fitted[:, :width] = np.where(given, predicted.scores[:, :width], 0.0)
    return np.where(clip < clips[:, None], fitted, -np.inf)


def top_clips(predicted: ClipScoresBatch) -> IntArray:
    """Return the first clip of maximal score among the valid ones, [Q]."""
    given = np.arange(predicted.scores.shape[1]) < predicted.lengths[:, None]
    tops: IntArray = np.where(given, predicted.scores, -np.inf).argmax(axis=1)
    return tops


def hits_at_1(tops: IntArray, positive: BoolArray, clips: IntArray) -> FloatArray:
    """Return 1.0 where the top clip is ``positive`` [Q, A, C] for any annotator, else 0.0; a clip past the video is a miss."""
    inside = tops < clips
    by_any: BoolArray = np.any(positive, axis=1)
    hit: FloatArray = (inside & by_any[np.arange(len(tops)), np.where(inside, tops, 0)]).astype(np.float64)
    return hit


def average_precision(scores: FloatArray, positive: BoolArray) -> FloatArray:
    """Return the AP of ranking clips by ``scores`` [Q, C], for each annotator's ``positive`` [Q, A, C]; [Q, A], 0 to 1.

    Equal scores are one threshold. Interpolated precision (the highest at this or a higher recall) is averaged, unweighted,
    over the distinct positive levels of recall. The AP is 0 without positives. Clips with a score of -inf that are not
    positive have no effect.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    threshold = np.ones(ranked.shape, dtype=bool)  # [Q, C]: the last clip of a tie
    threshold[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    found = np.take_along_axis(positive, order[:, None], axis=2).cumsum(axis=2)  # [Q, A, C]
    at_threshold = np.where(threshold[:, None], found, 0)
    precision = at_threshold / np.arange(1, scores.shape[1] + 1)
    interpolated = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]
    before = np.maximum.accumulate(at_threshold, axis=2)[..., :-1]  # found at the thresholds up to the clip before
    new_level = at_threshold > np.concatenate([np.zeros_like(found[..., :1]), before], axis=2)
    levels = new_level.sum(axis=2)
    result: FloatArray = (interpolated * new_level).sum(axis=2) / np.maximum(levels, 1)
    return result
