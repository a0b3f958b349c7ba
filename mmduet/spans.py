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
class AnnotatedReply:
    """One annotated reply: its text, its latest time, and the span of the event that it is about.

    With ``learn`` false the reply is context, not a training target.
    """

    time: float
    text: str
    timespan: Span
    learn: bool = True


class CaptionedSpan(NamedTuple):
    """A time interval in seconds with the caption that describes it."""

    start: float
    end: float
    caption: str


@dataclass(frozen=True)
class FrameScores:
    """The relevance of one video's frames.

    ``times`` [F] are ascending, in seconds; ``relevance`` [F] is the probability that a frame matters to the query.
    """

    times: Sequence[float]
    relevance: Sequence[float]
