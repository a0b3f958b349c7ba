"""What tasks share: the stream they run on, here or at a server, and how one is watched to its end; no model, no sockets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, TypeVar

from mmduet.errors import SessionClosedError
from mmduet.events import Context, Frame, Output, Query, QueryRead, Reply, Scores, SessionFailed
from mmduet.options import Profile, SpeakOptions

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")
S = TypeVar("S", bound="Stretch")


class Stream(Protocol):
    """A session as its owner sees it: ``engine.Stream`` and ``client.RemoteStream`` are such, as they are."""

    def push(self, item: Frame | Query | Context) -> None: ...
    def end(self) -> None: ...
    def outputs(self) -> Iterator[Output]: ...


@dataclass(frozen=True)
class Own:
    """What a model is best run with, as its description or its server tells; ``query`` is "" where it has none of its own."""

    fps: float
    query: str
    speak: SpeakOptions


@dataclass(frozen=True)
class Paper:
    """How MMDuet's paper ran a task (docs/duet_format.md, section 4)."""

    fps: float
    max_frames: int
    speak: SpeakOptions
    max_new_tokens: int = 200


@dataclass(frozen=True)
class Setting:
    """How a task has a video watched: what is asked, at what rate, for how many frames, and when the model is to speak."""

    queries: tuple[Query, ...]
    fps: float
    speak: SpeakOptions
    profile: Profile = "fixed"
    max_frames: int | None = None  # None: to the end
    max_new_tokens: int | None = None  # of a reply; None: as many as the model is best run with

    @classmethod
    def of(cls, own: Own, paper: Paper, profile: Profile, *queries: Query, speaks: bool = True) -> Setting:
        """As the model is best run, or as the ``paper`` ran the task; a task that is about scores alone ``speaks`` not."""
        if profile == "paper":
            return cls(queries, paper.fps, paper.speak, profile, paper.max_frames, paper.max_new_tokens)
        return cls(queries, own.fps, own.speak if speaks else paper.speak)

    def duet(self) -> dict[str, Any]:
        """As ``RemoteStream.update(duet=...)`` takes it; frames are sampled by who sends them."""
        unbounded = {"window": None} if self.profile == "paper" else {}
        return {"fps": None, "speak": asdict(self.speak), "profile": self.profile, **unbounded}


@dataclass(frozen=True)
class Stretch:
    """Seconds of a video, from ``start`` to ``end``."""

    start: float
    end: float


@dataclass(frozen=True)
class Watched:
    """All that was said of a video: a score per frame, the replies, and ``duration``, seconds to the end of its last frame.

    A reply given at the end to a query that came after the last frame stands at that query's time, not before it.
    """

    scores: tuple[Scores, ...]
    replies: tuple[Reply, ...]
    duration: float

    @classmethod
    def of(cls, outputs: Iterable[Output], duration: float | None = None) -> Watched:
        """From a session's outputs; raises the error of one that failed. ``duration`` None: as long as the frames tell."""
        scores: list[Scores] = []
        replies: list[Reply] = []
        asked: list[float] = []  # times of the queries read so far
        for output in outputs:
            if isinstance(output, Scores):
                scores.append(output)
            elif isinstance(output, QueryRead):
                asked.append(output.query.time)
            elif isinstance(output, Reply):
                replies.append(replace(output, time=max(output.time, *asked)) if asked else output)
            elif isinstance(output, SessionFailed):
                raise output.as_error()
        times = [score.time for score in scores]
        return cls(tuple(scores), tuple(replies), end_of(times) if duration is None else duration)

    @property
    def times(self) -> list[float]:
        """When each frame was shown."""
        return [score.time for score in self.scores]

    def within(self, stretch: S) -> S:
        """The stretch, if it would outlast the video, ended with it; the only frame of a video stands as long as that lasts."""
        alone = len(self.scores) == 1
        end = self.duration if alone else min(stretch.end, self.duration)
        return replace(stretch, end=max(end, stretch.start))

    def curve(self, heads: Sequence[str]) -> list[float]:
        """The mean of ``heads`` over the frames."""
        return [sum(float(getattr(score, head)) for head in heads) / len(heads) for score in self.scores]


class Task(Protocol[R_co]):
    """What is to be found out about a video: how it is watched, and what is made of what was said."""

    @property
    def name(self) -> str:
        """In words, for people."""
        ...

    @property
    def heads(self) -> tuple[str, ...]:
        """The scores that it looks at."""
        ...

    def setting(self, own: Own) -> Setting:
        """How a model that is best run as ``own`` says is to watch."""
        ...

    def result(self, watched: Watched) -> R_co:
        """What was found, times in seconds."""
        ...


def run(task: Task[R], setting: Setting, stream: Stream, frames: Iterable[Frame], duration: float | None = None) -> R:
    """Watch ``frames`` on a stream that was opened for the task's ``setting``; raises what ended it early."""
    return task.result(Watched.of(watch(stream, frames, setting.queries), duration))


def watch(stream: Stream, frames: Iterable[Frame], turns: Sequence[Query | Context] = ()) -> Iterator[Output]:
    """Push everything, then tell what was said: a stream says no more than its input allows, so none of it is read before."""
    try:
        for item in interleaved(frames, turns):
            stream.push(item)
        stream.end()
    except SessionClosedError:
        pass  # why is told by its outputs
    yield from stream.outputs()


def interleaved(frames: Iterable[Frame], turns: Sequence[Query | Context]) -> Iterator[Frame | Query | Context]:
    """Each turn before the first frame at or after its time, the rest after the last frame."""
    waiting = sorted(turns, key=lambda turn: turn.time)
    for frame in frames:
        while waiting and waiting[0].time <= frame.time:
            yield waiting.pop(0)
        yield frame
    yield from waiting


def until(times: Sequence[float], k: int) -> float:
    """When frame ``k`` gives way to the next; the last one lasts as long as the one before it."""
    if k + 1 < len(times):
        return times[k + 1]
    return times[k] + (times[k] - times[k - 1] if k else 0.0)


def end_of(times: Sequence[float]) -> float:
    """When the last frame gives way; 0 where there is none."""
    return until(times, len(times) - 1) if times else 0.0
