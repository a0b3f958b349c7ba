"""Fit the speak policy of a model: kind, value, heads and minimum interval with the highest speak-F1 on scored streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mmduet.errors import OptionError
from mmduet.metrics.binary import average_precision, roc_auc
from mmduet.metrics.reply_matching import MatchCounts
from mmduet.options import PolicyName, SpeakOptions
from mmduet.training.policy_sweep import FloatArray, IntArray, ScoredStream, SweepCounts, replay, sweep

POLICIES: tuple[PolicyName, ...] = ("threshold", "sum")
HEADS = (("informative",), ("informative", "relevance"))
INTERVALS = (0.0, 0.25, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)  # seconds
MARGIN = 0.005  # of F1; less does not justify another kind of policy
EVEN_VALUES, QUANTILES, SUMS = 100, 101, 120  # number of values that are tried
RESAMPLES = 1000


@dataclass(frozen=True)
class PolicyCurve:
    """Precision, recall and F1 of one kind of policy over its value, each [V]."""

    values: FloatArray
    precision: FloatArray
    recall: FloatArray
    f1: FloatArray


@dataclass(frozen=True)
class Calibration:
    """A fitted policy, the one before it, and what they do on the same streams.

    The intervals are 95 % intervals of speak-F1 over resampled streams. ``roc_auc`` and ``pr_auc`` measure how well the scores
    of the policy's heads separate the frames at which a reply is due from the others; NaN without frames of both kinds.
    """

    speak: SpeakOptions
    counts: MatchCounts
    interval: tuple[float, float]
    previous: SpeakOptions
    previous_counts: MatchCounts
    previous_interval: tuple[float, float]
    curve: PolicyCurve
    roc_auc: float
    pr_auc: float
    due_share: float  # of the frames

    def to_dict(self) -> dict[str, Any]:
        """Return the figures under their names in JSON files."""
        return {
            "before": _figures(self.previous, self.previous_counts, self.previous_interval),
            "after": _figures(self.speak, self.counts, self.interval),
            "roc_auc": self.roc_auc,
            "pr_auc": self.pr_auc,
            "due_share": self.due_share,
            "curve": {
                "value": self.curve.values.tolist(),
                "precision": [None if np.isnan(p) else p for p in self.curve.precision.tolist()],
                "recall": self.curve.recall.tolist(),
                "f1": self.curve.f1.tolist(),
            },
        }


def fit_policy(
    streams: Sequence[ScoredStream],
    previous: SpeakOptions | None = None,
    *,
    policies: Sequence[PolicyName] = POLICIES,
    heads: Sequence[tuple[str, ...]] = HEADS,
    intervals: Sequence[float] = INTERVALS,
    margin: float = MARGIN,
) -> Calibration:
    """Return the policy with the highest speak-F1 on ``streams``.

    A change has to gain more than ``margin``: among the policies that are this close to the highest F1, those with the policy
    of ``previous`` are preferred, then those with its heads, then those with its minimum interval. Of several values with the
    same F1 the middle one is taken.

    Raises:
        OptionError: No reply is due in any stream, or the policies, heads or intervals to choose from are empty.
    """
    previous = previous or SpeakOptions()
    if not any(stream.due and stream.scores for stream in streams):
        raise OptionError("no reply is due in any of the videos; calibrate on videos with annotated replies")
    if not (policies and heads and intervals):
        raise OptionError("policies, heads and intervals must each name at least one to choose from")
    seconds = sorted({*intervals, previous.min_interval})
    fits = [fit for policy in policies for each in heads for fit in _fits(streams, previous, policy, each, seconds)]
    highest = max(fit.f1 for fit in fits)
    best = min((fit for fit in fits if fit.f1 >= highest - margin), key=lambda fit: fit.preference(previous))
    counts = [replay(stream, best.speak) for stream in streams]
    before = [replay(stream, previous) for stream in streams]
    scores, labels = _frames(streams, best.speak.heads)
    return Calibration(
        speak=best.speak,
        counts=sum(counts, MatchCounts()),
        interval=f1_interval(counts),
        previous=previous,
        previous_counts=sum(before, MatchCounts()),
        previous_interval=f1_interval(before),
        curve=best.curve,
        roc_auc=roc_auc(scores, labels),
        pr_auc=average_precision(scores, labels),
        due_share=float(np.mean(labels)),
    )


def f1_interval(counts: Sequence[MatchCounts], samples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of F1 over streams, with the counts of a resample pooled."""
    totals = np.array([c.events + c.replies for c in counts]), np.array([c.matched for c in counts])
    drawn = np.random.default_rng(seed).integers(len(counts), size=(samples, len(counts)))
    total, matched = (column[drawn].sum(axis=1) for column in totals)
    f1 = np.where(total > 0, 2 * matched / np.maximum(total, 1), 1.0)
    low, high = np.percentile(f1, [2.5, 97.5])
    return float(low), float(high)


