"""Score temporal grounding from segments, frame scores or text answers against gold spans; times are in seconds."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmduet.spans import Span

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

RECALL_IOUS = (0.3, 0.5, 0.7)
NUMBER = re.compile(r"\d+\.?\d*")


def sweep_thresholds() -> FloatArray:
    """Return the thresholds that MMDuet's evaluator tries, 0.30 to 0.70, with NumPy's float error above 0.5."""
    return np.arange(0.30, 0.71, 0.02)


def mean_metrics(ious: FloatArray) -> dict[str, float]:
    """Return ``mIoU`` and ``R1@0.3``, ``R1@0.5``, ``R1@0.7`` (share of IoU >= t) of ``ious`` [Q], Q > 0, times 100."""
    return {name: 100 * float(values.mean()) for name, values in per_query_metrics(ious).items()}


def per_query_metrics(ious: FloatArray, prefix: str = "") -> dict[str, FloatArray]:
    """Return each metric of ``mean_metrics`` for each query [Q], from 0 to 1."""
    hits = {f"{prefix}R1@{t}": (ious >= t).astype(np.float64) for t in RECALL_IOUS}
    return {f"{prefix}mIoU": ious, **hits}


def segment_iou(predicted: Span | None, gold: Span) -> float:
    """Return intersection over hull (TimeChat's ``eval_tvg``); 0 for no segment, or one that ends before it starts."""
    if predicted is None:
        return 0.0
    shared = min(predicted[1], gold[1]) - max(predicted[0], gold[0])
    hull = max(predicted[1], gold[1]) - min(predicted[0], gold[0])
    return shared / hull if shared > 0 else 0.0


def text_span(answer: str, duration: float | None) -> Span | None:
    """Return the span of an answer's two numbers: seconds, or per cent of ``duration`` where "from" and "to" both occur.

    None unless there are exactly two finite numbers, and a duration where one is needed. Source: MMDuet's evaluation of
    baselines.
    """
    numbers = [float(digits) for digits in NUMBER.findall(answer)]
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
        return None
    if not is_in_percent(answer):
        return Span(numbers[0], numbers[1])
    return None if duration is None else Span(numbers[0] / 100 * duration, numbers[1] / 100 * duration)


def is_in_percent(answer: str) -> bool:
    """Return whether an answer's numbers are per cent of the duration: it has both "from" and "to", in any case."""
    return "from" in answer.lower() and "to" in answer.lower()


def text_iou(predicted: Span, gold: Span) -> float:
    """Return an IoU that counts both ends as whole seconds (+1), as MMDuet's evaluation of baselines does.

    It is greater than ``segment_iou`` of the same spans, so the two are not comparable. ``gold`` does not end before it starts.
    """
    shared = min(predicted[1], gold[1]) - max(predicted[0], gold[0]) + 1
    hull = max(predicted[1], gold[1]) - min(predicted[0], gold[0]) + 1
    return max(0.0, shared) / hull


def frames_in_spans(times: FloatArray, spans: Sequence[Sequence[Span]]) -> BoolArray:
    """Return which frames at ``times`` [Q, F] lie in any span of their query, both ends included; [Q, F]."""
    inside = np.zeros(times.shape, dtype=bool)
    for q, query_spans in enumerate(spans):
        for start, end in query_spans:
            inside[q] |= (times[q] >= start) & (times[q] <= end)
    return inside


def frame_ious(scores: FloatArray, gold: BoolArray, mask: BoolArray, thresholds: FloatArray) -> FloatArray:
    """Return the IoU of frames with score >= threshold and ``gold`` frames, for ascending ``thresholds`` [T]; [Q, T].

    ``scores``, ``gold`` and ``mask`` (False for padding) are [Q, F]. A NaN score reaches no threshold. The IoU is 0 where
    neither side has a frame. All frames count, not only the longest run (MMDuet's evaluator).
    """
    # A frame's level is the number of thresholds it reaches, so counts of levels give the counts at all thresholds.
    level = np.where(np.isnan(scores), 0, np.searchsorted(thresholds, scores, side="right"))
    both = _count_reaching(level, gold & mask, len(thresholds))
    predicted = _count_reaching(level, mask, len(thresholds))
    union = predicted + (gold & mask).sum(axis=1)[:, None] - both
    ious: FloatArray = np.divide(both, union, out=np.zeros(both.shape), where=union > 0)
    return ious


def _count_reaching(level: npt.NDArray[np.int64], counted: BoolArray, thresholds: int) -> npt.NDArray[np.int64]:
    """Return how many of the ``counted`` frames reach each threshold; [Q, T]."""
    cell = level + (thresholds + 1) * np.arange(len(level))[:, None]
    histogram = np.bincount(cell[counted], minlength=len(level) * (thresholds + 1)).reshape(len(level), thresholds + 1)
    reaching: npt.NDArray[np.int64] = histogram[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    return reaching
