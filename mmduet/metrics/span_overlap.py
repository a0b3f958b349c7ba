"""Compare time spans: intersection over union, and the recall of one predicted span per query."""

from __future__ import annotations

from collections.abc import Sequence

from mmduet.spans import Span


def iou(a: Span, b: Span) -> float:
    """Return the intersection over union of two spans; 0 where neither has length."""
    intersection = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - intersection
    return intersection / union if union > 0 else 0.0


def recall_at_1(predicted: Sequence[Span | None], gold: Sequence[Sequence[Span]], threshold: float) -> float:
    """Return the share of queries whose predicted span has an IoU of at least ``threshold`` with some gold span.

    A query without a prediction (None) is a miss.
    """
    hits = [
        span is not None and max(iou(span, g) for g in spans) >= threshold
        for span, spans in zip(predicted, gold, strict=True)
    ]
    return sum(hits) / len(hits) if hits else 0.0
