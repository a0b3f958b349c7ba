"""Job and result types for running many videos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from mmduet.errors import MmduetError, OptionError
from mmduet.events import Context, Frame, Output, Query
from mmduet.options import SessionOptions
from mmduet.tasks.base import StreamResult

if TYPE_CHECKING:
    from mmduet.engine.session import PreparedFrame

V = TypeVar("V")
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
class VideoResult(Generic[V]):
    """The outcome of one video.

    ``stream`` holds scores, replies and duration, None if the run failed. ``error`` ended the run early, or None. ``model`` is
    the name of the model, ``events`` everything that the session emitted, in order.
    """

    video: V
    stream: StreamResult | None = None
    error: MmduetError | None = None
    model: str = ""
    events: Sequence[Output] = ()

    @classmethod
    def from_events(
        cls, video: V, events: Sequence[Output], error: MmduetError | None = None, model: str = ""
    ) -> VideoResult[V]:
        """Build a result from a session's outputs; a run that ended with ``error`` has no ``stream``."""
        stream = StreamResult.from_outputs(events) if error is None else None
        return cls(video, stream, error, model=model, events=events)

    def raise_for_error(self) -> None:
        """Raise ``error`` if there is one."""
        if self.error is not None:
            raise self.error


def check_max_concurrent(max_concurrent: int) -> int:
    """Return ``max_concurrent``; raise ``OptionError`` if it is less than 1."""
    if max_concurrent < 1:
        raise OptionError(f"max_concurrent must be at least 1, got {max_concurrent}")
    return max_concurrent