def _figures(speak: SpeakOptions, counts: MatchCounts, interval: tuple[float, float]) -> dict[str, Any]:
    return {
        "speak": format_policy(speak),
        "score_heads": list(speak.heads),
        "min_interval": speak.min_interval,
        "speak_f1": counts.f1,
        "speak_f1_interval": list(interval),
        "speak_precision": counts.precision,
        "speak_recall": counts.recall,
        "events": counts.events,
        "replies": counts.replies,
    }


def format_policy(speak: SpeakOptions) -> str:
    """Return policy and value in the form that ``SpeakOptions.parse`` reads, such as ``threshold:0.5``."""
    return speak.policy if speak.policy == "never" else f"{speak.policy}:{speak.value:g}"


@dataclass(frozen=True)
class _Fit:
    """The best value for one policy, set of heads and minimum interval."""

    speak: SpeakOptions
    f1: float
    curve: PolicyCurve

    def preference(self, previous: SpeakOptions) -> tuple[bool, bool, int, bool, float]:
        """Return a key that is smaller for policies that are simpler or closer to ``previous``."""
        speak = self.speak
        return (
            speak.policy != previous.policy,
            speak.heads != previous.heads,
            len(speak.heads),
            speak.min_interval != previous.min_interval,
            -self.f1,
        )


def _fits(
    streams: Sequence[ScoredStream],
    previous: SpeakOptions,
    policy: PolicyName,
    heads: tuple[str, ...],
    intervals: Sequence[float],
) -> list[_Fit]:
    """Return the best value for every minimum interval."""
    keeps_value = (policy, heads) == (previous.policy, previous.heads)
    values = candidate_values(streams, policy, heads, [previous.value] if keeps_value else [])
    speak = replace(previous, policy=policy, heads=heads)
    counts = sweep(streams, speak, values.tolist(), intervals)
    return [_fit(replace(speak, min_interval=seconds), values, counts, i) for i, seconds in enumerate(intervals)]


def _fit(speak: SpeakOptions, values: FloatArray, counts: SweepCounts, row: int) -> _Fit:
    curve = PolicyCurve(values, counts.precision[row], counts.recall[row], counts.f1[row])
    best = middle_of_plateau(values, curve.f1)
    return _Fit(replace(speak, value=float(values[best])), float(curve.f1[best]), curve)


def middle_of_plateau(values: FloatArray, heights: FloatArray) -> int:
    """Return the index in the middle of the widest run of values whose height is the maximum: the most robust choice."""
    is_top = np.concatenate([[False], heights >= heights.max() - 1e-12, [False]])
    starts, stops = np.flatnonzero(~is_top[:-1] & is_top[1:]), np.flatnonzero(is_top[:-1] & ~is_top[1:])
    widest = int(np.argmax(values[stops - 1] - values[starts]))
    run = values[starts[widest] : stops[widest]]
    return int(starts[widest] + np.argmin(np.abs(run - (run[0] + run[-1]) / 2)))


def candidate_values(
    streams: Sequence[ScoredStream], policy: PolicyName, heads: Sequence[str], further: Sequence[float] = ()
) -> FloatArray:
    """Return the values to try, ascending: round numbers over the possible range, and others where the scores are dense."""
    if policy == "sum":
        longest = max(_frames([stream], heads)[0].sum() for stream in streams)
        values = np.geomspace(0.05, max(longest, 0.1), SUMS)
    else:
        even = np.arange(1, EVEN_VALUES) * len(heads) / EVEN_VALUES
        values = np.concatenate([even, np.quantile(_frames(streams, heads)[0], np.linspace(0, 1, QUANTILES))])
    return np.unique([*(float(f"{value:.4g}") for value in values), *further])


def _frames(streams: Sequence[ScoredStream], heads: Sequence[str]) -> tuple[FloatArray, IntArray]:
    """Return the summed score of ``heads`` for every frame, and 1 for the frames at which a reply is due, else 0."""
    scores = [sum(getattr(frame, head) for head in heads) for stream in streams for frame in stream.scores]
    labels = [
        any(start <= frame.time <= end for start, end in stream.due) for stream in streams for frame in stream.scores
    ]
    return np.array(scores, np.float64), np.array(labels, np.int64)
