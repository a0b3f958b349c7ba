"""Temporal grounding: from relevance scores over time to the span a query is about; no model, no video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Span = tuple[float, float]
BRIDGE = 1.5  # seconds


def best_span(
    times: Sequence[float], scores: Sequence[float], threshold: float = 0.5, bridge: float = BRIDGE
) -> Span | None:
    """The span with the most relevance above ``threshold``, less what lies below it; None where no frame exceeds it.

    This is the maximal-sum stretch of (score - threshold) within one scene: a dip splits nothing until it has lasted
    ``bridge`` seconds. Two long scenes would otherwise pay for any gap between them, and be told as one. A frame stands for the
    time until the next one.
    """
    found = [_best_stretch(scores, threshold, *scene) for scene in _scenes(times, scores, threshold, bridge)]
    total, first, last = max(found, default=(0.0, 0, 0), key=lambda stretch: stretch[0])
    return (times[first], _until(times, last)) if total > 0 else None


def _scenes(
    times: Sequence[float], scores: Sequence[float], threshold: float, bridge: float
) -> Iterator[tuple[int, int]]:
    """First and last frames of runs that are above ``threshold`` but for dips shorter than ``bridge``."""
    first = last = None
    for k, score in enumerate(scores):
        if score <= threshold:
            continue
        if first is not None and last is not None and times[k] - _until(times, last) >= bridge:
            yield first, last
            first = None
        first, last = (k if first is None else first), k
    if first is not None and last is not None:
        yield first, last


def _best_stretch(scores: Sequence[float], threshold: float, first: int, last: int) -> tuple[float, int, int]:
    """The maximal sum of (score - threshold) over frames from ``first`` to ``last``, and where it begins and ends."""
    best, start, total = (0.0, first, first), first, 0.0
    for k in range(first, last + 1):
        if total <= 0:
            start, total = k, 0.0
        total += scores[k] - threshold
        best = max(best, (total, start, k), key=lambda stretch: stretch[0])
    return best


def _until(times: Sequence[float], k: int) -> float:
    """When frame ``k`` gives way to the next; the last one lasts as long as the one before it."""
    if k + 1 < len(times):
        return times[k + 1]
    return times[k] + (times[k] - times[k - 1] if k else 0.0)
