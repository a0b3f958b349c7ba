"""Temporal grounding: how well a segment, frame scores or an answer in words fit the annotated spans; seconds, no files."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmduet.metrics.spans import Span

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

RECALL_AT = (0.3, 0.5, 0.7)
NUMBER = re.compile(r"\d+\.?\d*")


def sweep_thresholds() -> FloatArray:
    """The thresholds that MMDuet's evaluator tries, 0.30 to 0.70, as numpy counts them: above 0.5 with its float error."""
    return np.arange(0.30, 0.71, 0.02)


def summary(ious: FloatArray) -> dict[str, float]:
    """``mIoU`` and ``R1@0.3``, ``R1@0.5``, ``R1@0.7`` (share of IoU >= t), times 100, of ``ious`` [Q], Q > 0."""
    return {name: 100 * float(values.mean()) for name, values in columns(ious).items()}


def columns(ious: FloatArray, prefix: str = "") -> dict[str, FloatArray]:
    """One number in [0, 1] for each query and metric of ``summary``; ``ious`` [Q]."""
    hits = {f"{prefix}R1@{t}": (ious >= t).astype(np.float64) for t in RECALL_AT}
    return {f"{prefix}mIoU": ious, **hits}


def segment_iou(predicted: Span | None, gold: Span) -> float:
    """Intersection over the hull (TimeChat's ``eval_tvg``); 0 for no segment, and for one that ends before it starts."""
    if predicted is None:
        return 0.0
    shared = min(predicted[1], gold[1]) - max(predicted[0], gold[0])
    hull = max(predicted[1], gold[1]) - min(predicted[0], gold[0])
    return shared / hull if shared > 0 else 0.0


def text_span(answer: str, duration: float | None) -> Span | None:
    """The span that an answer names: its two numbers, seconds, or per cent of ``duration`` where "from" and "to" both occur.

    None unless there are exactly two finite numbers, and a duration where one is needed. Source: MMDuet's evaluation of its
    baselines.
    """
    numbers = [float(digits) for digits in NUMBER.findall(answer)]
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
        return None
    if not in_percent(answer):
        return numbers[0], numbers[1]
    return None if duration is None else (numbers[0] / 100 * duration, numbers[1] / 100 * duration)


def in_percent(answer: str) -> bool:
    """Whether the numbers of an answer are per cent of the duration: "from" and "to" both occur in it, in any case."""
    return "from" in answer.lower() and "to" in answer.lower()


def text_iou(predicted: Span, gold: Span) -> float:
    """IoU that counts both ends as whole seconds (+1), as MMDuet's evaluation of its baselines does.

    It is greater than ``segment_iou`` of the same spans, so the two do not compare. ``gold`` does not end before it starts.
    """
    shared = min(predicted[1], gold[1]) - max(predicted[0], gold[0]) + 1
    hull = max(predicted[1], gold[1]) - min(predicted[0], gold[0]) + 1
    return max(0.0, shared) / hull


def frames_in_spans(times: FloatArray, spans: Sequence[Sequence[Span]]) -> BoolArray:
    """Which frames ``times`` [Q, F] lie in any of their query's spans, both ends inclusive; [Q, F]."""
    inside = np.zeros(times.shape, dtype=bool)
    for q, query_spans in enumerate(spans):
        for start, end in query_spans:
            inside[q] |= (times[q] >= start) & (times[q] <= end)
    return inside


def frame_ious(scores: FloatArray, gold: BoolArray, real: BoolArray, thresholds: FloatArray) -> FloatArray:
    """IoU of the frames with score >= threshold and the ``gold`` ones, for all ascending ``thresholds`` [T] at once; [Q, T].

    ``scores``, ``gold`` and ``real`` (not padding) are [Q, F]. A NaN score reaches no threshold. 0 where neither side has a
    frame. All frames count, not only the longest run (MMDuet's evaluator).
    """
    # A frame's level is the number of thresholds it reaches, so counts of levels give the counts at all thresholds.
    level = np.where(np.isnan(scores), 0, np.searchsorted(thresholds, scores, side="right"))
    both = _reaching(level, gold & real, len(thresholds))
    predicted = _reaching(level, real, len(thresholds))
    union = predicted + (gold & real).sum(axis=1)[:, None] - both
    ious: FloatArray = np.divide(both, union, out=np.zeros(both.shape), where=union > 0)
    return ious


def _reaching(level: npt.NDArray[np.int64], counted: BoolArray, thresholds: int) -> npt.NDArray[np.int64]:
    """How many of the ``counted`` frames reach each threshold; [Q, T]."""
    cell = level + (thresholds + 1) * np.arange(len(level))[:, None]
    histogram = np.bincount(cell[counted], minlength=len(level) * (thresholds + 1)).reshape(len(level), thresholds + 1)
    reaching: npt.NDArray[np.int64] = histogram[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    return reaching
