"""Temporal grounding: from relevance scores over time to the spans a query is about; no model, no video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mmduet.events import Query
from mmduet.options import Profile, SpeakOptions
from mmduet.tasks.base import Own, Paper, Setting, Stretch, Watched, until
from mmduet.tasks.prompts import location

Span = tuple[float, float]
BRIDGE = 1.5  # seconds
THRESHOLD = 0.5
RELEVANCE = ("relevance",)
NEVER = SpeakOptions("never", 0.0, RELEVANCE)


@dataclass(frozen=True)
class ScoredSpan(Stretch):
    """A stretch, and the mean relevance of its frames."""

    score: float


@dataclass(frozen=True)
class Grounded:
    """What a query is about: ``spans`` in order of time, the ``best`` of them, and whether each frame is relevant by itself."""

    query: str
    spans: tuple[ScoredSpan, ...]
    best: ScoredSpan | None
    mask: tuple[bool, ...]


@dataclass(frozen=True)
class TemporalGrounding:
    """When in the video is what ``query`` says? Decided when all of it has been seen.

    Under ``paper`` a frame's relevance counts as it lies between the video's lowest and highest, as the paper's evaluation
    has it: heads that were not trained to a threshold still tell more from less.
    """

    query: str
    profile: Profile = "fixed"
    threshold: float = THRESHOLD

    name: ClassVar[str] = "temporal grounding"
    heads: ClassVar[tuple[str, ...]] = RELEVANCE
    paper: ClassVar[Paper] = Paper(2.0, 400, NEVER)

    def setting(self, own: Own) -> Setting:
        """It never speaks; only relevance counts."""
        return Setting.of(own, self.paper, self.profile, Query(location(self.query, own)), speaks=False)

    def result(self, watched: Watched) -> Grounded:
        """The spans, in seconds."""
        scores = watched.curve(self.heads)
        if self.profile == "paper":
            scores = stretched(scores)
        found = [watched.within(span) for span in spans(watched.times, scores, self.threshold)]
        best = best_span(watched.times, scores, self.threshold)
        chosen = next((span for span in found if best is not None and span.start == best[0]), None)
        return Grounded(self.query, tuple(found), chosen, tuple(frame_mask(scores, self.threshold)))


def frame_mask(scores: Sequence[float], threshold: float = THRESHOLD) -> list[bool]:
    """Which frames exceed ``threshold``."""
    return [score > threshold for score in scores]


def stretched(scores: Sequence[float]) -> list[float]:
    """Each score's place between the lowest, 0, and the highest, 1; all 0 where none differs."""
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [(score - low) / (high - low) if high > low else 0.0 for score in scores]


def spans(
    times: Sequence[float], scores: Sequence[float], threshold: float = THRESHOLD, bridge: float = BRIDGE
) -> list[ScoredSpan]:
    """By time: every frame that exceeds ``threshold`` is in one of them.

    Of every scene the span that ``best_span`` would give if there were no other; where that leaves out a part of the scene
    because the dip before it costs more than it brings, the best of that part too, and so on.
    """
    found = []
    for scene in _scenes(times, scores, threshold, bridge):
        for first, last in sorted(_stretches(scores, threshold, *scene)):
            mean = sum(scores[first : last + 1]) / (last + 1 - first)
            found.append(ScoredSpan(times[first], until(times, last), mean))
    return found


def best_span(
    times: Sequence[float], scores: Sequence[float], threshold: float = THRESHOLD, bridge: float = BRIDGE
) -> Span | None:
    """The span with the most relevance above ``threshold``, less what lies below it; None where no frame exceeds it.

    This is the maximal-sum stretch of (score - threshold) within one scene: a dip splits nothing until it has lasted
    ``bridge`` seconds. Two long scenes would otherwise pay for any gap between them, and be told as one. A frame stands for the
    time until the next one.
    """
    found = [_best_stretch(scores, threshold, *scene) for scene in _scenes(times, scores, threshold, bridge)]
    total, first, last = max(found, default=(0.0, 0, 0), key=lambda stretch: stretch[0])
    return (times[first], until(times, last)) if total > 0 else None


def _scenes(
    times: Sequence[float], scores: Sequence[float], threshold: float, bridge: float
) -> Iterator[tuple[int, int]]:
    """First and last frames of runs that are above ``threshold`` but for dips shorter than ``bridge``."""
    first = last = None
    for k, score in enumerate(scores):
        if score <= threshold:
            continue
        if first is not None and last is not None and times[k] - until(times, last) >= bridge:
            yield first, last
            first = None
        first, last = (k if first is None else first), k
    if first is not None and last is not None:
        yield first, last


def _stretches(scores: Sequence[float], threshold: float, first: int, last: int) -> Iterator[tuple[int, int]]:
    """First and last frames of the best stretch from ``first`` to ``last``, of the best one on each side of it, and so on."""
    parts = [(first, last)]
    while parts:
        first, last = parts.pop()
        total, begin, end = _best_stretch(scores, threshold, first, last)
        if total > 0:
            yield begin, end
            parts += [(first, begin - 1), (end + 1, last)]


def _best_stretch(scores: Sequence[float], threshold: float, first: int, last: int) -> tuple[float, int, int]:
    """The maximal sum of (score - threshold) over frames from ``first`` to ``last``, and where it begins and ends."""
    best, start, total = (0.0, first, first), first, 0.0
    for k in range(first, last + 1):
        if total <= 0:
            start, total = k, 0.0
        total += scores[k] - threshold
        best = max(best, (total, start, k), key=lambda stretch: stretch[0])
    return best
