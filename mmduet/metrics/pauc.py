"""Proactive area under the curve: how much of what was to be told had been told, and how early; pure functions, seconds.

Source: ProactiveVideoQA (arXiv 2507.09313) and its evaluator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmduet.metrics.spans import Span

OMEGAS = (0.0, 0.5, 1.0)  # 0: all is timeliness; 1: only what is known in the end counts; 0.5: the benchmark's main one
START = 0.5  # the curve before the first point
HIGHEST = 2  # a judge's 1, 2, 3 are 0, 1, 2 on the curve


@dataclass(frozen=True)
class Point:
    """From ``time`` on, what has been said for a gold turn is worth ``score``: 0, 1 or 2."""

    time: float
    score: float


def in_window(times: Sequence[float], texts: Sequence[str], window: Span) -> list[int]:
    """Places of the replies that count for a gold turn: in its window, both ends included, each text once; order kept."""
    used: set[str] = set()
    places = []
    for place, (time, text) in enumerate(zip(times, texts, strict=True)):
        if window[0] <= time <= window[1] and text not in used:
            used.add(text)
            places.append(place)
    return places


def without_late_losses(points: Sequence[Point], related_end: float) -> list[Point]:
    """By time, without those points after ``related_end`` that are worth less than the last one before it.

    Telling more once the event is over takes nothing away. Points at one time keep their order; the last that is left counts.
    """
    ordered = sorted(points, key=lambda point: point.time)
    reached = next((point.score for point in reversed(ordered) if point.time <= related_end), 0)
    return [point for point in ordered if point.time <= related_end or point.score >= reached]


def pauc(points: Sequence[Point], window: Span, omega: float = 0.5, start: float = START) -> float:
    """The area under a gold turn's curve as a share of the whole, 0 to 1; ``points`` lie in ``window`` by time.

    The curve is a step function: ``start`` until the first point; a point's time since the window began is scaled by
    1 - ``omega``. Without points the share is ``start / 2``. A window without length is worth what it ends with.
    """
    begin, end = window
    length, level, place, area = end - begin, start, 0.0, 0.0
    for point in points:
        x = (point.time - begin) * (1 - omega)
        area += (x - place) * level
        place, level = x, point.score
    area += (length - place) * level
    return area / (length * HIGHEST) if length > 0 else level / HIGHEST


def repeats(texts: Sequence[str]) -> int:
    """How many of a video's replies say, word for word, what was said before in it."""
    return len(texts) - len(set(texts))
