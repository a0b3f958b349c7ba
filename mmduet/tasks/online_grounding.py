"""Online temporal grounding: spans are decided while the video plays, from the frames received so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from mmduet.errors import OptionError
from mmduet.events import Output, Query, Scores
from mmduet.options import Profile
from mmduet.tasks.base import ModelDefaults, RunConfig, StreamResult, stream_end
from mmduet.tasks.grounding import RELEVANCE_HEADS, TemporalGrounding
from mmduet.tasks.prompts import grounding_query


@dataclass(frozen=True)
class Hysteresis:
    """Thresholds for a span's start and end.

    A span starts where relevance rises above ``low``, provided that it then exceeds ``high`` without falling back. It ends
    where relevance falls to ``low`` and stays there for ``patience_seconds``.

    Raises:
        OptionError: the thresholds are not ordered, or no span could ever start or end.
    """

    high: float = 0.6
    low: float = 0.4
    patience_seconds: float = 1.0

    def __post_init__(self) -> None:
        """Check the thresholds."""
        if not (0 <= self.low <= self.high < 1 and self.patience_seconds >= 0):
            raise OptionError(
                f"thresholds must satisfy 0 <= low <= high < 1 and patience_seconds must be at least 0, "
                f"got high {self.high}, low {self.low}, patience_seconds {self.patience_seconds}"
            )

    @classmethod
    def from_threshold(cls, threshold: float) -> Hysteresis:
        """Build thresholds 0.1 above and below ``threshold``, within the valid range."""
        return cls(min(threshold + 0.1, 0.99), max(threshold - 0.1, 0.0))


@dataclass(frozen=True)
class SpanStarted:
    """Decided at ``time``: a span began at ``start``."""

    start: float
    time: float


@dataclass(frozen=True)
class SpanEnded:
    """Decided at ``time``: the span that began at ``start`` ended at ``end``."""

    start: float
    end: float
    time: float


@dataclass(frozen=True)
class OnlineSpan:
    """A span and the times at which its start and its end were decided.

    A span that reaches the end of the video is decided there.
    """

    start: float
    end: float
    start_decided: float
    end_decided: float

    def to_dict(self) -> dict[str, float]:
        """Return the span as JSON values."""
        return {
            "start": self.start,
            "end": self.end,
            "start_told": self.start_decided,
            "end_told": self.end_decided,
        }


@dataclass(frozen=True)
class OnlineGroundingResult:
    """The spans that a query is about, in order of time."""

    query: str
    spans: tuple[OnlineSpan, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values, under the names that ``--output`` writes."""
        return {"query": self.query, "spans": [span.to_dict() for span in self.spans]}


@dataclass(frozen=True)
class HysteresisState:
    """State between two frames.

    ``start`` is the start of the span that is open or may open; ``confirmed`` is whether relevance has exceeded ``high`` since.
    ``low_since`` is when relevance fell to ``low``, or None while it is above.
    """

    start: float | None = None
    confirmed: bool = False
    low_since: float | None = None


def update_state(
    options: Hysteresis, state: HysteresisState, time: float, relevance: float
) -> tuple[HysteresisState, SpanStarted | SpanEnded | None]:
    """Return the state after a frame, and what was decided at it. A pure function of the frames so far."""
    if relevance > options.low:
        start = time if state.start is None else state.start
        confirmed = state.confirmed or relevance > options.high
        started = SpanStarted(start, time) if confirmed and not state.confirmed else None
        return HysteresisState(start, confirmed), started
    if not state.confirmed or state.start is None:
        return HysteresisState(), None
    low_since = time if state.low_since is None else state.low_since
    if time - low_since < options.patience_seconds:
        return replace(state, low_since=low_since), None
    return HysteresisState(), SpanEnded(state.start, low_since, time)


def detect_spans(outputs: Iterable[Output], options: Hysteresis | None = None) -> Iterator[SpanStarted | SpanEnded]:
    """Yield starts and ends as soon as they are decided; a span that is open after the last output ends there."""
    options, state = options or Hysteresis(), HysteresisState()
    times: list[float] = []  # of the two latest frames
    for output in outputs:
        if isinstance(output, Scores):
            times = [*times[-1:], output.time]
            state, decided = update_state(options, state, output.time, output.relevance)
            if decided is not None:
                yield decided
    if state.confirmed and state.start is not None:
        end = stream_end(times)
        yield SpanEnded(state.start, end if state.low_since is None else state.low_since, end)


@dataclass(frozen=True)
class OnlineGrounding:
    """Find the spans that ``query`` is about while the video plays, and when each was decided.

    Under ``paper`` a frame's relevance is rescaled to the minimum and maximum of the frames so far.
    """

    query: str
    hysteresis: Hysteresis = field(default_factory=Hysteresis)
    profile: Profile = "fixed"

    name: ClassVar[str] = "online grounding"
    heads: ClassVar[tuple[str, ...]] = RELEVANCE_HEADS

    def run_config(self, defaults: ModelDefaults) -> RunConfig:
        """Return a configuration in which the model is silent; only relevance is used."""
        query = Query(grounding_query(self.query, defaults))
        return RunConfig.from_defaults(defaults, TemporalGrounding.paper, self.profile, query, can_speak=False)

    def result(self, stream: StreamResult) -> OnlineGroundingResult:
        """Return the spans; each decision uses only the frames before it."""
        scores = rescale_running_min_max(stream.scores) if self.profile == "paper" else stream.scores
        decisions = list(detect_spans(scores, self.hysteresis))
        started = {event.start: event.time for event in decisions if isinstance(event, SpanStarted)}
        ended = [event for event in decisions if isinstance(event, SpanEnded)]
        spans = [OnlineSpan(event.start, event.end, started[event.start], event.time) for event in ended]
        return OnlineGroundingResult(self.query, tuple(_clip_to_stream(stream, span) for span in spans))


def rescale_running_min_max(scores: Iterable[Scores]) -> Iterator[Scores]:
    """Map relevance so that the lowest score so far is 0 and the highest is 1; 0 while all scores are equal."""
    low, high = float("inf"), float("-inf")
    for score in scores:
        low, high = min(low, score.relevance), max(high, score.relevance)
        yield replace(score, relevance=(score.relevance - low) / (high - low) if high > low else 0.0)


def _clip_to_stream(stream: StreamResult, span: OnlineSpan) -> OnlineSpan:
    """Return the span with its end, and the time at which the end was decided, no later than the end of the video."""
    end = stream.clip_end(span.start, span.end)
    end_decided = max(min(span.end_decided, stream.duration), end, span.start_decided)
    return replace(span, end=end, end_decided=end_decided)
