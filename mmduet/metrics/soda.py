"""Compute SODA_c, the score of dense captions as one ordered story (Fujita et al., ECCV 2020); written from the paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmduet.metrics.captions import Candidate
from mmduet.metrics.dense_captions import f1, iou
from mmduet.spans import CaptionedSpan

Matrix = NDArray[np.float64]


def sort_by_start(segments: Sequence[CaptionedSpan]) -> list[CaptionedSpan]:
    """Return the segments by start, as the assignment requires. Equal starts keep their order, as in the official tool."""
    return sorted(segments, key=lambda segment: segment.start)


def soda_pairs(predictions: Sequence[CaptionedSpan], events: Sequence[CaptionedSpan]) -> list[Candidate]:
    """Return the pairs for METEOR, event by event: the *prediction* is the reference, the event's caption the hypothesis."""
    return [Candidate(event.caption, (prediction.caption,)) for event in events for prediction in predictions]


def soda_c(predictions: Sequence[CaptionedSpan], events: Sequence[CaptionedSpan], similarity: Matrix) -> float:
    """Return the F1 score of one video against one reference set, 0 to 1; both are in the order of time.

    ``similarity`` [events, predictions] holds the METEOR scores of ``soda_pairs``. Each is multiplied by the IoU of the two
    segments; the order-preserving one-to-one assignment with the highest sum gives precision and recall.
    """
    if not predictions or not events:
        return 0.0
    overlap = np.array([[iou(event, prediction) for prediction in predictions] for event in events])
    total = max_ordered_assignment(overlap * similarity)
    return f1(total / len(predictions), total / len(events))


def max_ordered_assignment(weights: Matrix) -> float:
    """Return the highest sum of one-to-one pairs of rows and columns whose order is the same in both."""
    best = np.zeros(weights.shape[1] + 1)
    for row in weights:
        paired = best[:-1] + row
        best[1:] = np.maximum.accumulate(np.maximum(best[1:], paired))
    return float(best[-1])


def permute_columns_by_string(similarity: Matrix) -> Matrix:
    """Reproduce a bug of Vid2Seq, TimeChat and MMDuet: columns sorted by their index as *text* (0, 1, 10, 11, 2).

    With more than ten predictions, scores are then multiplied by the overlap of a different prediction.
    """
    return similarity[:, sorted(range(similarity.shape[1]), key=str)]
