"""Highlight detection: from scores over time to the saliency of fixed-length clips and to highlights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmduet.errors import OptionError
from mmduet.events import Query
from mmduet.options import Profile
from mmduet.spans import ScoredSpan
from mmduet.tasks.base import ModelDefaults, PaperConfig, RunConfig, StreamResult, frame_end, stream_end
from mmduet.tasks.grounding import NEVER_SPEAK, RELEVANCE_HEADS, FrameRange, scored_span_to_dict
from mmduet.tasks.prompts import grounding_query, narration_query

CLIP_SECONDS = 2.0  # QVHighlights
MAX_HIGHLIGHT_SECONDS = 10.0
MAX_HIGHLIGHT_SHARE = 0.25  # of the video
# share of the peak's saliency that extends a highlight, and of the best highlight's saliency that starts another one
MIN_PEAK_SHARE = 0.5
CLIP_EDGE_TOLERANCE = 1e-6  # of a clip: assigns a frame at a clip's start to that clip despite rounded times
MIN_SALIENCY = 0.1


@dataclass(frozen=True)
class Highlights:
    """The ``top`` highlights, best first and disjoint, and in ``clips`` the saliency of every 2 s of the video.

    A highlight's score is its greatest saliency, from 0 to 1. ``query`` None: the most informative moments.
    """

    query: str | None
    top: tuple[ScoredSpan, ...]
    clips: tuple[float, ...]
    clip_seconds: float = CLIP_SECONDS

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values, under the names that ``--output`` writes."""
        return {
            "query": self.query,
            "top": [scored_span_to_dict(highlight) for highlight in self.top],
            "clips": list(self.clips),
            "clip_seconds": self.clip_seconds,
        }


@dataclass(frozen=True)
class HighlightDetection:
    """Find the moments that are most about ``query``, by relevance; without a query, the most informative ones.

    ``max_seconds`` limits the length of a highlight; None: a quarter of the video, at most 10 s.

    Raises:
        OptionError: ``max_highlights`` is less than 1, or ``max_seconds`` is not a positive number.
    """

    query: str | None = None
    max_highlights: int = 5
    profile: Profile = "fixed"
    max_seconds: float | None = None

    name: ClassVar[str] = "highlight detection"
    paper: ClassVar[PaperConfig] = PaperConfig(1.0, 400, NEVER_SPEAK)

    def __post_init__(self) -> None:
        """Check the limits."""
        if self.max_highlights < 1:
            raise OptionError(f"the number of top highlights must be at least 1, got {self.max_highlights}")
        if self.max_seconds is not None and not (math.isfinite(self.max_seconds) and self.max_seconds > 0):
            raise OptionError(f"max_seconds must be a number of seconds above 0, got {self.max_seconds}")

    @property
    def heads(self) -> tuple[str, ...]:
        """``relevance`` with a query, ``informative`` without one."""
        return RELEVANCE_HEADS if self.query is not None else ("informative",)

    def run_config(self, defaults: ModelDefaults) -> RunConfig:
        """Return a configuration in which the model is silent."""
        text = grounding_query(self.query, defaults) if self.query is not None else narration_query(defaults)
        return RunConfig.from_defaults(defaults, self.paper, self.profile, Query(text), can_speak=False)

    def result(self, stream: StreamResult) -> Highlights:
        """Return the highlights, in seconds.

        The informative score rises when an event is over, so without a query the saliency of a frame covers the time before it.
        """
        times, scores = stream.times, stream.mean_scores(self.heads)
        smoothing = (CLIP_SECONDS / 2, CLIP_SECONDS / 2) if self.query is not None else (0.0, CLIP_SECONDS)
        min_saliency = 0.0 if self.profile == "paper" else MIN_SALIENCY
        limit = self.max_seconds or min(MAX_HIGHLIGHT_SHARE * stream.duration, MAX_HIGHLIGHT_SECONDS)
        found = top_highlights(times, scores, self.max_highlights, smoothing, limit, min_saliency)
        top = tuple(span._replace(end=_clip_end(stream, span, limit)) for span in found)
        return Highlights(self.query, top, tuple(clip_saliency(times, scores, stream.duration)))


