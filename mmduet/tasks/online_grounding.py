"""Temporal grounding while the video plays: each frame is decided on with what has been seen until then; no model, no video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

from mmduet.errors import OptionError
from mmduet.events import Output, Query, Scores
from mmduet.options import Profile
from mmduet.tasks.base import Own, Setting, Stretch, Watched, end_of
from mmduet.tasks.grounding import RELEVANCE, TemporalGrounding
from mmduet.tasks.prompts import location


@dataclass(frozen=True)
class Hysteresis:
    """A span begins where relevance rises above ``low`` on its way to above ``high``, and ends where it falls to ``low`` and
    stays there for ``patience`` seconds."""

    high: float = 0.6
    low: float = 0.4
    patience: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what could never begin or never end."""
        if not (0 <= self.low <= self.high < 1 and self.patience >= 0):
            raise OptionError(
                f"high {self.high}, low {self.low}, patience {self.patience}: use 0 <= low <= high < 1, and seconds from 0 up"
            )

    @classmethod
    def around(cls, threshold: float) -> Hysteresis:
        """A tenth above and below, as far as there is room."""
        return cls(min(threshold + 0.1, 0.99), max(threshold - 0.1, 0.0))


@dataclass(frozen=True)
class SpanStarted:
    """Sure at ``told`` that what was asked for is there, since ``start``."""

    start: float
    told: float


@dataclass(frozen=True)
class SpanEnded:
    """Sure at ``told`` that what was there from ``start`` was gone at ``end``."""

    start: float
    end: float
    told: float


@dataclass(frozen=True)
class OnlineSpan(Stretch):
    """A span, and when its start and its end were told; ``end_told`` is the video's end where it had not ended before."""

    start_told: float
    end_told: float


@dataclass(frozen=True)
class OnlineGrounded:
    """The spans a query is about, in order, as they were told while the video played."""

    query: str
    spans: tuple[OnlineSpan, ...]


@dataclass(frozen=True)
class State:
    """What is remembered between frames."""

    start: float | None = None  # of the span that has begun, or may have
    sure: bool = False
    gone: float | None = None  # since when relevance has been low


def decide(
    options: Hysteresis, state: State, time: float, relevance: float
) -> tuple[State, SpanStarted | SpanEnded | None]:
    """What a frame changes, and what is to be told of it; a pure function of what has been seen."""
    if relevance > options.low:
        start = time if state.start is None else state.start
        sure = state.sure or relevance > options.high
        told = SpanStarted(start, time) if sure and not state.sure else None
        return State(start, sure), told
    if not state.sure or state.start is None:
        return State(), None
    gone = time if state.gone is None else state.gone
    if time - gone < options.patience:
        return replace(state, gone=gone), None
    return State(), SpanEnded(state.start, gone, time)


def follow(outputs: Iterable[Output], options: Hysteresis | None = None) -> Iterator[SpanStarted | SpanEnded]:
    """Starts and ends as a stream's outputs come, each as soon as it is sure; what is still there at the end ends there."""
    options, state = options or Hysteresis(), State()
    times: list[float] = []  # of the two latest frames
    for output in outputs:
        if isinstance(output, Scores):
            times = [*times[-1:], output.time]
            state, told = decide(options, state, output.time, output.relevance)
            if told is not None:
                yield told
    if state.sure and state.start is not None:
        end = end_of(times)
        yield SpanEnded(state.start, end if state.gone is None else state.gone, end)


@dataclass(frozen=True)
class OnlineGrounding:
    """As ``TemporalGrounding``, but told while the video plays: by when was it known?

    Under ``paper`` a frame's relevance counts as it lies between the lowest and the highest until then.
    """

    query: str
    options: Hysteresis = field(default_factory=Hysteresis)
    profile: Profile = "fixed"

    name: ClassVar[str] = "online grounding"
    heads: ClassVar[tuple[str, ...]] = RELEVANCE

    def setting(self, own: Own) -> Setting:
        """It never speaks; only relevance counts."""
        query = Query(location(self.query, own))
        return Setting.of(own, TemporalGrounding.paper, self.profile, query, speaks=False)

    def result(self, watched: Watched) -> OnlineGrounded:
        """The spans as they were told; of a frame only those before it are known, here as well."""
        scores = stretched_so_far(watched.scores) if self.profile == "paper" else watched.scores
        told = list(follow(scores, self.options))
        began = {event.start: event.told for event in told if isinstance(event, SpanStarted)}
        ended = [event for event in told if isinstance(event, SpanEnded)]
        spans = [OnlineSpan(event.start, event.end, began[event.start], event.told) for event in ended]
        return OnlineGrounded(self.query, tuple(_until_the_end(watched, span) for span in spans))


def stretched_so_far(scores: Iterable[Scores]) -> Iterator[Scores]:
    """Relevance as its place between the lowest, 0, and the highest, 1, until then; 0 as long as none differs."""
    low, high = float("inf"), float("-inf")
    for score in scores:
        low, high = min(low, score.relevance), max(high, score.relevance)
        yield replace(score, relevance=(score.relevance - low) / (high - low) if high > low else 0.0)


def _until_the_end(watched: Watched, span: OnlineSpan) -> OnlineSpan:
    """The span, told by the end of the video at the latest."""
    span = watched.within(span)
    return replace(span, end_told=max(min(span.end_told, watched.duration), span.end, span.start_told))
