"""Intervals of time and per-frame scores: plain values shared by annotations, metrics, tasks and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Span(NamedTuple):
    """A time interval in seconds."""

    start: float
    end: float


class ScoredSpan(NamedTuple):
    """A time interval in seconds with a score."""

    start: float
    end: float
    score: float


@dataclass(frozen=True)
class FrameScores:
    """The relevance of one video's frames.

    ``times`` [F] are ascending, in seconds; ``relevance`` [F] is the probability that a frame matters to the query.
    """

    times: Sequence[float]
    relevance: Sequence[float]
