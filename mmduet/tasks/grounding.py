"""Temporal grounding: from relevance scores over time to the span a query is about; no model, no video."""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[float, float]


def best_span(times: Sequence[float], scores: Sequence[float], threshold: float = 0.5) -> Span | None:
    """The span with the most relevance above ``threshold``, less what lies below it; None where no frame exceeds it.

    This is the maximal-sum stretch of (score - threshold), so a short dip inside a span does not split it. A frame stands for
    the time until the next one.
    """
    best, best_sum, start, total = None, 0.0, 0, 0.0
    for k, score in enumerate(scores):
        if total <= 0:
            start, total = k, 0.0
        total += score - threshold
        if total > best_sum:
            best, best_sum = (start, k), total
    return None if best is None else (times[best[0]], _until(times, best[1]))


def _until(times: Sequence[float], k: int) -> float:
    """When frame ``k`` gives way to the next; the last one lasts as long as the one before it."""
    if k + 1 < len(times):
        return times[k + 1]
    return times[k] + (times[k] - times[k - 1] if k else 0.0)
