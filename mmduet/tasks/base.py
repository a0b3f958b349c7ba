"""Types that all tasks share: a model's defaults, the configuration of a run, its result, and the task protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from mmduet.events import Output, Query, QueryRead, Reply, Scores, SessionFailed
from mmduet.options import Profile, SpeakOptions

R_co = TypeVar("R_co", covariant=True)
TIME_TOLERANCE = 1e-6  # seconds


@dataclass(frozen=True)
class ModelDefaults:
    """Recommended frame rate, query and speak policy of a model; ``query`` is "" if the model has no query of its own."""

    fps: float
    query: str
    speak: SpeakOptions


@dataclass(frozen=True)
class PaperConfig:
    """How MMDuet's paper ran a task (docs/duet_format.md, section 4)."""

    fps: float
    max_frames: int
    speak: SpeakOptions
    max_new_tokens: int = 200


@dataclass(frozen=True)
class RunConfig:
    """How a video is run for a task: queries, frame rate, speak policy and limits.

    ``max_frames`` None processes the whole video; ``max_new_tokens`` None (per reply) uses the model's default.
    """

    queries: tuple[Query, ...]
    fps: float
    speak: SpeakOptions
    profile: Profile = "fixed"
    max_frames: int | None = None
    max_new_tokens: int | None = None

    @classmethod
    def from_defaults(
        cls, defaults: ModelDefaults, paper: PaperConfig, profile: Profile, *queries: Query, can_speak: bool = True
    ) -> RunConfig:
        """Build the configuration for ``profile``: ``paper``'s values, or else the model's defaults.

        With ``can_speak`` false the model never replies; only its scores are used.
        """
        if profile == "paper":
            return cls(queries, paper.fps, paper.speak, profile, paper.max_frames, paper.max_new_tokens)
        return cls(queries, defaults.fps, defaults.speak if can_speak else paper.speak)

    def with_overrides(self, fps: float | None = None, speak: str | None = None) -> RunConfig:
        """Return the configuration with another frame rate and speak policy (``sum:2``), where they are given."""
        return replace(self, fps=self.fps if fps is None else fps, speak=self.speak.with_overrides(speak, None))

    def to_duet_settings(self) -> dict[str, Any]:
        """Return the ``duet`` argument for ``RemoteStream.update``; ``fps`` is None because the client samples frames."""
        unbounded = {"window": None} if self.profile == "paper" else {}
        return {"fps": None, "speak": self.speak.to_dict(), "profile": self.profile, **unbounded}


@dataclass(frozen=True)
class StreamResult:
    """Scores and replies of one video, in order of time; ``duration`` in seconds is the end of the last frame.

    A reply to a query that came after the last frame has the query's time, but at most that of the video's end.
    ``last_frame_end`` is the end of the last frame in seconds if it is known, for example that of a still picture at the end.
    """

    scores: tuple[Scores, ...]
    replies: tuple[Reply, ...]
    duration: float
    last_frame_end: float | None = None

    @classmethod
    def from_outputs(
        cls, outputs: Iterable[Output], duration: float | None = None, last_frame_end: float | None = None
    ) -> StreamResult:
        """Collect a session's outputs; ``duration`` None is computed from the frames' times.

        Raises:
            EngineError: the session failed; the error has the code and exit status of the failure.
        """
        scores: list[Scores] = []
        replies: list[Reply] = []
        query_times: list[float] = []
        for output in outputs:
            if isinstance(output, Scores):
                scores.append(output)
            elif isinstance(output, QueryRead):
                query_times.append(output.query.time)
            elif isinstance(output, Reply):
                asked = min(max(query_times, default=0.0), _end(scores, duration))
                replies.append(replace(output, time=max(output.time, asked)))
            elif isinstance(output, SessionFailed):
                raise output.as_error()
        times = [score.time for score in scores]
        duration = stream_end(times) if duration is None else duration
        return cls(tuple(scores), tuple(replies), duration, last_frame_end)

    @property
    def times(self) -> list[float]:
        """The time of every frame, in seconds."""
        return [score.time for score in self.scores]

    def clip_end(self, start: float, end: float) -> float:
        """Return ``end``, but not after the end of the video nor before ``start``.

        An interval that includes the last frame ends with it, if its end is known. In a video of a single frame it ends with
        the video.
        """
        if self.last_frame_end is not None and end >= stream_end(self.times) - TIME_TOLERANCE:
            end = self.last_frame_end
        last = self.duration if len(self.scores) == 1 else min(end, self.duration)
        return max(last, start)

    def mean_scores(self, heads: Sequence[str]) -> list[float]:
        """Return the mean of the scores of ``heads`` for every frame."""
        return [sum(float(getattr(score, head)) for head in heads) / len(heads) for score in self.scores]


def _end(scores: Sequence[Scores], duration: float | None) -> float:
    """Return the end of the video in seconds, as far as it is known."""
    return max(duration or 0.0, stream_end([score.time for score in scores[-2:]]))


class TaskResult(Protocol):
    """The result of a task: a frozen dataclass that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values, under the names that ``--output`` writes."""
        ...


class Task(Protocol[R_co]):
    """Protocol of a task: how a video is run for it, and how its result is derived from the scores and replies."""

    @property
    def name(self) -> str:
        """The task's name for display."""
        ...

    @property
    def heads(self) -> tuple[str, ...]:
        """The score heads that the task uses."""
        ...

    def run_config(self, defaults: ModelDefaults) -> RunConfig:
        """Return the configuration of a run with a model that has these defaults."""
        ...

    def result(self, stream: StreamResult) -> R_co:
        """Return the result; times are in seconds."""
        ...


def frame_end(times: Sequence[float], k: int) -> float:
    """Return when frame ``k`` ends: at the next frame's time; the last frame lasts as long as the one before it."""
    if k + 1 < len(times):
        return times[k + 1]
    return times[k] + (times[k] - times[k - 1] if k else 0.0)


def stream_end(times: Sequence[float]) -> float:
    """Return when the last frame ends, or 0 if there are no frames."""
    return frame_end(times, len(times) - 1) if times else 0.0
