"""Highlight detection: from scores over time to the saliency of fixed-length clips and to highlights; no model, no video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mmduet.errors import OptionError
from mmduet.events import Query
from mmduet.options import Profile
from mmduet.tasks.base import Own, Paper, Setting, Stretch, Watched, end_of, until
from mmduet.tasks.grounding import NEVER, RELEVANCE
from mmduet.tasks.prompts import location, narration

CLIP_SECONDS = 2.0  # QVHighlights
LONGEST = 10.0  # seconds
SHARE = (
    0.5  # of the peak's saliency, down to which a highlight goes on; of the best one's, below which there are no more
)
EDGE = 1e-6  # of a clip: a frame that is due at a clip's beginning belongs to it, whatever its time was rounded to
LEAST = 0.1  # saliency below which nothing is a highlight


@dataclass(frozen=True)
class Highlight(Stretch):
    """A stretch; ``score`` is the greatest saliency in it, from 0 to 1."""

    score: float


@dataclass(frozen=True)
class Highlights:
    """``top`` highlights, the best one first, of which no two overlap; ``clips`` has the saliency of each 2 s of the video.

    ``query`` is what was asked for; None: whatever is worth telling.
    """

    query: str | None
    top: tuple[Highlight, ...]
    clips: tuple[float, ...]
    clip_seconds: float = CLIP_SECONDS


@dataclass(frozen=True)
class HighlightDetection:
    """What in the video is most about ``query``? Without one: what is most worth telling, by the informative head."""

    query: str | None = None
    most: int = 5
    profile: Profile = "fixed"

    name: ClassVar[str] = "highlight detection"
    paper: ClassVar[Paper] = Paper(1.0, 400, NEVER)

    def __post_init__(self) -> None:
        """Refuse to look for none."""
        if self.most < 1:
            raise OptionError(f"the top {self.most} highlights are none; use 1 or more")

    @property
    def heads(self) -> tuple[str, ...]:
        """Relevance is about a query; without one, there is something to tell or not."""
        return RELEVANCE if self.query is not None else ("informative",)

    def setting(self, own: Own) -> Setting:
        """It never speaks."""
        text = location(self.query, own) if self.query is not None else narration(own)
        return Setting.of(own, self.paper, self.profile, Query(text), speaks=False)

    def result(self, watched: Watched) -> Highlights:
        """The highlights, in seconds. What is worth telling is told when it is over: it is looked for before the frame."""
        times, scores = watched.times, watched.curve(self.heads)
        view = (CLIP_SECONDS / 2, CLIP_SECONDS / 2) if self.query is not None else (0.0, CLIP_SECONDS)
        least = 0.0 if self.profile == "paper" else LEAST
        top = tuple(map(watched.within, top_highlights(times, scores, self.most, view, least=least)))
        return Highlights(self.query, top, tuple(clip_saliency(times, scores, watched.duration)))


def clip_saliency(
    times: Sequence[float], scores: Sequence[float], duration: float, clip: float = CLIP_SECONDS
) -> list[float]:
    """Sum of the relevance scores of each clip's frames; int(duration / clip) clips, a tail is left out."""
    saliency = [0.0] * int(duration / clip)
    for time, score in zip(times, scores, strict=True):
        place = int(time / clip + EDGE)
        if place < len(saliency):
            saliency[place] += score
    return saliency


def top_clip(saliency: Sequence[float]) -> int:
    """The first clip of greatest saliency."""
    return max(range(len(saliency)), key=lambda i: saliency[i])


def top_highlights(
    times: Sequence[float],
    scores: Sequence[float],
    most: int,
    view: tuple[float, float] = (CLIP_SECONDS / 2, CLIP_SECONDS / 2),
    longest: float = LONGEST,
    least: float = LEAST,
) -> list[Highlight]:
    """At most ``most`` highlights, the best first; none where nothing is as salient as ``least``.

    A frame's saliency is the mean score from ``view[0]`` seconds before to ``view[1]`` after its middle. A highlight grows from
    the most salient frame that is in none yet, frame by frame to the better side, as long as it keeps ``SHARE`` of the peak's
    saliency and ``longest`` seconds suffice. No more are made of what has less than ``SHARE`` of the best one's.
    """
    saliency = list(_mean_around(times, scores, view))
    free, found = set(range(len(times))), list[Highlight]()
    while free and len(found) < most:
        peak = max(sorted(free), key=lambda k: saliency[k])
        if saliency[peak] < max(least, SHARE * found[0].score if found else 0.0) or saliency[peak] <= 0:
            break
        first, last = _grown(times, saliency, peak, free, longest)
        free -= set(range(first, last + 1))
        found.append(Highlight(times[first], until(times, last), float(saliency[peak])))
    return found


def _grown(
    times: Sequence[float], saliency: Sequence[float], peak: int, free: set[int], longest: float
) -> tuple[int, int]:
    """First and last frames of the highlight around ``peak``."""
    first = last = peak
    while True:
        sides = [k for k in (last + 1, first - 1) if k in free and saliency[k] >= SHARE * saliency[peak]]
        if not sides:
            return first, last
        side = max(sides, key=lambda k: saliency[k])
        wider = min(first, side), max(last, side)
        if until(times, wider[1]) - times[wider[0]] > longest:
            return first, last
        first, last = wider


def _mean_around(times: Sequence[float], scores: Sequence[float], view: tuple[float, float]) -> NDArray[np.float64]:
    """Mean score from ``view[0]`` seconds before each frame's middle to ``view[1]`` after it, within the video."""
    curve = np.asarray(scores, np.float64)
    edges = np.array([*times, end_of(times)])
    area = np.concatenate([[0.0], np.cumsum(curve * np.diff(edges))])  # up to each edge
    middle = (edges[:-1] + edges[1:]) / 2
    start, end = np.maximum(middle - view[0], edges[0]), np.minimum(middle + view[1], edges[-1])
    seen = np.interp(end, edges, area) - np.interp(start, edges, area)
    mean: NDArray[np.float64] = np.divide(seen, end - start, out=curve.copy(), where=end > start)
    return mean