def _clip_end(stream: StreamResult, span: ScoredSpan, max_seconds: float) -> float:
    """Return the end of a highlight within the video; a last frame that is displayed for long makes it no longer."""
    end = stream.clip_end(span.start, span.end)
    return end if len(stream.scores) == 1 else min(end, max(span.end, span.start + max_seconds))


def clip_saliency(
    times: Sequence[float], scores: Sequence[float], duration: float, clip_seconds: float = CLIP_SECONDS
) -> list[float]:
    """Return the sum of the frames' scores for each of the int(duration / clip_seconds) clips; a shorter tail is dropped."""
    saliency = [0.0] * int(duration / clip_seconds)
    for time, score in zip(times, scores, strict=True):
        clip = int(time / clip_seconds + CLIP_EDGE_TOLERANCE)
        if clip < len(saliency):
            saliency[clip] += score
    return saliency


def top_clip(saliency: Sequence[float]) -> int:
    """Return the index of the most salient clip, the first of equal ones."""
    return max(range(len(saliency)), key=lambda i: saliency[i])


def top_highlights(
    times: Sequence[float],
    scores: Sequence[float],
    max_highlights: int,
    smoothing_seconds: tuple[float, float] = (CLIP_SECONDS / 2, CLIP_SECONDS / 2),
    max_seconds: float = MAX_HIGHLIGHT_SECONDS,
    min_saliency: float = MIN_SALIENCY,
) -> list[ScoredSpan]:
    """Return at most ``max_highlights`` disjoint highlights with a saliency of at least ``min_saliency``, best first.

    A frame's saliency is its mean score from ``smoothing_seconds[0]`` before to ``smoothing_seconds[1]`` after the middle of
    the frame. A highlight starts at the most salient free frame and grows frame by frame to the better side, while frames have
    ``MIN_PEAK_SHARE`` of the peak's saliency and it is not longer than ``max_seconds``. A peak below ``MIN_PEAK_SHARE`` of the
    best highlight's saliency ends the search.
    """
    saliency = list(_smooth(times, scores, smoothing_seconds))
    free, found = set(range(len(times))), list[ScoredSpan]()
    while free and len(found) < max_highlights:
        peak = max(sorted(free), key=lambda k: saliency[k])
        floor = max(min_saliency, MIN_PEAK_SHARE * found[0].score if found else 0.0)
        if saliency[peak] < floor or saliency[peak] <= 0:
            break
        first, last = _grow_from_peak(times, saliency, peak, free, max_seconds)
        free -= set(range(first, last + 1))
        found.append(ScoredSpan(times[first], frame_end(times, last), float(saliency[peak])))
    return found


def _grow_from_peak(
    times: Sequence[float], saliency: Sequence[float], peak: int, free: set[int], max_seconds: float
) -> FrameRange:
    """Return the first and the last frame of the highlight around ``peak``."""
    first = last = peak
    while True:
        sides = [k for k in (last + 1, first - 1) if k in free and saliency[k] >= MIN_PEAK_SHARE * saliency[peak]]
        if not sides:
            return first, last
        side = max(sides, key=lambda k: saliency[k])
        wider = min(first, side), max(last, side)
        if frame_end(times, wider[1]) - times[wider[0]] > max_seconds:
            return first, last
        first, last = wider


def _smooth(
    times: Sequence[float], scores: Sequence[float], smoothing_seconds: tuple[float, float]
) -> NDArray[np.float64]:
    """Return the mean score around the middle of each frame, within the video."""
    values = np.asarray(scores, np.float64)
    edges = np.array([*times, stream_end(times)])
    integral = np.concatenate([[0.0], np.cumsum(values * np.diff(edges))])  # up to each edge
    middle = (edges[:-1] + edges[1:]) / 2
    before, after = smoothing_seconds
    start, end = np.maximum(middle - before, edges[0]), np.minimum(middle + after, edges[-1])
    area = np.interp(end, edges, integral) - np.interp(start, edges, integral)
    mean: NDArray[np.float64] = np.divide(area, end - start, out=values.copy(), where=end > start)
    return mean
