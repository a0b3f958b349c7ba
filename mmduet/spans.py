"""Time intervals and per-frame scores: plain values shared by annotations, metrics, tasks and plots."""

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
    """An annotated reply: its text, the latest time for it, and the span of the event that it describes.

    If ``learn`` is false, the reply is context and not a training target.
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
    """The relevance scores of one video's frames.

    ``times`` [F] are ascending, in seconds; ``relevance`` [F] is the probability that a frame is relevant to the query.
    """

    times: Sequence[float]
    relevance: Sequence[float]
