"""Measure how well scores separate positive from negative items: areas under curves, F1, and the rate of positive decisions.

An item is predicted positive if its score is *above* the threshold, as the speak policies decide. Items with equal scores are
never separated: a curve has one point per distinct score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmduet.errors import OptionError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Scores = Sequence[float] | npt.NDArray[np.floating]
Labels = Sequence[int] | npt.NDArray[np.integer]
NAN = float("nan")


@dataclass(frozen=True)
class ThresholdCurve:
    """Counts for every way to cut the ranking, from the strictest cut to the one that predicts everything positive.

    Attributes:
        scores: The distinct scores [K], descending; cut k predicts the items with at least ``scores[k]`` positive.
        true_positives: Positive items among those [K].
        predicted: Number of those [K].
        positives: Number of positive items in all.
    """

    scores: FloatArray
    true_positives: IntArray
    predicted: IntArray
    positives: int

    @property
    def precision(self) -> FloatArray:
        """The share of the predicted items that are positive [K]."""
        return self.true_positives / self.predicted

    @property
    def recall(self) -> FloatArray:
        """The share of the positive items that are predicted [K]; NaN if no item is positive."""
        return self.true_positives / (self.positives or NAN)

    @property
    def f1(self) -> FloatArray:
        """The harmonic mean of precision and recall [K]."""
        return 2 * self.true_positives / (self.predicted + self.positives)


def threshold_curve(scores: Scores, labels: Labels) -> ThresholdCurve:
    """Return the counts at every distinct score. ``labels`` are 1 for positive and 0 for negative items.

    Raises:
        OptionError: scores and labels differ in number, a score is not finite, or a label is neither 0 nor 1.
    """
    values, targets = _check(scores, labels)
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], np.cumsum(targets[order])
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])  # of each run of equal scores
    return ThresholdCurve(ranked[last], hits[last], last + 1, int(targets.sum()))


def roc_auc(scores: Scores, labels: Labels) -> float:
    """Return the probability that a positive item scores higher than a negative one, ties counting half.

    It is the area under the ROC curve, and NaN unless both classes occur.
    """
    curve = threshold_curve(scores, labels)
    negatives = len(labels) - curve.positives
    if not curve.positives or not negatives:
        return NAN
    true_rate = np.concatenate([[0], curve.true_positives]) / curve.positives
    false_rate = np.concatenate([[0], curve.predicted - curve.true_positives]) / negatives
    return float(np.trapezoid(true_rate, false_rate))


def average_precision(scores: Scores, labels: Labels) -> float:
    """Return the area under the precision-recall curve as a step function (PR-AUC); NaN without positive items.

    It is the mean over the positive items of the precision at the cut that includes them. Scores without information have
    the share of positive items as their expected value.
    """
    curve = threshold_curve(scores, labels)
    if not curve.positives:
        return NAN
    gained = np.diff(curve.true_positives, prepend=0)
    return float((gained * curve.precision).sum() / curve.positives)


def f1_at(scores: Scores, labels: Labels, threshold: float) -> float:
    """Return F1 of the items whose score is above ``threshold``; NaN if none is predicted and none is positive."""
    values, targets = _check(scores, labels)
    predicted = values > threshold
    total = int(predicted.sum()) + int(targets.sum())
    return 2 * int(targets[predicted].sum()) / total if total else NAN


def best_f1(scores: Scores, labels: Labels) -> tuple[float, float]:
    """Return the threshold with the highest F1, and that F1; both NaN without positive items.

    The threshold lies halfway between two scores. Of several with the same F1 it is the highest one.
    """
    curve = threshold_curve(scores, labels)
    if not curve.positives:
        return NAN, NAN
    best = int(np.argmax(curve.f1))
    return _threshold_below(curve.scores, best), float(curve.f1[best])


def speaking_rate(scores: Scores, threshold: float) -> float:
    """Return the share of frames whose score is above ``threshold``; NaN without frames."""
    values = np.asarray(scores, dtype=np.float64)
    return float((values > threshold).mean()) if values.size else NAN


def _threshold_below(scores: FloatArray, k: int) -> float:
    """Return a threshold that the descending ``scores[: k + 1]`` exceed and the others do not."""
    if k + 1 == len(scores):
        return float(np.nextafter(scores[k], -np.inf))
    middle = (scores[k] + scores[k + 1]) / 2
    return float(middle if middle < scores[k] else scores[k + 1])


def _check(scores: Scores, labels: Labels) -> tuple[FloatArray, IntArray]:
    values, targets = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if values.ndim != 1 or values.shape != targets.shape:
        raise OptionError(
            f"scores and labels must be two lists of the same length, got shapes {values.shape} and {targets.shape}"
        )
    if not np.isfinite(values).all():
        raise OptionError("scores must be finite numbers, got NaN or infinity; check the model's output")
    if unknown := sorted(set(np.unique(targets).tolist()) - {0, 1}):
        raise OptionError(f"labels must be 0 or 1, got {unknown[0]}; leave out items without a label")
    return values, targets.astype(np.int64)
