"""SODA_c: whether the captions of a video tell its story in order (Fujita et al., ECCV 2020); written from the paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmduet.metrics.captions import Candidate
from mmduet.metrics.dense_captions import f1, iou
from mmduet.tasks.dense_captioning import Segment

Matrix = NDArray[np.float64]


def in_order(segments: Sequence[Segment]) -> list[Segment]:
    """By start, as the assignment wants them; those that start together stay as they were, as in the official tool."""
    return sorted(segments, key=lambda segment: segment.start)


def soda_pairs(predictions: Sequence[Segment], events: Sequence[Segment]) -> list[Candidate]:
    """What METEOR compares, event by event: the *prediction* is the reference, the event's caption what is judged."""
    return [Candidate(event.caption, (prediction.caption,)) for event in events for prediction in predictions]


def soda_c(predictions: Sequence[Segment], events: Sequence[Segment], similarity: Matrix) -> float:
    """F1 of one video against one reference set, 0 to 1; both in the order of time.

    ``similarity`` ``[events, predictions]`` are METEOR scores of ``soda_pairs``. Each is weighed with the two segments' IoU;
    the best assignment that goes forward in both is what predictions and events gain.
    """
    if not predictions or not events:
        return 0.0
    overlap = np.array([[iou(event, prediction) for prediction in predictions] for event in events])
    gained = best_assignment(overlap * similarity)
    return f1(gained / len(predictions), gained / len(events))


def best_assignment(weights: Matrix) -> float:
    """The most that one-to-one pairs of rows and columns can sum up to which never cross."""
    best = np.zeros(weights.shape[1] + 1)
    for row in weights:
        paired = best[:-1] + row
        best[1:] = np.maximum.accumulate(np.maximum(best[1:], paired))
    return float(best[-1])


def in_string_order(similarity: Matrix) -> Matrix:
    """The columns as Vid2Seq, TimeChat and MMDuet have them: sorted by index as a *text* (0, 1, 10, 11, 2), a bug.

    With more than ten predictions a caption's score is then multiplied with another prediction's overlap.
    """
    return similarity[:, sorted(range(similarity.shape[1]), key=str)]
