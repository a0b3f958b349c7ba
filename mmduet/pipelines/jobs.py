"""Job and result types for running many videos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from mmduet.errors import MmduetError, OptionError
from mmduet.events import SPEAK_POLICY, Context, Frame, Output, Query, SessionWarning
from mmduet.options import SessionOptions
from mmduet.tasks.base import RunConfig, StreamResult
from mmduet.video.damage import NO_DAMAGE, Damage
from mmduet.video.source import VideoInfo

if TYPE_CHECKING:
    from mmduet.engine.session import PreparedFrame

V = TypeVar("V")
R = TypeVar("R")
DEFAULT_MAX_CONCURRENT = 8


@dataclass(frozen=True)
class VideoJob(Generic[V]):
    """A video to run through an engine.

    ``video`` identifies the job for the caller (a path, a question) and is returned with the result. ``frames`` is called once,
    in a worker thread, when the job starts; it may yield frames that the engine has already prepared.
    """

    video: V
    options: SessionOptions
    turns: Sequence[Query | Context]
    frames: Callable[[], Iterable[Frame | PreparedFrame]]


@dataclass(frozen=True)
class VideoResult(Generic[V, R]):
    """The outcome of one video.

    Attributes:
        video: The ``video`` of the job.
        output: What the task found, such as ``Captions``. None if the session or the task failed, or if no task was run.
        stream: Scores, replies and duration. None if the session failed.
        error: The error that ended the video early, or None. With ``strict_video``, a damaged video has an error, and an
            ``output`` for the frames before the damage.
        model: The model's name.
        config: How the video was run for its task. None before the model was reached, or if no task was run.
        events: Everything that the session emitted, in order.
        damage: What of the video could not be read; ``damage.to_dict()`` is the ``damage`` of written results.
        info: The video's properties. None if it could not be opened, or if no task was run.
    """

    video: V
    output: R | None = None
    stream: StreamResult | None = None
    error: MmduetError | None = None
    model: str = ""
    config: RunConfig | None = None
    events: Sequence[Output] = ()
    damage: Damage = NO_DAMAGE
    info: VideoInfo | None = None

    @classmethod
    def from_events(
        cls, video: V, events: Sequence[Output], error: MmduetError | None = None, model: str = ""
    ) -> VideoResult[V, R]:
        """Build a result without a task from a session's outputs; a run that ended with ``error`` has no ``stream``."""
        stream = StreamResult.from_outputs(events) if error is None else None
        return cls(video, stream=stream, error=error, model=model, events=events)

    @property
    def warnings(self) -> tuple[SessionWarning, ...]:
        """What makes the result doubtful: footage of a kind that the model does not know, a policy that ignores the scores."""
        found = tuple(event for event in self.events if isinstance(event, SessionWarning))
        if self.config is None or self.stream is None or not self.stream.scores:
            return found
        reason = self.config.speak.find_extreme(len(self.stream.scores))
        if reason is None or any(warning.code == SPEAK_POLICY for warning in found):
            return found
        return (*found, SessionWarning(SPEAK_POLICY, reason, 0.0))

    def raise_for_error(self) -> None:
        """Raise ``error`` if there is one."""
        if self.error is not None:
            raise self.error


def check_max_concurrent(max_concurrent: int) -> int:
    """Return ``max_concurrent``; raise ``OptionError`` if it is less than 1."""
    if max_concurrent < 1:
        raise OptionError(f"max_concurrent must be at least 1, got {max_concurrent}")
    return max_concurrent
