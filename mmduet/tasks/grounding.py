"""Temporal grounding: the spans of a video that a query is about, from relevance scores over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mmduet.errors import OptionError
from mmduet.events import Query
from mmduet.options import Profile, SpeakOptions
from mmduet.spans import ScoredSpan, Span
from mmduet.tasks.base import ModelDefaults, PaperConfig, RunConfig, StreamResult, frame_end
from mmduet.tasks.prompts import grounding_query

BRIDGE_SECONDS = 1.5
DEFAULT_THRESHOLD = 0.5
RELEVANCE_HEADS = ("relevance",)
NEVER_SPEAK = SpeakOptions("never", 0.0, RELEVANCE_HEADS)

FrameRange = tuple[int, int]  # index of the first and of the last frame


@dataclass(frozen=True)
class GroundingResult:
    """The ``spans`` that a query is about, in order of time, each with the mean relevance of its frames.

    ``best`` is one of them, or None without spans. ``mask`` gives for each frame whether its score alone exceeds the threshold.
    """

    query: str
    spans: tuple[ScoredSpan, ...]
    best: ScoredSpan | None
    mask: tuple[bool, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values, under the names that ``--output`` writes."""
        return {
            "query": self.query,
            "spans": [scored_span_to_dict(span) for span in self.spans],
            "best": None if self.best is None else scored_span_to_dict(self.best),
            "mask": list(self.mask),
        }


@dataclass(frozen=True)
class TemporalGrounding:
    """Find when the video shows what ``query`` describes, given the whole video.

    Under ``paper`` scores are rescaled to the video's own minimum and maximum, as in the paper's evaluation: heads that were
    not trained for a threshold still rank frames.

    Raises:
        OptionError: ``threshold`` is not from 0 to 1.
    """

    query: str
    profile: Profile = "fixed"
    threshold: float = DEFAULT_THRESHOLD

    name: ClassVar[str] = "temporal grounding"
    heads: ClassVar[tuple[str, ...]] = RELEVANCE_HEADS
    paper: ClassVar[PaperConfig] = PaperConfig(2.0, 400, NEVER_SPEAK)

    def __post_init__(self) -> None:
        """Check ``threshold``."""
        if not 0 <= self.threshold <= 1:
            raise OptionError(f"threshold must be from 0 to 1, got {self.threshold}")

    def run_config(self, defaults: ModelDefaults) -> RunConfig:
        """Return a configuration in which the model is silent; only relevance is used."""
        query = Query(grounding_query(self.query, defaults))
        return RunConfig.from_defaults(defaults, self.paper, self.profile, query, can_speak=False)

    def result(self, stream: StreamResult) -> GroundingResult:
        """Return the spans, in seconds."""
        scores = stream.mean_scores(self.heads)
        if self.profile == "paper":
            scores = rescale_min_max(scores)
        found = find_spans(stream.times, scores, self.threshold)
        spans = tuple(span._replace(end=stream.clip_end(span.start, span.end)) for span in found)
        best = best_span(stream.times, scores, self.threshold)
        chosen = next((span for span in spans if best is not None and span.start == best.start), None)
        return GroundingResult(self.query, spans, chosen, tuple(frame_mask(scores, self.threshold)))


def scored_span_to_dict(span: ScoredSpan) -> dict[str, float]:
    """Return a span as JSON values."""
    return {"start": span.start, "end": span.end, "score": span.score}


def frame_mask(scores: Sequence[float], threshold: float = DEFAULT_THRESHOLD) -> list[bool]:
    """Return for each frame whether its score exceeds ``threshold``."""
    return [score > threshold for score in scores]


def rescale_min_max(scores: Sequence[float]) -> list[float]:
    """Map the lowest score to 0 and the highest to 1; return zeros if all scores are equal."""
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [(score - low) / (high - low) if high > low else 0.0 for score in scores]


def find_spans(
    times: Sequence[float],
    scores: Sequence[float],
    threshold: float = DEFAULT_THRESHOLD,
    bridge_seconds: float = BRIDGE_SECONDS,
) -> list[ScoredSpan]:
    """Return disjoint spans, in order of time, that contain every frame above ``threshold``.

    Each scene contributes the span that ``best_span`` would return for it alone. Where that leaves out a part of the scene,
    because the dip before it costs more than the part adds, the best span of that part follows, and so on.
    """
    found = []
    for scene in _split_into_scenes(times, scores, threshold, bridge_seconds):
        for first, last in sorted(_best_ranges(scores, threshold, scene)):
            mean = sum(scores[first : last + 1]) / (last + 1 - first)
            found.append(ScoredSpan(times[first], frame_end(times, last), mean))
    return found


def best_span(
    times: Sequence[float],
    scores: Sequence[float],
    threshold: float = DEFAULT_THRESHOLD,
    bridge_seconds: float = BRIDGE_SECONDS,
) -> Span | None:
    """Return the span with the largest sum of (score - threshold), or None if no frame exceeds ``threshold``.

    The span lies within one scene: frames that are separated by no dip of ``bridge_seconds`` or longer. Without that limit, two
    long scenes would outweigh any gap between them and be reported as one. A frame lasts until the next one.
    """
    scenes = _split_into_scenes(times, scores, threshold, bridge_seconds)
    found = [_max_sum_range(scores, threshold, scene) for scene in scenes]
    total, (first, last) = max(found, default=(0.0, (0, 0)), key=lambda candidate: candidate[0])
    return Span(times[first], frame_end(times, last)) if total > 0 else None


def _split_into_scenes(
    times: Sequence[float], scores: Sequence[float], threshold: float, bridge_seconds: float
) -> Iterator[FrameRange]:
    """Yield runs of frames above ``threshold``; dips shorter than ``bridge_seconds`` do not end a run."""
    first = last = None
    for k, score in enumerate(scores):
        if score <= threshold:
            continue
        if first is not None and last is not None and times[k] - frame_end(times, last) >= bridge_seconds:
            yield first, last
            first = None
        first, last = (k if first is None else first), k
    if first is not None and last is not None:
        yield first, last


def _best_ranges(scores: Sequence[float], threshold: float, frames: FrameRange) -> Iterator[FrameRange]:
    """Yield the range of the largest sum, then those of the frames before and after it, recursively."""
    parts = [frames]
    while parts:
        first, last = parts.pop()
        total, (begin, end) = _max_sum_range(scores, threshold, (first, last))
        if total > 0:
            yield begin, end
            parts += [(first, begin - 1), (end + 1, last)]


def _max_sum_range(scores: Sequence[float], threshold: float, frames: FrameRange) -> tuple[float, FrameRange]:
    """Return the maximal sum of (score - threshold) over consecutive frames, and these frames (Kadane's algorithm)."""
    first, last = frames
    best: tuple[float, FrameRange] = (0.0, (first, first))
    start, total = first, 0.0
    for k in range(first, last + 1):
        if total <= 0:
            start, total = k, 0.0
        total += scores[k] - threshold
        best = max(best, (total, (start, k)), key=lambda candidate: candidate[0])
    return best
