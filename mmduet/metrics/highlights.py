"""Highlight detection of QVHighlights: HIT@1 and mAP from a score for each clip, many queries at once; no files.

Source: Lei et al. 2021 (QVHighlights), section 5.1, as their ``standalone_eval`` computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

CLIP_SECONDS = 2.0
ANNOTATORS = 3
LEVELS = {
    "Fair": 2,
    "Good": 3,
    "VeryGood": 4,
}  # the rating from which on a clip is a highlight; VeryGood is what is reported
METRICS = tuple(f"HL-min-{level}-{kind}" for level in LEVELS for kind in ("mAP", "Hit1"))


@dataclass(frozen=True)
class RatedClips:
    """What the annotators said of one video's ``clips``: a row of three ratings, 0 to 4, for each of the clips ``ids``."""

    clips: int
    ids: Sequence[int]
    ratings: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Ratings:
    """The same for many queries: ``ratings`` [Q, 3, C], 0 where there are none, and the number of ``clips`` [Q]."""

    ratings: FloatArray
    clips: IntArray

    @classmethod
    def of(cls, queries: Sequence[RatedClips]) -> Ratings:
        """Pad to the longest video."""
        clips = np.array([query.clips for query in queries], dtype=np.int64)
        ratings = np.zeros((len(queries), ANNOTATORS, clips.max(initial=0)))
        for q, query in enumerate(queries):
            if query.ids:
                ratings[q][:, query.ids] = np.transpose(query.ratings)
        return cls(ratings, clips)

    def __getitem__(self, chosen: IntArray) -> Ratings:
        """The chosen queries."""
        return Ratings(self.ratings[chosen], self.clips[chosen])


@dataclass(frozen=True)
class ClipScores:
    """Predicted scores [Q, any width], of which the first ``lengths`` [Q], at least one, are real; finite."""

    scores: FloatArray
    lengths: IntArray

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]]) -> ClipScores:
        """Pad rows of unequal lengths."""
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        scores = np.zeros((len(rows), lengths.max(initial=1)))
        for q, row in enumerate(rows):
            scores[q, : len(row)] = row
        return cls(scores, lengths)


def highlight_scores(truth: Ratings, predicted: ClipScores) -> dict[str, FloatArray]:
    """For each of ``METRICS`` a number in [0, 1] for each query, [Q]; a query's AP is the mean of its annotators'."""
    fitted = fit(predicted, truth.clips)
    tops = top_clips(predicted)
    columns: dict[str, FloatArray] = {}
    for level, least in LEVELS.items():
        positive = truth.ratings >= least
        columns[f"HL-min-{level}-mAP"] = average_precision(fitted, positive).mean(axis=1)
        columns[f"HL-min-{level}-Hit1"] = hits_at_1(tops, positive, truth.clips)
    return columns


def fit(predicted: ClipScores, clips: IntArray) -> FloatArray:
    """Scores for exactly the video's clips: longer ones cut, shorter ones padded with 0.0; -inf past the end. [Q, max clips].

    The zeros are the original's: they outrank negative scores.
    """
    clip = np.arange(clips.max(initial=0))
    fitted = np.zeros((len(clips), len(clip)))
    width = min(len(clip), predicted.scores.shape[1])
    given = clip[:width] < predicted.lengths[:, None]
    fitted[:, :width] = np.where(given, predicted.scores[:, :width], 0.0)
    return np.where(clip < clips[:, None], fitted, -np.inf)


def top_clips(predicted: ClipScores) -> IntArray:
    """The first clip of maximal score among those that were given, [Q]."""
    given = np.arange(predicted.scores.shape[1]) < predicted.lengths[:, None]
    tops: IntArray = np.where(given, predicted.scores, -np.inf).argmax(axis=1)
    return tops


def hits_at_1(tops: IntArray, positive: BoolArray, clips: IntArray) -> FloatArray:
    """1.0 where any annotator has the top clip among ``positive`` [Q, A, C], else 0.0; a clip past the video is a miss."""
    inside = tops < clips
    by_any: BoolArray = np.any(positive, axis=1)
    hit: FloatArray = (inside & by_any[np.arange(len(tops)), np.where(inside, tops, 0)]).astype(np.float64)
    return hit


def average_precision(scores: FloatArray, positive: BoolArray) -> FloatArray:
    """AP of ranking each query's clips by ``scores`` [Q, C], for each annotator's ``positive`` [Q, A, C]; [Q, A] in [0, 1].

    Equal scores are one threshold. Interpolated precision (the best at this recall or a higher one) is averaged, unweighted,
    over the distinct positive levels of recall. Without positives: 0. Clips of score -inf that are not positive change
    nothing.
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
