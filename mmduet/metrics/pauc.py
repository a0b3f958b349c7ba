"""Compute the proactive area under the curve: how much of a gold answer the replies had conveyed, and how early.

Source: ProactiveVideoQA (arXiv 2507.09313) and its evaluator. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmduet.spans import Span

OMEGAS = (0.0, 0.5, 1.0)  # 0: timeliness only; 1: final correctness only; 0.5: the benchmark's main setting
START_SCORE = 0.5  # of the curve before the first point
MAX_SCORE = 2  # a judge's grades 1, 2, 3 are 0, 1, 2 on the curve


@dataclass(frozen=True)
class Point:
    """The score (0, 1 or 2) of all replies to a gold answer, from ``time`` on."""

    time: float
    score: float


def replies_in_window(times: Sequence[float], texts: Sequence[str], window: Span) -> list[int]:
    """Return the indices of the replies within ``window``, both ends included; of equal texts only the first."""
    used: set[str] = set()
    indices = []
    for i, (time, text) in enumerate(zip(times, texts, strict=True)):
        if window[0] <= time <= window[1] and text not in used:
            used.add(text)
            indices.append(i)
    return indices


def drop_late_losses(points: Sequence[Point], related_end: float) -> list[Point]:
    """Return the points by time, without those after ``related_end`` that score lower than the last one before it.

    Replies after the end of the event cannot lower the score. Points at the same time keep their order.
    """
    ordered = sorted(points, key=lambda point: point.time)
    reached = next((point.score for point in reversed(ordered) if point.time <= related_end), 0)
    return [point for point in ordered if point.time <= related_end or point.score >= reached]


def pauc(points: Sequence[Point], window: Span, omega: float = 0.5, start: float = START_SCORE) -> float:
    """Return the area under the curve of a gold answer as a share of the maximum, 0 to 1.

    ``points`` lie in ``window`` and are sorted by time. The curve is a step function with the value ``start`` before the
    first point; the time of a point since the start of the window is scaled by 1 - ``omega``. Without points the share is
    ``start / 2``. In a window without length only the last value counts.
    """
    window_start, window_end = window
    length, level, position, area = window_end - window_start, start, 0.0, 0.0
    for point in points:
        x = (point.time - window_start) * (1 - omega)
        area += (x - position) * level
        position, level = x, point.score
    area += (length - position) * level
    return area / (length * MAX_SCORE) if length > 0 else level / MAX_SCORE


def count_repeats(texts: Sequence[str]) -> int:
    """Return how many of a video's replies repeat the text of an earlier one."""
    return len(texts) - len(set(texts))
